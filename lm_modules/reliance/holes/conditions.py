"""Which pixels each measure hides: a function of (seed, sample id) and the silhouette bank alone."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import (
    FAMILIES,
    Batch,
    ObjectHoles,
    SilhouetteBank,
    build_family,
    companion_blobs,
    covers,
    enclosing_circles,
    fold_in,
    object_holes,
    patches,
    sample_keys,
    uniform,
)
from maskrobust.augment.batch import check_floating
from maskrobust.augment.families.bank import distances
from maskrobust.augment.registry import address, import_modules
from maskrobust.errors import InputError, did_you_mean, library_needed
from maskrobust.lm_modules.reliance.arrays import BoolArray, IntArray
from maskrobust.lm_modules.reliance.holes.curves import curve_condition, curve_holes
from maskrobust.lm_modules.reliance.holes.swaps import SwapTriples, no_swaps, swap_index, swap_triples
from maskrobust.lm_modules.reliance.plan import ReliancePlan

FILL_STREAM, HOLE_STREAM = 0, 1
"""Numbers folded into a sample's key to draw random fills, and to draw the holes of the leak."""

_SWAP_STREAM, _PATCH_STREAM, _NOISE_STREAM, _SAMPLING_STREAM, _CURVE_STREAM, _TRANSFER_STREAM = 2, 3, 4, 5, 6, 7
_COVER_STREAM = 8

OTHER_RING = ("other_ring/silhouette", "other_ring/circle")
"""Conditions under which the images have another ring between outline and circle."""

COVER = ("cover", "cover/circle")
"""Conditions that hide another object's silhouette, and the circle beside it."""


class Condition(NamedTuple):
    """One way of hiding parts of a batch.

    Attributes:
        name: key of `Outcomes.predictions`.
        visible: (B, 1, H, W) bool; pixels without data are hidden under every condition.
        applies: (B,) bool, False where the condition says nothing about an image.
    """

    name: str
    visible: Tensor
    applies: Tensor


class Conditions(NamedTuple):
    """Everything that is hidden from a batch, and the numbers that predictors may draw their fills from.

    Attributes:
        all: every condition of the plan, without "clean", under which nothing is hidden.
        holes: silhouette and circle, of the conditions with these names.
        swaps: other objects' silhouettes, of the conditions "swap_j" and "swap_k".
        redrawn_images: (B, C, H, W), the images with uniform noise in [0, 1) in the silhouette hole.
        other_ring_images: (B, C, H, W), the images of the conditions `OTHER_RING`; None where the plan has none.
        fill_keys: (B,) int64, the same for every condition, so that only the hole differs between them.
    """

    all: tuple[Condition, ...]
    holes: ObjectHoles
    swaps: SwapTriples
    redrawn_images: Tensor
    other_ring_images: Tensor | None
    fill_keys: Tensor

    def visible(self, name: str) -> Tensor:
        """What a condition leaves visible, (B, 1, H, W) bool.

        Raises:
            InputError: the plan has no such condition.
        """
        by_name = {condition.name: condition.visible for condition in self.all}
        if name not in by_name:
            near = did_you_mean(name, by_name)
            raise InputError(f"condition must be one of the plan's, got '{name}'{near}; add it to the plan.")
        return by_name[name]


class Drawing(NamedTuple):
    """What the holes of a batch are drawn from.

    Attributes:
        plan: what is asked.
        batch: annotated images.
        keys: (B,) int64; whatever is drawn folds in a number of its own.
        bank: objects whose silhouettes are drawn; None for a plan without objects.
        holes: silhouette and circle of each image's object.
        swaps: other objects' silhouettes.
    """

    plan: ReliancePlan
    batch: Batch
    keys: Tensor
    bank: SilhouetteBank | None
    holes: ObjectHoles
    swaps: SwapTriples

    @property
    def sampled(self) -> Tensor:
        """The images that curves and matrix are asked about, (B,) bool."""
        return uniform(fold_in(self.keys, _SAMPLING_STREAM)) < self.plan.sampled_share


Names = Callable[[ReliancePlan], Iterable[str]]
Hidden = Iterator[tuple[Tensor, Tensor]]
Draws = Callable[[Drawing], Hidden]

_HOLES: dict[tuple[str, str], tuple[Names, Draws]] = {}


def hole(names: Names) -> Callable[[Draws], Draws]:
    """Register the decorated function, which draws holes for measures; it may stand in the file of its measure.

    It takes a `Drawing`, and yields for each name what is visible, (B, 1, H, W) bool, and to which images the condition
    applies, (B,) bool.

    Args:
        names: names of the conditions that a plan asks for, in order; where there is none, the function is not called.
    """

    def register(draw: Draws) -> Draws:
        _HOLES[address(draw)] = names, draw
        return draw

    return register


