"""Which pixels each measure hides: a function of (seed, sample id) and the silhouette bank alone."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import (
    FAMILIES,
    Batch,
    HoleBank,
    ObjectHoles,
    SilhouetteBank,
    build_family,
    fold_in,
    object_holes,
    patches,
    sample_keys,
    uniform,
)
from maskrobust.augment.batch import check_floating
from maskrobust.augment.families.holes import check_mask_size
from maskrobust.augment.fills.exemplar import mirror
from maskrobust.augment.registry import address, import_modules
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.holes.curves import curve_condition, curve_holes
from maskrobust.lm_modules.reliance.holes.own import (
    EXCHANGED,
    Donors,
    draw_donors,
    draw_exchanged,
    mended,
    pair_condition,
)
from maskrobust.lm_modules.reliance.holes.swaps import SwapTriples, no_swaps, swap_index, swap_triples
from maskrobust.lm_modules.reliance.plan import ReliancePlan

FILL_STREAM, HOLE_STREAM = 0, 1
"""Numbers folded into a sample's key to draw random fills, and to draw the holes of the leak."""

_SWAP_STREAM, _PATCH_STREAM, _SAMPLING_STREAM, _CURVE_STREAM, _TRANSFER_STREAM = 2, 3, 5, 6, 7
_OWN_STREAM = 8


SWAPS = ("swap_j", "swap_k")
"""Conditions that hide the shape of an object of another class j, and then that of an object of a third class k, of
about the same area, both where the image's own object was."""


class Condition(NamedTuple):
    """One way of hiding parts of a batch.

    Attributes:
        name: key of `Outcomes.predictions`.
        visible: (B, 1, H, W) bool; pixels without data are hidden under every condition that shows the batch's images.
        applies: (B,) bool, False where the condition says nothing about an image.
        images: (B, C, H, W), what is shown in place of the batch's images; None for these.
    """

    name: str
    visible: Tensor
    applies: Tensor
    images: Tensor | None = None


class Conditions(NamedTuple):
    """Everything that is hidden from a batch, and the numbers that predictors may draw their fills from.

    Attributes:
        all: every condition of the plan, without "clean", under which nothing is hidden.
        holes: silhouette and circle, of the conditions with these names.
        swaps: other objects' shapes where the own object was, of the conditions "swap_j" and "swap_k".
        donors: whose holes are exchanged, of the conditions of `pair_condition`.
        fill_keys: (B,) int64, the same for every condition, so that only the hole differs between them.
    """

    all: tuple[Condition, ...]
    holes: ObjectHoles
    swaps: SwapTriples
    donors: tuple[Donors, ...]
    fill_keys: Tensor


class Drawing(NamedTuple):
    """What the holes of a batch are drawn from.

    Attributes:
        plan: what is asked.
        batch: annotated images.
        keys: (B,) int64; whatever is drawn folds in a number of its own.
        bank: objects whose silhouettes are drawn; None for a plan without objects.
        holes: silhouette and circle of each image's object.
        swaps: other objects' silhouettes.
        objects: (B,) int64, which object each image shows.
        own: images that lend their own holes; None for a plan without own holes.
        donors: pairs of these for each image.
    """

    plan: ReliancePlan
    batch: Batch
    keys: Tensor
    bank: SilhouetteBank | None
    holes: ObjectHoles
    swaps: SwapTriples
    objects: Tensor
    own: HoleBank | None
    donors: tuple[Donors, ...]

    @property
    def sampled(self) -> Tensor:
        """The images that curves and matrix are asked about, (B,) bool."""
        return uniform(fold_in(self.keys, _SAMPLING_STREAM)) < self.plan.sampled_fraction


Names = Callable[[ReliancePlan], Iterable[str]]
Hidden = Iterator[tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]]
Draws = Callable[[Drawing], Hidden]

_HOLES: dict[tuple[str, str], tuple[Names, Draws]] = {}


