"""`pad_batch` and `pad_collate`: images of several sizes as one padded tensor and a table of their sizes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate

from maskrobust.augment.batch import LAYOUTS, check_tensor
from maskrobust.errors import InputError


def pad_batch(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images of several sizes on one canvas, for `LayerMasking(network)(canvas, sizes=sizes)`.

    Args:
        images: at least one, each (C, H, W), or (C, L) or (C, D, H, W), with the same number of channels, dtype and
            device.

    Returns:
        The canvas (B, C, H, W), along each axis as long as the longest image, with each image at the top left and 0
        beyond it; and sizes (B, 2) int64, height and width of each image, on a CPU. Of signals and volumes likewise,
        with sizes (B, 1) and (B, 3).

    Raises:
        TypeError: an image is no tensor.
        InputError: there is no image, or one that has other axes, channels or another dtype than the first.

    Examples:
        >>> canvas, sizes = pad_batch([torch.rand(3, 40, 60), torch.rand(3, 50, 30)])  # (2, 3, 50, 60)
    """
    if len(images) == 0:
        raise InputError("pad_batch needs at least one image, got none; leave out empty batches.")
    check_tensor("each of images", first := images[0])
    layout = LAYOUTS.get(first.ndim + 1, LAYOUTS[4]).replace("B, ", "")
    for index, each in enumerate(images):
        check_tensor("each of images", each)
        alike = each.shape[:1] == first.shape[:1] and each.dtype == first.dtype and each.ndim == first.ndim
        if each.ndim + 1 not in LAYOUTS or not alike:
            raise InputError(
                f"images must be {layout} with {(*first.shape, 0)[0]} channels of {first.dtype} as the first one has, "
                f"got shape {tuple(each.shape)} of {each.dtype} for image {index}; give one tensor for each image."
            )
    sizes = torch.tensor([each.shape[1:] for each in images])
    beyond = (sizes.amax(0) - sizes).flip(1)
    padded = [
        functional.pad(each, [part for length in lengths for part in (0, length)])
        for each, lengths in zip(images, beyond.tolist(), strict=True)
    ]
    return torch.stack(padded), sizes


def pad_collate(samples: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """`collate_fn` of a `DataLoader` over images of several sizes.

    Args:
        samples: the samples, each an image as for `pad_batch` and whatever else, such as its label.

    Returns:
        Canvas and sizes, see `pad_batch`, and then a batch of each other part, see
        `torch.utils.data.default_collate`.
    """
    images, *others = zip(*samples, strict=True)
    return (*pad_batch(images), *(default_collate(list(each)) for each in others))