class ConditionSource:
    """Draws the conditions of one plan, with one silhouette bank.

    Args:
        bank: objects whose silhouettes are swapped in and drawn, of the images' size; None for a plan without objects.
        plan: what is asked.
        seed: any integer; with the sample ids it decides every draw.
    """

    def __init__(self, bank: SilhouetteBank | None, plan: ReliancePlan, seed: int) -> None:
        self.plan = plan
        self.seed = seed
        self._bank = bank
        self._index = None if bank is None else swap_index(bank)

    def draw(self, batch: Batch) -> Conditions:
        """All conditions of a batch of annotated images, on the batch's device.

        Raises:
            TypeError: the images are integers, as a loader yields them.
            InputError: the bank's masks have another size than the images.
        """
        check_floating(batch.images)
        self._follow(batch.labels.device)
        keys = sample_keys(self.seed, batch.ids)
        height, width = batch.images.shape[2:]
        holes = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask)
        if self._index is None:
            swaps = no_swaps(holes.silhouette_visible)
        else:
            swaps = swap_triples(fold_in(keys, _SWAP_STREAM), batch.labels, height, width, index=self._index)
        noise = uniform(fold_in(keys, _NOISE_STREAM), *batch.images.shape[1:]).to(batch.images.dtype)
        drawing = Drawing(self.plan, batch, keys, self._bank, holes, swaps)
        conditions = tuple(
            Condition(name, *hidden)
            for names, draw in _all_holes()
            if (wanted := [*names(self.plan)])
            for name, hidden in zip(wanted, draw(drawing), strict=True)
        )
        redrawn = torch.where(holes.silhouette_visible & batch.known, batch.images, noise)
        if batch.visible is not None:
            conditions = tuple(each._replace(visible=each.visible & batch.visible) for each in conditions)
        has_controls = self.plan.shapes and self.plan.leak_controls
        other_ring = with_other_ring(batch.images, batch.object_mask) if has_controls else None
        return Conditions(conditions, holes, swaps, redrawn, other_ring, fold_in(keys, FILL_STREAM))

    def _follow(self, device: torch.device) -> None:
        """Keep bank and index on the device of the batches."""
        if self._bank is not None and self._bank.ids.device != device:
            self._bank = self._bank.to(device)
            self._index = swap_index(self._bank)


def condition_names(plan: ReliancePlan) -> list[str]:
    """Names of the conditions of a plan, in the order in which they are asked."""
    return [name for names, _ in _all_holes() for name in names(plan)]


def _all_holes() -> Iterable[tuple[Names, Draws]]:
    import_modules("maskrobust.lm_modules.reliance.measures")
    return _HOLES.values()


def retention_condition(hidden_fraction: float) -> str:
    """Name of the condition that hides a fraction of the patches, at random, from every image."""
    return f"retention/{hidden_fraction:g}"


def margin_condition(hole: Literal["silhouette", "circle"], margin: float) -> str:
    """Name of the condition that hides the object, grown by some pixels, along its outline or by its circle."""
    return f"margin/{margin:g}/{hole}" if margin else hole


def transfer_condition(family: str) -> str:
    """Name of the condition that hides what a mask family draws."""
    return f"transfer/{family}"


@hole(lambda plan: ("silhouette", "circle") if plan.shapes else ())
def _leak(drawing: Drawing) -> Hidden:
    yield drawing.holes.silhouette_visible, drawing.holes.valid
    yield drawing.holes.circle_visible, drawing.holes.valid


@hole(lambda plan: ("swap_j", "swap_k") if plan.shapes and "swap_pull" in plan.shape_measures else ())
def _swapped(drawing: Drawing) -> Hidden:
    swaps = drawing.swaps
    yield swaps.visible_j, swaps.valid
    yield swaps.visible_k, swaps.valid


def _margins(plan: ReliancePlan) -> list[float]:
    return [margin for margin in plan.margins if margin and plan.shapes]


@hole(lambda plan: [margin_condition(hole, margin) for margin in _margins(plan) for hole in ("silhouette", "circle")])
def _grown(drawing: Drawing) -> Hidden:
    for margin in _margins(drawing.plan):
        grown = object_holes(fold_in(drawing.keys, HOLE_STREAM), dilate(drawing.batch.object_mask, margin))
        yield grown.silhouette_visible, grown.valid
        yield grown.circle_visible, grown.valid


@hole(lambda plan: (*OTHER_RING, *COVER) if plan.shapes and plan.leak_controls else ())
def _leak_controls(drawing: Drawing) -> Hidden:
    yield from _leak(drawing)  # of images with another ring
    assert drawing.bank is not None  # a plan without one has no objects, either
    keys, batch = fold_in(drawing.keys, _COVER_STREAM), drawing.batch
    behind_cover, behind_circle, valid = cover_holes(keys, batch.object_mask, batch.ids, bank=drawing.bank)
    yield behind_cover, valid
    yield behind_circle, valid


@hole(lambda plan: map(retention_condition, plan.hidden_fractions))
def _retention(drawing: Drawing) -> Hidden:
    keys, (height, width) = fold_in(drawing.keys, _PATCH_STREAM), drawing.batch.images.shape[2:]
    for fraction in drawing.plan.hidden_fractions:
        fixed = (fraction, fraction)
        visible = patches(keys, height, width, hidden_fraction=fixed, patch_size=drawing.plan.patch_size)
        yield visible, torch.ones_like(drawing.batch.labels, dtype=torch.bool)


