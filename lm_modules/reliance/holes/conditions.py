"""Which pixels each measure hides: a function of (seed, sample id) and the silhouette bank alone."""

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import (
    FAMILIES,
    Batch,
    ObjectHoles,
    SilhouetteBank,
    broken_silhouettes,
    build_family,
    fold_in,
    object_holes,
    objects,
    patches,
    sample_keys,
    uniform,
)
from maskrobust.augment.batch import check_floating
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.holes.curves import curve_condition, curve_holes
from maskrobust.lm_modules.reliance.holes.leak_holes import cover_holes, dilate, with_other_ring
from maskrobust.lm_modules.reliance.holes.swaps import SwapTriples, no_swaps, swap_index, swap_triples
from maskrobust.lm_modules.reliance.plan import ReliancePlan

FILL_STREAM, HOLE_STREAM = 0, 1
"""Of a sample's key: what fills are drawn from, and what the holes of measure 1 are."""

_SWAP_STREAM, _PATCH_STREAM, _NOISE_STREAM, _SAMPLING_STREAM, _CURVE_STREAM, _TRANSFER_STREAM = 2, 3, 4, 5, 6, 7
_COVER_STREAM = 8

OTHER_RING = ("other_ring/silhouette", "other_ring/circle")
"""Conditions under which the images have another ring between outline and circle."""

COVER = ("cover", "cover/circle")
"""Conditions that hide another object's silhouette, and the circle beside it."""

_LEAK = ("silhouette", "circle")
_FURTHER_SHAPES = ("whole", "broken", "swap_j", "swap_k")


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
        all: every condition of the plan; without "clean", under which nothing is hidden.
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
        for condition in self.all:
            if condition.name == name:
                return condition.visible
        names = ", ".join(condition.name for condition in self.all)
        raise InputError(f"condition must be one of {names}, got '{name}'; add it to the plan.")


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
        conditions = (
            *(_leak(holes) if self.plan.shapes else ()),
            *(_further_shapes(batch, holes, swaps) if self.plan.shapes and self.plan.all_shapes else ()),
            *(self._leak_conditions(batch, keys, holes) if self.plan.shapes else ()),
            *self._retention(batch, keys),
            *self._curves(batch, keys),
            *self._transfer(batch, keys),
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

    def _leak_conditions(self, batch: Batch, keys: Tensor, holes: ObjectHoles) -> Iterator[Condition]:
        for margin in filter(None, self.plan.margins):
            grown = object_holes(fold_in(keys, HOLE_STREAM), dilate(batch.object_mask, margin))
            yield Condition(margin_condition("silhouette", margin), grown.silhouette_visible, grown.valid)
            yield Condition(margin_condition("circle", margin), grown.circle_visible, grown.valid)
        if self.plan.leak_controls and self._bank is not None:
            for name, visible in zip(OTHER_RING, holes, strict=False):
                yield Condition(name, visible, holes.valid)
            drawn = fold_in(keys, _COVER_STREAM)
            *visible_behind, valid = cover_holes(drawn, batch.object_mask, batch.ids, bank=self._bank)
            for name, visible in zip(COVER, visible_behind, strict=True):
                yield Condition(name, visible, valid)

    def _retention(self, batch: Batch, keys: Tensor) -> Iterator[Condition]:
        height, width = batch.images.shape[2:]
        keys = fold_in(keys, _PATCH_STREAM)
        for fraction in self.plan.hidden_fractions:
            fixed = (fraction, fraction)
            visible = patches(keys, height, width, hidden_fraction=fixed, patch_size=self.plan.patch_size)
            yield Condition(retention_condition(fraction), visible, torch.ones_like(batch.labels, dtype=torch.bool))

    def _curves(self, batch: Batch, keys: Tensor) -> Iterator[Condition]:
        plan, sampled = self.plan, self._sampled(keys)
        for family in plan.curve_families:
            for order in plan.curve_orders:
                holes = curve_holes(
                    fold_in(keys, _CURVE_STREAM),
                    batch,
                    family=family,
                    order=order,
                    hidden_fractions=plan.curve_fractions,
                    patch_size=plan.patch_size,
                )
                for fraction, visible in zip(plan.curve_fractions, holes.visible, strict=True):
                    yield Condition(curve_condition(family, order, fraction), visible, holes.valid & sampled)

    def _transfer(self, batch: Batch, keys: Tensor) -> Iterator[Condition]:
        annotated, sampled = batch.object_mask.flatten(1).any(dim=1), self._sampled(keys)
        fixed = (self.plan.transfer_fraction, self.plan.transfer_fraction)
        for family in self.plan.transfer_families:
            draw = build_family(family, hidden_fraction=fixed, patch_size=self.plan.patch_size, bank=self._bank)
            visible = draw(fold_in(keys, _TRANSFER_STREAM), batch)
            from_object = "object_mask" in FAMILIES.find(family, "transfer_families").inputs
            applies = sampled & annotated if from_object else sampled
            yield Condition(transfer_condition(family), visible, applies)

    def _sampled(self, keys: Tensor) -> Tensor:
        """Which images curves and matrix are asked about, (B,) bool."""
        return uniform(fold_in(keys, _SAMPLING_STREAM)) < self.plan.sampled_share


def condition_names(plan: ReliancePlan) -> list[str]:
    """Names of the conditions of a plan, in the order in which they are asked."""
    margins = filter(None, plan.margins if plan.shapes else ())
    curves = itertools.product(plan.curve_families, plan.curve_orders, plan.curve_fractions)
    return [
        *(_LEAK if plan.shapes else ()),
        *(_FURTHER_SHAPES if plan.shapes and plan.all_shapes else ()),
        *(margin_condition(hole, margin) for margin in margins for hole in ("silhouette", "circle")),
        *((*OTHER_RING, *COVER) if plan.shapes and plan.leak_controls else ()),
        *map(retention_condition, plan.hidden_fractions),
        *(curve_condition(*point) for point in curves),
        *map(transfer_condition, plan.transfer_families),
    ]


def retention_condition(hidden_fraction: float) -> str:
    """Name of the condition that hides a fraction of the patches, at random, from every image."""
    return f"retention/{hidden_fraction:g}"


def margin_condition(hole: Literal["silhouette", "circle"], margin: float) -> str:
    """Name of the condition that hides the object, grown by some pixels, along its outline or by its circle."""
    return f"margin/{margin:g}/{hole}" if margin else hole


def transfer_condition(family: str) -> str:
    """Name of the condition that hides what a mask family draws."""
    return f"transfer/{family}"


def _leak(holes: ObjectHoles) -> Iterator[Condition]:
    yield Condition("silhouette", holes.silhouette_visible, holes.valid)
    yield Condition("circle", holes.circle_visible, holes.valid)


def _further_shapes(batch: Batch, holes: ObjectHoles, swaps: SwapTriples) -> Iterator[Condition]:
    nothing_hidden = ~holes.valid[:, None, None, None]
    yield Condition("whole", objects(batch.object_mask) | nothing_hidden, holes.valid)
    yield Condition("broken", broken_silhouettes(batch.object_mask) | nothing_hidden, holes.valid)
    yield Condition("swap_j", swaps.visible_j, swaps.valid)
    yield Condition("swap_k", swaps.visible_k, swaps.valid)
