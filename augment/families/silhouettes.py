"""Object silhouettes drawn from a bank: holes whose outline is that of a real object."""

import torch
from torch import Tensor

from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError


@mask_family("silhouettes")
def silhouettes(
    keys: Tensor,
    height: int,
    width: int,
    *,
    bank: SilhouetteBank,
) -> Tensor:
    """Hide the silhouette of a uniformly drawn object of the bank, where that object stood in its own image.

    The class of the image does not matter, so that outline and class are independent.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels; must be the bank's.
        width: image width in pixels; must be the bank's.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the bank's masks have another size, or no object to draw.
    """
    check_mask_size(bank.object_masks, height, width)
    drawn = _draw_below(fold_in(keys, 0), torch.full_like(keys, len(bank)))
    return ~bank.object_masks[drawn]


def check_mask_size(object_masks: Tensor, height: int, width: int) -> None:
    """Refuse silhouettes that do not fit the images they are to be drawn for.

    Args:
        object_masks: (N, 1, H, W), a bank's.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        InputError: (H, W) is not (height, width).
    """
    size = tuple(object_masks.shape[2:])
    if size != (height, width):
        raise InputError(
            f"the silhouette bank must hold masks of the images' size {(height, width)}, got {size}; build it from "
            "images of that size."
        )


def own_ranks(bank: SilhouetteBank, ids: Tensor) -> Tensor:
    """Which of `bank.object_ranks` each sample (B,) shows, (B,) int64; N for those that the bank does not hold."""
    position = torch.searchsorted(bank.ids, ids).clamp(max=len(bank) - 1)
    return torch.where(bank.ids[position] == ids, bank.object_ranks[position], len(bank))


def bounds(ascending: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Where each value (B,) begins and ends in (N,) ascending numbers: two (B,) int64, equal where it is not there."""
    return torch.searchsorted(ascending, values), torch.searchsorted(ascending, values, right=True)


def draw_outside(keys: Tensor, start: Tensor, end: Tensor, left_out_start: Tensor, left_out_end: Tensor) -> Tensor:
    """Uniform integers in [start, end) that do not lie in [left_out_start, left_out_end), a part of it.

    Args:
        keys: (B,) int64 keys.
        start: (B,) int64, smallest integer.
        end: (B,) int64, one above the largest.
        left_out_start: (B,) int64, smallest integer that is not drawn.
        left_out_end: (B,) int64, one above the largest that is not drawn.

    Returns:
        (B,) int64; `end` where nothing is left to draw.
    """
    left_out = left_out_end - left_out_start
    drawn = start + _draw_below(keys, end - start - left_out)
    return torch.where(drawn < left_out_start, drawn, drawn + left_out)


def source_places(size: int, source: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Where each position of one axis takes its pixel from when it is scaled, so that `source` comes to `target`.

    Args:
        size: size of the axis.
        source: (B,) int64 positions.
        target: (B,) positions.
        scale: (B,) factors.

    Returns:
        The nearest positions, (B, size) int64 in [0, size), and whether they lie inside the image, (B, size) bool.
    """
    place = ((torch.arange(size, device=target.device) - target[:, None]) / scale[:, None]).round().long()
    place += source[:, None]
    return place.clamp(0, size - 1), (place >= 0) & (place < size)


def resampled(masks: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Masks (B, 1, H, W) whose pixels are taken from the places of `source_places` along both axes; False outside."""
    sample = torch.arange(len(masks), device=masks.device)[:, None, None]
    found = masks[sample, 0, rows[0][:, :, None], columns[0][:, None, :]]
    return (found & rows[1][:, :, None] & columns[1][:, None, :]).unsqueeze(1)


def _draw_below(keys: Tensor, count: Tensor) -> Tensor:
    """Uniform integers in [0, count): (B,) int64."""
    return (uniform(keys).double() * count).long()
