"""What masks and fills cost for each image, beside the usual libraries that hide as much."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from maskrobust.augment import Batch, FillName, apply_fill, patches, sample_keys
from maskrobust.augment.families import FamilyName, MaskFamily, build_family
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.train.bench.sparse_imputation import impute_by_sparse_solve
from maskrobust.train.bench.timing import alternate

IMAGE_SIZE = 224
HIDDEN = 0.25
"""Share of the image that every method hides: what GridDropout hides by default."""
FAMILIES: tuple[FamilyName, ...] = ("patches", "rectangles", "blobs")
LAID_OUT: tuple[FillName, ...] = ("black", "mean", "image_mean", "random_colour", "uniform_noise", "gaussian_noise")
IMPUTATION = "linear imputation"

_CPU = torch.device("cpu")


class Case(NamedTuple):
    """One way to do a task.

    Attributes:
        task: "mask", "mask and black fill", "fill" or `IMPUTATION`.
        method: a mask family or a fill of this project, or the library's own name.
        pixels: "uint8" or "float32", in channels-last format where it says so; "none" where only the mask is drawn.
        device: where it runs.
        function: does it for all images of a batch, and returns them.
    """

    task: str
    method: str
    pixels: str
    device: torch.device
    function: Callable[[], Any]


def measure_augment(
    batch: int, imputed: int, rounds: int, device: torch.device, families: Sequence[FamilyName] = FAMILIES
) -> Iterator[dict[str, Any]]:
    """One row for each method, those of one task in alternating runs.

    Args:
        batch: images in a batch.
        imputed: images in a batch of linear imputation, which takes longer.
        rounds: alternating runs behind each median.
        device: what is measured; libraries that know only the CPU stay there.
        families: of this project.

    Yields:
        task, method, pixels, device, images in the batch, and microseconds for each image: the median over rounds.
    """
    of_a_batch = [
        *own_masks(batch, device, families),
        *own_fills(batch, device, families),
        *others(batch, device),
        *memory(batch, device),
        *layouts(batch, device),
    ]
    by_task: dict[str, list[Case]] = {}
    for case in (*of_a_batch, *imputation(imputed, device)):
        by_task.setdefault(case.task, []).append(case)
    for task, cases in by_task.items():
        images = imputed if task == IMPUTATION else batch
        seconds = alternate({str(place): case.function for place, case in enumerate(cases)}, rounds, device)
        for place, case in enumerate(cases):
            yield {
                "task": task,
                "method": case.method,
                "pixels": case.pixels,
                "device": case.device.type,
                "images": images,
                "microseconds": median(seconds[str(place)]) / images * 1e6,
            }


def _make_batch(size: int, device: torch.device, dtype: torch.dtype) -> Batch:
    """Random images; an object mask and labels that no family of this benchmark looks at."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator, dtype=torch.uint8)
    nothing = torch.zeros(size, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    ids = torch.arange(size)
    batch = Batch(ids, images, nothing, ids).to(device)
    return batch._replace(images=images.to(device)) if dtype == torch.uint8 else batch


def own_masks(size: int, device: torch.device, families: Sequence[FamilyName]) -> Iterator[Case]:
    """The mask alone."""
    batch = _make_batch(size, device, torch.float32)
    keys = sample_keys(0, batch.ids)
    for name in families:
        family = build_family(name, hidden_fraction=(HIDDEN, HIDDEN))
        yield Case("mask", name, "none", device, partial(family, keys, batch))


def own_fills(size: int, device: torch.device, families: Sequence[FamilyName]) -> Iterator[Case]:
    """Mask and black fill, on both kinds of pixels."""
    for dtype in (torch.uint8, torch.float32):
        batch = _make_batch(size, device, dtype)
        keys = sample_keys(0, batch.ids)
        for name in families:
            family = build_family(name, hidden_fraction=(HIDDEN, HIDDEN))
            work = partial(_mask_and_fill, family, keys, batch)
            yield Case("mask and black fill", name, str(dtype).removeprefix("torch."), device, work)


def _mask_and_fill(family: MaskFamily, keys: Tensor, batch: Batch) -> Tensor:
    return apply_fill("black", batch.images, family(keys, batch), keys=keys, mean=IMAGENET_MEAN)


def others(size: int, device: torch.device) -> Iterator[Case]:
    """albumentations, with this project's own transform in it, on uint8 arrays; torchvision on float tensors."""
    from maskrobust.augment.transforms import HideRegions  # isort: skip  # first, for it keeps albumentations off the network
    import albumentations

    task = "mask and black fill"
    side = HIDDEN**0.5
    arrays = list(_make_batch(size, _CPU, torch.uint8).images.permute(0, 2, 3, 1).contiguous().numpy())
    dropouts = {
        "albumentations CoarseDropout": albumentations.CoarseDropout((1, 1), (side, side), (side, side), p=1.0),
        "albumentations GridDropout": albumentations.GridDropout(ratio=side, p=1.0),
        "HideRegions patches, one by one": HideRegions("patches", hidden_fraction=(HIDDEN, HIDDEN), p=1.0),
    }
    for name, transform in dropouts.items():
        transform.add_targets({"visible": "mask"})
        yield Case(task, name, "uint8", _CPU, partial(_one_by_one, partial(_call_with_image, transform), arrays))
    erasing = v2.RandomErasing(p=1.0, scale=(HIDDEN, HIDDEN), ratio=(0.5, 2.0))
    tensors = list(_make_batch(size, device, torch.float32).images)
    yield Case(task, "torchvision RandomErasing", "float32", device, partial(_one_by_one, erasing, tensors))


def memory(size: int, device: torch.device) -> Iterator[Case]:
    """What no method can be faster than: a mask written once, and images copied."""
    batch = _make_batch(size, device, torch.float32)
    yield Case("mask", "memory, written once", "none", device, partial(torch.ones_like, batch.object_mask))
    for images in (_make_batch(size, device, torch.uint8).images, batch.images):
        pixels = str(images.dtype).removeprefix("torch.")
        yield Case("mask and black fill", "memory, copied", pixels, device, images.clone)


def layouts(size: int, device: torch.device) -> Iterator[Case]:
    """The fills alone, in both memory formats; not those that take milliseconds for an image."""
    for dtype in (torch.uint8, torch.float32):
        batch = _make_batch(size, device, dtype)
        keys = sample_keys(0, batch.ids)
        visible = patches(keys, IMAGE_SIZE, IMAGE_SIZE, hidden_fraction=(HIDDEN, HIDDEN), patch_size=16)
        for name, layout in product(LAID_OUT, (torch.contiguous_format, torch.channels_last)):
            images = batch.images.contiguous(memory_format=layout)
            pixels = str(dtype).removeprefix("torch.") + ", channels last" * (layout == torch.channels_last)
            work = partial(apply_fill, name, images, visible, keys=keys, mean=IMAGENET_MEAN)
            yield Case("fill", name, pixels, device, work)


def imputation(size: int, device: torch.device) -> Iterator[Case]:
    """Half of the patches imputed, a batch at once and image by image."""
    batch = _make_batch(size, device, torch.float32)
    keys = sample_keys(0, batch.ids)
    visible = patches(keys, IMAGE_SIZE, IMAGE_SIZE, hidden_fraction=(0.5, 0.5), patch_size=16)
    impute = partial(apply_fill, "linear_imputation", batch.images, visible, keys=keys, mean=IMAGENET_MEAN)
    yield Case(IMPUTATION, "linear_imputation", "float32", device, impute)
    pairs = list(zip(batch.images.double().cpu().numpy(), visible[:, 0].cpu().numpy(), strict=True))
    solve = partial(_one_by_one, _impute_pair, pairs)
    yield Case(IMPUTATION, "SciPy sparse solver, image by image", "float64", _CPU, solve)


def _call_with_image(transform: Callable[..., Any], image: NDArray[np.uint8]) -> object:
    return transform(image=image)


def _impute_pair(image_and_visible: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> object:
    return impute_by_sparse_solve(*image_and_visible)


def _one_by_one(function: Callable[[Any], object], images: Sequence[Any]) -> list[object]:
    return [function(image) for image in images]
