"""Swap triples: image i with the silhouettes of two objects j and k, of three different classes."""

from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import SilhouetteBank, fold_in, uniform
from maskrobust.augment.families.holes import check_mask_size


class SwapIndex(NamedTuple):
    """A silhouette bank sorted by class, then area: what drawing a triple needs, computed once.

    Attributes:
        object_masks: (N, 1, H, W) bool.
        labels: (N,) int64, ascending.
        areas: (N,) int64, pixels of each object, ascending within a class.
        objects: (N,) int64, which object each mask is of.
    """

    object_masks: Tensor
    labels: Tensor
    areas: Tensor
    objects: Tensor


class SwapTriples(NamedTuple):
    """Two holes for each image i, cut along the objects j and k of two other classes and of nearly the same area.

    Attributes:
        visible_j: (B, 1, H, W) bool, hides object j.
        visible_k: (B, 1, H, W) bool, hides object k.
        labels_j: (B,) int64 class of j; -1 where invalid.
        labels_k: (B,) int64 class of k; -1 where invalid.
        objects_j: (B,) int64 object j; -1 where invalid.
        objects_k: (B,) int64 object k; -1 where invalid.
        valid: (B,) bool, False where the bank has no two classes other than the image's, or the image has no object;
            nothing is hidden there.
    """

    visible_j: Tensor
    visible_k: Tensor
    labels_j: Tensor
    labels_k: Tensor
    objects_j: Tensor
    objects_k: Tensor
    valid: Tensor


def swap_index(bank: SilhouetteBank) -> SwapIndex:
    """Sort a bank by class, then area, then sample id; the result is on the bank's device."""
    areas = bank.object_masks.sum(dim=(1, 2, 3))
    order = (bank.labels * (int(areas.max()) + 1) + areas).argsort(stable=True)
    return SwapIndex(bank.object_masks[order], bank.labels[order], areas[order], bank.objects[order])


def swap_triples(keys: Tensor, labels: Tensor, over: Tensor, index: SwapIndex) -> SwapTriples:
    """Draw the triples of a batch.

    j is uniform over the bank's objects of classes other than y_i. k is the object of a third class whose area is
    closest to j's. Where several classes and areas are equally close (a class may have a smaller and a larger area),
    each of these is equally likely, and so is then each object of that class and area. Both holes lie over the image's
    own object (`placed_over`): where the objects were, a place that tells the class would count as a shape that does.

    Args:
        keys: (B,) int64 keys.
        labels: (B,) int64, the classes y_i.
        over: (B, 1, H, W) bool, each image's own object; an image without one has no valid triple.
        index: the prepared bank, on the device of `keys`.

    Returns:
        The holes of both objects, with their classes.

    Raises:
        InputError: the bank's masks have another size.
    """
    check_mask_size(index.object_masks, *over.shape[2:])
    j = _draw_other_class(fold_in(keys, 0), labels, index)
    k, found = _closest_of_third_class(fold_in(keys, 1), labels, j, index)
    valid = found & (index.labels[j] != labels) & over.flatten(1).any(dim=1)
    visible_j, visible_k = (
        ~placed_over(index.object_masks[each], over) | ~valid[:, None, None, None] for each in (j, k)
    )
    return SwapTriples(
        visible_j,
        visible_k,
        labels_j=index.labels[j].where(valid, -1),
        labels_k=index.labels[k].where(valid, -1),
        objects_j=index.objects[j].where(valid, -1),
        objects_k=index.objects[k].where(valid, -1),
        valid=valid,
    )


def placed_over(masks: Tensor, over: Tensor) -> Tensor:
    """Masks (B, 1, H, W) bool shifted so that their boxes have the centres of those of `over`, as far as they fit.

    Where one of the two is empty nothing is shifted. Area and form are kept: no pixel leaves the picture.
    """
    for dim in (2, 3):
        size = masks.shape[dim]
        (first, last), (own_first, own_last) = (_ends(each.any(dim=5 - dim)[:, 0]) for each in (masks, over))
        shift = (own_first + own_last - first - last).div(2, rounding_mode="floor")
        shift = shift.clamp(min=-first, max=size - 1 - last).where((last >= first) & (own_last >= own_first), 0)
        source = (torch.arange(size, device=masks.device) - shift[:, None]) % size
        source = source[:, None, :, None] if dim == 2 else source[:, None, None, :]
        masks = masks.gather(dim, source.expand_as(masks))
    return masks


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last position (B,) where (B, S) bool is True; the last is before the first where it is nowhere."""
    numbers, size = torch.arange(occupied.shape[1], device=occupied.device), occupied.shape[1]
    return numbers.where(occupied, size).amin(dim=1), numbers.where(occupied, -1).amax(dim=1)


def no_swaps(visible: Tensor) -> SwapTriples:
    """Triples of images (`visible`: theirs, (B, 1, H, W) bool) for which there is no object: none is valid."""
    everything, none = torch.ones_like(visible), torch.full_like(visible[:, 0, 0, 0], -1, dtype=torch.int64)
    return SwapTriples(everything, everything, none, none, none, none, none >= 0)


def _draw_other_class(keys: Tensor, labels: Tensor, index: SwapIndex) -> Tensor:
    """Position (B,) of an object uniform among those of other classes; any position where there is none."""
    start, end = (torch.searchsorted(index.labels, labels, right=right) for right in (False, True))
    own = end - start
    drawn = (uniform(keys).double() * (len(index.labels) - own)).long()
    return torch.where(drawn < start, drawn, drawn + own).clamp(max=len(index.labels) - 1)


def _closest_of_third_class(keys: Tensor, labels: Tensor, j: Tensor, index: SwapIndex) -> tuple[Tensor, Tensor]:
    """Position (B,) of k, and whether there is a third class (B,) bool.

    In each class the only candidates are the neighbours of j's area in the sorted bank.
    """
    stride = int(index.areas.max()) + 1
    code = index.labels * stride + index.areas
    classes = index.labels.unique()
    area = index.areas[j].unsqueeze(1)
    above = torch.searchsorted(code, classes * stride + area)
    candidates = torch.cat([above - 1, above], dim=1).clamp(0, len(code) - 1)
    candidate_labels = index.labels[candidates]
    ruled_out = (
        (candidate_labels != classes.repeat(2))
        | (candidate_labels == labels.unsqueeze(1))
        | (candidate_labels == index.labels[j].unsqueeze(1))
    )
    difference = (index.areas[candidates] - area).abs().masked_fill(ruled_out, stride)
    tie_break = uniform(fold_in(keys, 0), candidates.shape[1]).double()
    best = (difference + tie_break).argmin(dim=1, keepdim=True)
    chosen_code = code[candidates.gather(1, best)]
    first = torch.searchsorted(code, chosen_code)
    equal = torch.searchsorted(code, chosen_code, right=True) - first
    position = first + (uniform(fold_in(keys, 1), 1).double() * equal).long()
    return position.squeeze(1), ~ruled_out.all(dim=1)