def hole(names: Names) -> Callable[[Draws], Draws]:
    """Register the decorated function, which draws holes for measures; it may stand in the file of its measure.

    It takes a `Drawing`, and yields for each name what is visible, (B, 1, H, W) bool, to which images the condition
    applies, (B,) bool, and, where other images are shown than those of the batch, these.

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
        own: images that lend their own holes, of the images' size; None for a plan without own holes.

    Raises:
        InputError: the plan asks about own holes, and no image lends some.
    """

    def __init__(self, bank: SilhouetteBank | None, plan: ReliancePlan, seed: int, own: HoleBank | None = None) -> None:
        if plan.own_holes and own is None:
            raise InputError(
                f"own_holes asks about holes that images bring along, got own_holes {plan.own_holes} and no HoleBank; "
                "give one, or set own_holes to 0."
            )
        self.plan = plan
        self.seed = seed
        self._bank = bank
        self._index = None if bank is None else swap_index(bank)
        self._own = own if plan.own_holes else None

    def draw(self, batch: Batch, objects: Tensor | None = None) -> Conditions:
        """All conditions of a batch of annotated images, on the batch's device.

        Args:
            batch: the batch.
            objects: (B,) int64, which object each image shows; None for one of its own each.

        Raises:
            TypeError: the images are integers, as a loader yields them.
            InputError: the masks of a bank have another size than the images.
        """
        check_floating(batch.images)
        self._follow(batch.labels.device)
        objects = batch.ids if objects is None else objects.to(batch.ids.device)
        keys = sample_keys(self.seed, batch.ids)
        holes = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask)
        if self._index is None:
            swaps = no_swaps(holes.silhouette_visible)
        else:
            swaps = swap_triples(fold_in(keys, _SWAP_STREAM), batch.labels, batch.object_mask, self._index)
        donors: tuple[Donors, ...] = ()
        if self._own is not None:
            check_mask_size(self._own.visible, *batch.images.shape[2:])
            donors = (*draw_donors(fold_in(keys, _OWN_STREAM), objects, self._own, self.plan.own_holes),)
        drawing = Drawing(self.plan, batch, keys, self._bank, holes, swaps, objects, self._own, donors)
        conditions = tuple(
            Condition(name, *hidden)
            for names, draw in _all_holes()
            if (wanted := [*names(self.plan)])
            for name, hidden in zip(wanted, draw(drawing), strict=True)
        )
        conditions = tuple(
            each if each.images is not None else each._replace(visible=each.visible & batch.known)
            for each in conditions
        )
        return Conditions(conditions, holes, swaps, donors, fold_in(keys, FILL_STREAM))

    def _follow(self, device: torch.device) -> None:
        """Keep banks and index on the device of the batches."""
        if self._bank is not None and self._bank.ids.device != device:
            self._bank = self._bank.to(device)
            self._index = swap_index(self._bank)
        if self._own is not None and self._own.ids.device != device:
            self._own = self._own.to(device)


def condition_names(plan: ReliancePlan) -> list[str]:
    """Names of the conditions of a plan, in the order in which they are asked."""
    return [name for names, _ in _all_holes() for name in names(plan)]


def _all_holes() -> Iterable[tuple[Names, Draws]]:
    import_modules("maskrobust.lm_modules.reliance.measures")
    return _HOLES.values()


def retention_condition(hidden_fraction: float) -> str:
    """Name of the condition that hides a fraction of the patches, at random, from every image."""
    return f"retention/{hidden_fraction:g}"


def transfer_condition(family: str) -> str:
    """Name of the condition that hides what a mask family draws."""
    return f"transfer/{family}"


@hole(lambda plan: ("silhouette", "circle") if plan.shapes else ())
def _leak(drawing: Drawing) -> Hidden:
    yield drawing.holes.silhouette_visible, drawing.holes.valid
    yield drawing.holes.circle_visible, drawing.holes.valid


@hole(lambda plan: SWAPS if plan.shapes and plan.shape_choice else ())
def _swapped(drawing: Drawing) -> Hidden:
    """In pictures without their own object: what a hole leaves of it looks less like the class of the hole's shape."""
    swaps, batch = drawing.swaps, drawing.batch
    images = mirror(batch.images, ~swaps.valid[:, None, None, None] | batch.known & ~batch.object_mask)
    yield swaps.visible_j & batch.known, swaps.valid, images
    yield swaps.visible_k & batch.known, swaps.valid, images


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
    draw = partial(curve_holes, keys, drawing.batch, hidden_fractions=plan.curve_fractions, patch_size=plan.patch_size)
    for family, order in itertools.product(plan.curve_families, plan.curve_orders):
        holes = draw(family=family, order=order)
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


@hole(lambda plan: [EXCHANGED] if plan.own_holes else ())
def _exchanged(drawing: Drawing) -> Hidden:
    assert drawing.own is not None
    visible, some = draw_exchanged(fold_in(drawing.keys, _OWN_STREAM), drawing.objects, drawing.own)
    yield visible, some, mended(drawing.batch.images, drawing.batch.known)


@hole(lambda plan: itertools.starmap(pair_condition, itertools.product(range(plan.own_holes), ("j", "k"))))
def _own_holes(drawing: Drawing) -> Hidden:
    for pair in drawing.donors:
        images = mended(drawing.batch.images, drawing.batch.known & pair.visible_j & pair.visible_k)
        yield pair.visible_j, pair.differ, images
        yield pair.visible_k, pair.differ, images
