"""What feeding a network costs: masks and fills beside the usual libraries, shards beside bare WebDataset."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor
from webdataset.compat import WebDataset

from maskrobust.augment import Batch, FamilyName, FillName, MaskFamily, apply_fill, build_family, patches, sample_keys
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.train.data import Shards
from maskrobust.train.data.base import EncodedSample, encode_png
from maskrobust.train.data.loading import Loader
from maskrobust.train.data.shards.format import shard_name, write_shard
from maskrobust.train.data.shards.manifest import MANIFEST, Manifest, SplitRecord
from maskrobust.train.running.processes import find_device
from maskrobust.train.storage.files import write_json
from timing import JSON, Row, alternate, median_ratio, report

IMAGE_SIZE = 224
HIDDEN = 0.25
"""Fraction of the image that every method hides: what GridDropout hides by default."""
FAMILIES: tuple[FamilyName, ...] = ("patches", "rectangles", "blobs")
FILLS: tuple[FillName, ...] = ("black", "mean", "image_mean", "random_colour", "uniform_noise", "gaussian_noise")
"""Not those that take milliseconds for an image."""

_CPU = torch.device("cpu")
_PIXELS = ("uint8", "float32")
_HEIGHT, _WIDTH = 375, 500  # the most frequent size in ImageNet
_SHARDS = 4
_SHUFFLE_BUFFER = 100


class Case(NamedTuple):
    """One way to do a task.

    Attributes:
        method: a mask family or a fill of this project, or the library's own name.
        pixels: "uint8" or "float32", in channels-last format where it says so; "none" where only the mask is drawn.
        function: does it for all images of a batch, and returns them.
    """

    method: str
    pixels: str
    function: Callable[[], Any]


def feeding(
    batch: int = 32,
    loaded: int = 512,
    loaded_batch: int = 64,
    workers: int = 2,
    rounds: int = 7,
    device: str | None = None,
    json: Path = JSON,
) -> None:
    """What masks, fills and loading from shards cost for each image of 224 x 224.

    A row has task, method, pixels, microseconds for each image (median over rounds), and time over that of the task's
    first method, in the same rounds: for masks and fills memory written or copied once, for loading WebDataset's own
    pipeline with torchvision's decoder, on random crops of photographs of 375 x 500.

    Args:
        batch: images in a batch of masks and fills.
        loaded: images that a run loads, at least loaded_batch; rounded down to whole batches.
        loaded_batch: images in a loaded batch.
        workers: loader processes.
        rounds: alternating runs behind each number.
        device: of masks and fills, by default cuda where there is one; libraries that know only the CPU stay there.
        json: file for the numbers.
    """
    place = find_device(device)
    tasks = {"mask": masks, "mask and black fill": masks_and_fills, "fill": fills}
    rows = [
        row for task, cases in tasks.items() for row in _measure(task, list(cases(batch, place)), batch, rounds, place)
    ]
    with tempfile.TemporaryDirectory() as folder:
        cases = list(loaders(Path(folder), loaded, loaded_batch, workers))
        rows += _measure("loading", cases, loaded // loaded_batch * loaded_batch, rounds, _CPU)
    report("feeding", rows, place, json, batch=batch, loaded_batch=loaded_batch, workers=workers)


def _measure(task: str, cases: Sequence[Case], images: int, rounds: int, device: torch.device) -> Iterator[Row]:
    """One row for each case, all in alternating runs."""
    seconds = alternate({str(place): case.function for place, case in enumerate(cases)}, rounds, device)
    for place, case in enumerate(cases):
        times = seconds[str(place)]
        yield {
            "task": task,
            "method": case.method,
            "pixels": case.pixels,
            "microseconds": median(times) / images * 1e6,
            "time": median_ratio(times, seconds["0"]),
        }


def _make_batch(size: int, device: torch.device, pixels: str) -> Batch:
    """Random images; an object mask and labels that no family of this benchmark looks at."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator, dtype=torch.uint8)
    nothing = torch.zeros(size, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    ids = torch.arange(size)
    batch = Batch(ids, images, nothing, ids).to(device)
    return batch._replace(images=images.to(device)) if pixels == "uint8" else batch


def masks(size: int, device: torch.device) -> Iterator[Case]:
    """The mask alone; a mask written once is what none can be faster than."""
    batch = _make_batch(size, device, "float32")
    keys = sample_keys(0, batch.ids)
    yield Case("memory, written once", "none", partial(torch.ones_like, batch.object_mask))
    for name in FAMILIES:
        family = build_family(name, hidden_fraction=(HIDDEN, HIDDEN))
        yield Case(name, "none", partial(family, keys, batch))


def masks_and_fills(size: int, device: torch.device) -> Iterator[Case]:
    """Mask and black fill, on both kinds of pixels, beside what other libraries have."""
    for pixels in _PIXELS:
        batch = _make_batch(size, device, pixels)
        keys = sample_keys(0, batch.ids)
        yield Case("memory, copied", pixels, batch.images.clone)
        for name in FAMILIES:
            family = build_family(name, hidden_fraction=(HIDDEN, HIDDEN))
            yield Case(name, pixels, partial(_mask_and_fill, family, keys, batch))
    yield from _of_other_libraries(size, device)


def _mask_and_fill(family: MaskFamily, keys: Tensor, batch: Batch) -> Tensor:
    return apply_fill("black", batch.images, family(keys, batch), keys=keys, mean=IMAGENET_MEAN)


def _of_other_libraries(size: int, device: torch.device) -> Iterator[Case]:
    """albumentations, with this project's own transform in it, on uint8 arrays; torchvision on float tensors."""
    from maskrobust.augment.transforms import HideRegions  # isort: skip  # first, for it keeps albumentations off the network
    import albumentations

    side = HIDDEN**0.5
    arrays = list(_make_batch(size, _CPU, "uint8").images.permute(0, 2, 3, 1).contiguous().numpy())
    dropouts = {
        "albumentations CoarseDropout": albumentations.CoarseDropout((1, 1), (side, side), (side, side), p=1.0),
        "albumentations GridDropout": albumentations.GridDropout(ratio=side, p=1.0),
        "HideRegions patches, one by one": HideRegions("patches", hidden_fraction=(HIDDEN, HIDDEN), p=1.0),
    }
    for name, transform in dropouts.items():
        transform.add_targets({"visible": "mask"})
        yield Case(name, "uint8", partial(_transform_each, transform, arrays))
    erase = v2.RandomErasing(p=1.0, scale=(HIDDEN, HIDDEN), ratio=(0.5, 2.0))
    tensors = list(_make_batch(size, device, "float32").images)
    yield Case("torchvision RandomErasing", "float32", lambda: [erase(image) for image in tensors])


def _transform_each(transform: Callable[..., Any], arrays: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [transform(image=array)["image"] for array in arrays]


def fills(size: int, device: torch.device) -> Iterator[Case]:
    """The fills alone, in both memory formats."""
    for pixels in _PIXELS:
        batch = _make_batch(size, device, pixels)
        keys = sample_keys(0, batch.ids)
        visible = patches(keys, IMAGE_SIZE, IMAGE_SIZE, hidden_fraction=(HIDDEN, HIDDEN), patch_size=16)
        yield Case("memory, copied", pixels, batch.images.clone)
        for name, layout in product(FILLS, (torch.contiguous_format, torch.channels_last)):
            images = batch.images.contiguous(memory_format=layout)
            fill = partial(apply_fill, name, images, visible, keys=keys, mean=IMAGENET_MEAN)
            yield Case(name, pixels + ", channels last" * (layout == torch.channels_last), fill)


def loaders(folder: Path, images: int, batch: int, workers: int) -> Iterator[Case]:
    """Three ways to load batches of random crops from the same photographs."""
    write_photographs(folder, images)
    write_photographs(folder / "alone", images, masks=False)
    batches = images // batch
    for name, loader in {
        "WebDataset and torchvision, images alone": bare_loader(folder, batch, workers, batches),
        "Shards, images alone": shards_loader(folder / "alone", batch, workers),
        "Shards, images and object masks": shards_loader(folder, batch, workers),
    }.items():
        yield Case(name, "uint8", partial(_load, loader, batches))


def shards_loader(folder: Path, batch: int, workers: int) -> DataLoader[Batch]:
    """This project's training stream."""
    data = Shards(str(folder), batch_size=batch, num_workers=workers, shuffle_buffer=_SHUFFLE_BUFFER)
    return data.train_dataloader()


def bare_loader(folder: Path, batch: int, workers: int, batches: int) -> DataLoader[Tensor]:
    """WebDataset's own pipeline, torchvision's decoder, and the same crops: images alone.

    As `Shards` does, it reads in processes that stay, and an epoch ends after `batches` or a few more, so that none are
    loaded which nobody waits for.
    """
    urls = sorted(str(path) for path in folder.glob("train-*.tar"))
    view = v2.Compose([v2.RandomResizedCrop(IMAGE_SIZE), v2.RandomHorizontalFlip()])
    stream = WebDataset(urls, resampled=True, shardshuffle=False).shuffle(_SHUFFLE_BUFFER)
    stream = stream.map(partial(_decode, view)).batched(batch, collation_fn=torch.stack)
    dataset = cast(WebDataset, stream).with_epoch(-(-batches // max(1, workers)))
    return Loader(cast(Dataset[Tensor], dataset), batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def write_photographs(folder: Path, images: int, *, masks: bool = True) -> None:
    """Shards of JPEG files of a common size and weight, each with an object mask unless there are to be none."""
    per_shard = max(1, images // _SHARDS)
    records = []
    for shard in range(_SHARDS):
        drawn = map(_draw, range(shard * per_shard, (shard + 1) * per_shard))
        samples = (sample if masks else sample._replace(object_mask=None) for sample in drawn)
        records.append(write_shard(folder / shard_name("train", shard), samples))
    manifest = Manifest(
        class_names=("a", "b"),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        source={},
        samples_per_shard=per_shard,
        splits={"train": SplitRecord(shards=tuple(records))},
        shuffle_seed=0,
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))


def _draw(number: int) -> EncodedSample:
    """Smooth colours with fine noise, about 90 kB; the object is an ellipse."""
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = np.clip(pixels + generator.normal(0, 12, (_HEIGHT, _WIDTH, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=88)
    down, across = np.mgrid[-1 : 1 : _HEIGHT * 1j, -1 : 1 : _WIDTH * 1j]
    inside = (down / generator.uniform(0.3, 0.9)) ** 2 + (across / generator.uniform(0.3, 0.9)) ** 2 < 1
    return EncodedSample(number, stream.getvalue(), "jpg", encode_png(inside), number % 2)


def _decode(view: Callable[[Tensor], Tensor], sample: dict[str, bytes]) -> Tensor:
    with Image.open(io.BytesIO(sample["jpg"])) as image:
        return view(pil_to_tensor(image))


def _load(loader: DataLoader[Any], batches: int) -> None:
    loaded = sum(1 for _ in islice(loader, batches))
    if loaded < batches:
        raise RuntimeError(f"{loaded} of {batches} batches were loaded, so the time of a run says nothing.")
