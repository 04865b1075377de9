"""`pad_batch` and `pad_collate`: images of several sizes as one padded tensor and a table of their sizes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate

from maskrobust.augment.batch import check_tensor
from maskrobust.errors import InputError


def pad_batch(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images of several sizes on one canvas, for `LayerMasking(network)(canvas, sizes=sizes)`.

    Args:
        images: at least one, each (C, H, W), with the same number of channels, dtype and device.

    Returns:
        The canvas (B, C, H, W), as high and as wide as the highest and the widest image, with each image at the top
        left and 0 beyond it; and sizes (B, 2) int64, height and width of each image, on a CPU.

    Raises:
        TypeError: an image is no tensor.
        InputError: there is no image, or one that is not (C, H, W) with channels and dtype as the first.

    Examples:
        >>> canvas, sizes = pad_batch([torch.rand(3, 40, 60), torch.rand(3, 50, 30)])  # (2, 3, 50, 60)
    """
    if len(images) == 0:
        raise InputError("pad_batch needs at least one image, got none; leave out empty batches.")
    check_tensor("each of images", images[0])
    channels = images[0].shape[0] if images[0].ndim else 0
    for index, each in enumerate(images):
        check_tensor("each of images", each)
        if each.ndim != 3 or each.shape[0] != channels or each.dtype != images[0].dtype:
            raise InputError(
                f"images must be (C, H, W) with {channels} channels of {images[0].dtype} as the first one has, got "
                f"shape {tuple(each.shape)} of {each.dtype} for image {index}; give one tensor for each image."
            )
    sizes = torch.tensor([each.shape[1:] for each in images])
    height, width = sizes.amax(0).tolist()
    padded = [functional.pad(each, (0, width - each.shape[2], 0, height - each.shape[1])) for each in images]
    return torch.stack(padded), sizes


def pad_collate(samples: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """`collate_fn` of a `DataLoader` over images of several sizes.

    Args:
        samples: the samples, each an image (C, H, W) and whatever else, such as its label.

    Returns:
        Canvas and sizes, see `pad_batch`, and then a batch of each other part, see
        `torch.utils.data.default_collate`.
    """
    images, *others = zip(*samples, strict=True)
    return (*pad_batch(images), *(default_collate(list(each)) for each in others))