@hole(
    lambda plan: itertools.starmap(
        curve_condition, itertools.product(plan.curve_families, plan.curve_orders, plan.curve_fractions)
    )
)
def _curves(drawing: Drawing) -> Hidden:
    plan, sampled, keys = drawing.plan, drawing.sampled, fold_in(drawing.keys, _CURVE_STREAM)
    for family, order in itertools.product(plan.curve_families, plan.curve_orders):
        holes = curve_holes(
            keys,
            drawing.batch,
            family=family,
            order=order,
            hidden_fractions=plan.curve_fractions,
            patch_size=plan.patch_size,
        )
        for visible in holes.visible:
            yield visible, holes.valid & sampled


@hole(lambda plan: map(transfer_condition, plan.transfer_families))
def _transfer(drawing: Drawing) -> Hidden:
    plan, batch, keys = drawing.plan, drawing.batch, fold_in(drawing.keys, _TRANSFER_STREAM)
    annotated, fixed = batch.object_mask.flatten(1).any(dim=1), (plan.transfer_fraction, plan.transfer_fraction)
    for family in plan.transfer_families:
        draw = build_family(family, hidden_fraction=fixed, patch_size=plan.patch_size, bank=drawing.bank)
        from_object = "object_mask" in FAMILIES.find(family, "transfer_families").inputs
        yield draw(keys, batch), drawing.sampled & annotated if from_object else drawing.sampled


def dilate(object_mask: Tensor, margin: float) -> Tensor:
    """Every pixel whose centre is at most `margin` pixels from that of a pixel of the object.

    Args:
        object_mask: (B, 1, H, W) bool.
        margin: at least 0; 0 leaves the object as it is.

    Returns:
        (B, 1, H, W) bool on the device of `object_mask`; empty where there is no object.
    """
    if margin == 0:
        return object_mask
    near = np.stack([distances(~pixels) <= margin for pixels in object_mask[:, 0].cpu().numpy()])
    grown = torch.from_numpy(near).unsqueeze(1).to(object_mask.device)
    return grown & object_mask.flatten(1).any(dim=1)[:, None, None, None]


def with_other_ring(images: Tensor, object_mask: Tensor) -> Tensor:
    """Images whose ring between the object's outline and its enclosing circle is drawn from outside the circle.

    The ring takes the image rolled by half the height and half the width; where that shows the circle, too, it takes
    the nearest pixel outside. So it shows nothing that is not to be seen outside the circle as well.

    Args:
        images: (B, C, H, W).
        object_mask: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; equal outside the ring.
    """
    circles = enclosing_circles(object_mask)
    half = (images.shape[2] // 2, images.shape[3] // 2)
    nearest = torch.from_numpy(np.stack([_nearest_outside(circle) for circle in circles[:, 0].cpu().numpy()]))
    place = nearest.to(images.device).flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    continued = images.flatten(2).gather(2, place).reshape(images.shape)
    content = torch.where(circles.roll(half, dims=(2, 3)), continued, images.roll(half, dims=(2, 3)))
    return torch.where(circles & ~object_mask, content, images)


def cover_holes(keys: Tensor, object_mask: Tensor, ids: Tensor, *, bank: SilhouetteBank) -> ObjectHoles:
    """Hide each object behind the silhouette of another one (`augment.covers`), and by its enclosing circle.

    A blob makes up for the difference of the areas, beside the smaller of the two holes.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool.
        ids: (B,) int64; the sample's own object is never drawn, whichever sample shows it.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        As silhouette, another object's that covers this one, and a blob where the circle is larger; as circle, that of
        this object, and a blob where the cover is larger. Valid where there is an object, another one to draw, and
        room for the blob.

    Raises:
        InputError: the bank's masks have another size.
    """
    hidden, circles = ~covers(keys, object_mask, ids, bank=bank), enclosing_circles(object_mask)
    excess = hidden.sum(dim=(1, 2, 3)) - circles.sum(dim=(1, 2, 3))
    beside_cover = companion_blobs(fold_in(keys, 1), hidden, (-excess).clamp(min=0))
    beside_circle = companion_blobs(fold_in(keys, 2), circles, excess.clamp(min=0))
    valid = hidden.flatten(1).any(dim=1) & beside_cover.fits & beside_circle.fits
    nothing_hidden = ~valid[:, None, None, None]
    return ObjectHoles(
        ~(hidden | beside_cover.blobs) | nothing_hidden, ~(circles | beside_circle.blobs) | nothing_hidden, valid
    )


def _nearest_outside(circle: BoolArray) -> IntArray:
    """Position in the flattened image of the False pixel nearest to each, (H, W)."""
    with library_needed():
        from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(circle, return_distances=False, return_indices=True)
    nearest: IntArray = np.asarray(rows, dtype=np.int64) * circle.shape[1] + columns
    return nearest
