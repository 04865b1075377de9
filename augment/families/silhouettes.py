"""Object silhouettes drawn from a bank: holes whose outline is that of a real object."""

import torch
from torch import Tensor

from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError


def _check_geometry(scaled: tuple[float, float], shifted: float) -> None:
    low, high = scaled
    if not 0.0 < low <= high < float("inf"):
        raise InputError(f"scaled must be a range 0 < low <= high, got {scaled}; give such a range.")
    if not 0.0 <= shifted <= 1.0:
        raise InputError(f"shifted must lie in [0, 1], a fraction of the image, got {shifted}; give such a number.")


@mask_family("silhouettes", check=_check_geometry)
def silhouettes(
    keys: Tensor,
    height: int,
    width: int,
    *,
    bank: SilhouetteBank,
    scaled: tuple[float, float] = (1.0, 1.0),
    shifted: float = 0.0,
    flipped: bool = False,
) -> Tensor:
    """Hide the silhouette of a uniformly drawn object of the bank, by default where that object stood in its own image.

    The class of the image does not matter, so that outline and class are independent. Without options the hidden area
    is exactly the drawn object's. `flipped` keeps it; `scaled` by s multiplies it by s^2 to within the
    nearest-neighbour sampling; scaling up and `shifted` lose what leaves the image.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels; must be the bank's.
        width: image width in pixels; must be the bank's.
        bank: the objects to draw from, on the device of `keys`.
        scaled: (low, high) of a uniformly drawn factor, around the middle of the object's bounding box.
        shifted: largest shift as a fraction of the image, uniform over both directions of either axis.
        flipped: mirror half of the silhouettes left to right.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the bank's masks have another size or no object to draw, or an option is out of range.
    """
    drawn = _draw_below(fold_in(keys, 0), torch.full_like(keys, len(bank)))
    return _hide(keys, (height, width), bank, drawn, scaled, shifted, flipped)


@mask_family("own_class_silhouettes", check=_check_geometry)
def own_class_silhouettes(
    keys: Tensor,
    height: int,
    width: int,
    *,
    bank: SilhouetteBank,
    labels: Tensor,
    ids: Tensor,
    scaled: tuple[float, float] = (1.0, 1.0),
    shifted: float = 0.0,
    flipped: bool = False,
) -> Tensor:
    """Hide the silhouette of another object of the image's class; the rest is as in `silhouettes`.

    Args:
        keys: see `silhouettes`, as for all that is not listed here.
        height: see there.
        width: see there.
        bank: see there.
        labels: (B,) int64 classes of the images.
        ids: (B,) int64 sample ids; the sample's own object is never drawn, whichever sample shows it.
        scaled: see there.
        shifted: see there.
        flipped: see there.
    """
    start, end = _class_bounds(bank, labels)
    stride = len(bank) + 1
    ranked = (bank.labels * stride + bank.object_ranks)[bank.by_class]
    own = bounds(ranked, labels * stride + own_ranks(bank, ids))
    _refuse_lonely(end - start == own[1] - own[0], labels, "other than the sample's own of")
    drawn = bank.by_class[draw_outside(fold_in(keys, 0), start, end, *own)]
    return _hide(keys, (height, width), bank, drawn, scaled, shifted, flipped)


@mask_family("other_class_silhouettes", check=_check_geometry)
def other_class_silhouettes(
    keys: Tensor,
    height: int,
    width: int,
    *,
    bank: SilhouetteBank,
    labels: Tensor,
    scaled: tuple[float, float] = (1.0, 1.0),
    shifted: float = 0.0,
    flipped: bool = False,
) -> Tensor:
    """Hide the silhouette of an object of another class; the rest is as in `silhouettes`.

    Args:
        keys: see `silhouettes`, as for all that is not listed here.
        height: see there.
        width: see there.
        bank: see there.
        labels: (B,) int64 classes of the images.
        scaled: see there.
        shifted: see there.
        flipped: see there.
    """
    start, end = _class_bounds(bank, labels)
    _refuse_lonely(end - start == len(bank), labels, "of another class than")
    everything = torch.zeros_like(start), torch.full_like(end, len(bank))
    drawn = bank.by_class[draw_outside(fold_in(keys, 0), *everything, start, end)]
    return _hide(keys, (height, width), bank, drawn, scaled, shifted, flipped)


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
        start: (B,) int64, as are all the others.
        end: see above.
        left_out_start: see above.
        left_out_end: see above.

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


def _hide(
    keys: Tensor,
    size: tuple[int, int],
    bank: SilhouetteBank,
    drawn: Tensor,
    scaled: tuple[float, float],
    shifted: float,
    flipped: bool,
) -> Tensor:
    """`visible` for the objects at the positions `drawn`, (B,) int64, of the bank."""
    check_mask_size(bank.object_masks, *size)
    _check_geometry(scaled, shifted)
    hidden = bank.object_masks[drawn]
    if scaled != (1.0, 1.0) or shifted or flipped:
        hidden = _move(fold_in(keys, 1), hidden, scaled, shifted, flipped)
    return ~hidden


def _class_bounds(bank: SilhouetteBank, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the objects of each label begin and end in `bank.by_class`: two (B,) int64."""
    return bounds(bank.labels[bank.by_class], labels)


def _draw_below(keys: Tensor, count: Tensor) -> Tensor:
    """Uniform integers in [0, count): (B,) int64."""
    return (uniform(keys).double() * count).long()


def _refuse_lonely(is_lonely: Tensor, labels: Tensor, which: str) -> None:
    if is_lonely.any():
        lonely = int(labels[is_lonely][0])
        raise InputError(
            f"the silhouette bank must hold an object {which} class {lonely}, got none; build it from more samples or "
            "draw silhouettes of any class."
        )


def _move(keys: Tensor, hidden: Tensor, scaled: tuple[float, float], shifted: float, flipped: bool) -> Tensor:
    """Mirror, scale and shift silhouettes (B, 1, H, W), by the nearest pixel."""
    low, high = scaled
    scale = low + (high - low) * uniform(fold_in(keys, 0))
    shift = (2 * uniform(fold_in(keys, 1), 2) - 1) * shifted
    mirrored = (uniform(fold_in(keys, 2)) < 0.5)[:, None] & flipped
    row = _source(hidden.any(dim=3).squeeze(1), scale, shift[:, 0])
    profile = hidden.any(dim=2).squeeze(1)
    column, column_inside = _source(torch.where(mirrored, profile.flip(1), profile), scale, shift[:, 1])
    return resampled(hidden, row, (torch.where(mirrored, hidden.shape[3] - 1 - column, column), column_inside))


def _source(profile: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Where each position of one axis takes its pixel from, and whether that lies inside the image.

    Args:
        profile: (B, size) bool, True between the ends of the object along this axis.
        scale: (B,), around the middle between these ends.
        shift: (B,), as a fraction of the size.

    Returns:
        (B, size) int64 in [0, size) and (B, size) bool.
    """
    size = profile.shape[1]
    first, last = profile.int().argmax(dim=1), size - 1 - profile.flip(1).int().argmax(dim=1)
    centre = (first + last) // 2
    return source_places(size, centre, centre + (shift * size).round().long(), scale)
