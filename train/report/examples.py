"""Pictures for reports: images with the holes of the measures, under each masking method."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.augment.batch import in_colours
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod, illustrate, is_fill
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource, retention_condition
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data_options import Split
from maskrobust.train.report.blocks import block, prose
from maskrobust.train.report.wording import capitalised, in_words, method_title


class ExampleStrip(NamedTuple):
    """One row of pictures, the same images in every row.

    Attributes:
        label: what was done to the images.
        method: the masking method; None for the originals.
        images: (H, W, 3) uint8 each.
        condition: name of what is hidden, as `Outcomes` knows it.
    """

    label: str
    method: MaskingMethod | None
    images: tuple[NDArray[np.uint8], ...]
    condition: str = ""


def draw_examples(
    data: AnnotatedDataModule,
    split: Split,
    plan: ReliancePlan,
    seed: int,
    methods: Sequence[MaskingMethod],
    preprocessing: Preprocessing,
) -> list[ExampleStrip]:
    """A few images of a split under every masking method, as a network with this preprocessing is shown them.

    Args:
        data: set up for the split.
        split: whose images.
        plan: whose holes are shown; see `example_strips`.
        seed: seed for the evaluation masks.
        methods: the masking methods, in order.
        preprocessing: see `example_strips`.
    """
    few = choose_examples((batch.to("cpu") for batch in data.whole_split(split)), 4, data.num_classes)
    plan = plan if few.object_mask.any() else plan.without_objects()
    return example_strips(few, methods, plan, seed, preprocessing, data.show_bands)


def choose_examples(batches: Iterable[Batch], count: int, num_classes: int) -> Batch:
    """A few images with an object, those of different classes first; where the first 20 batches hold no object, any.

    Args:
        batches: batches whose images all have the same size, of which no more are read than it takes.
        count: number of images wanted, at least 1; there may be fewer.
        num_classes: number of classes of the data.

    Raises:
        InputError: there is no image.
    """
    found: Batch | None = None
    for batch in islice(batches, 20):
        joined = batch if found is None else Batch.cat([found, batch])
        inside = joined.object_mask.flatten(1).any(dim=1)
        found = of_different_classes(joined.select(inside) if inside.any() else joined, count)
        if inside.any() and len(found.ids) >= count and len(found.labels.unique()) >= min(count, num_classes):
            break
    if found is None:
        raise InputError("the split holds no image; choose another with --split.")
    return found


def of_different_classes(batch: Batch, count: int) -> Batch:
    """At most `count` images of a batch, the first of each class ahead of its others."""
    labels = batch.labels.tolist()
    repeats = torch.tensor([labels[:place].count(label) for place, label in enumerate(labels)], dtype=torch.int64)
    return batch.select(repeats.argsort(stable=True)[:count])


def example_strips(
    batch: Batch, methods: Sequence[MaskingMethod], plan: ReliancePlan, seed: int, preprocessing: Preprocessing,
    bands: Sequence[int] | None = None,
) -> list[ExampleStrip]:  # fmt: skip
    """What a network is shown: the originals, then for each method patches, outline and enclosing circle hidden.

    The image whose object fills least of its circle comes first: of a disc both holes would look alike.

    Holes and fills are those of `ConditionSource`, hence of the measures, for the same seed and sample ids. An image
    without a valid object hole (no object, or no room for the companion blob) is passed over.

    Args:
        batch: a handful of images (B, 3, H, W); where the plan has shapes, at least one of them with an object.
        methods: masking methods, in the order of the strips.
        plan: patches are hidden by the first of its hidden fractions, objects where it has shapes.
        seed: seed for the evaluation masks.
        preprocessing: the network's preprocessing: size of its pictures, and the colour of the fill "mean".
        bands: bands that are shown; see `in_colours`.

    Returns:
        1 + 3 x len(methods) strips, fewer where the plan asks less. Without a fill a grey checkerboard marks the
        hidden pixels: the network is shown nothing there.

    Raises:
        InputError: the plan has shapes, and no image has an object.
    """
    fractions = plan.hidden_fractions[:1]
    shown = ReliancePlan(shapes=plan.shapes, hidden_fractions=fractions, patch_size=plan.patch_size)
    bank = SilhouetteBank.from_batches([batch]) if plan.shapes else None
    drawn = ConditionSource(bank, shown, seed).draw(batch)
    holes = {each.name: each.visible for each in drawn.all}
    order = torch.arange(len(batch.ids))
    if plan.shapes:
        filled = batch.object_mask.flatten(1).sum(dim=1) / (~holes["circle"]).flatten(1).sum(dim=1)
        order = filled.argsort(stable=True)
        order = order[drawn.holes.valid[order]]
    labels = {retention_condition(each): f"{capitalised(in_words(each))} of the patches hidden" for each in fractions}
    if plan.shapes:
        labels |= {
            "silhouette": "Object hidden, and a blob elsewhere",
            "circle": "Enclosing circle of the object hidden",
        }
    originals = preprocessing.resize(batch.images[order])
    strips = [ExampleStrip("Original", None, to_pictures(originals, bands), "clean")]
    for method in methods:
        for condition, label in labels.items():
            images, visible = preprocessing.resize_masked(batch.images, holes[condition])
            images = illustrate(method, images, visible, drawn.fill_keys, preprocessing.mean)
            strips.append(ExampleStrip(label, method, to_pictures(images[order], bands), condition))
    return strips


def to_pictures(images: Tensor, bands: Sequence[int] | None = None) -> tuple[NDArray[np.uint8], ...]:
    """Images (B, C, H, W), float in [0, 1], as (H, W, 3) uint8 arrays, rounded; for `bands` see `in_colours`."""
    pixels = (in_colours(images, bands).detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return tuple(pixels.permute(0, 2, 3, 1).contiguous().numpy())


def examples(strips: Sequence[ExampleStrip]) -> Markup | None:
    """Strips by masking method, in order; None where there is no picture."""
    groups: dict[str | None, list[ExampleStrip]] = {}
    for strip in strips:
        if strip.images:
            groups.setdefault(strip.method, []).append(strip)
    if not groups:
        return None
    text = prose("examples")
    for method, of_method in groups.items():
        title, masked = ("Nothing hidden", False) if method is None else (method_title(method), not is_fill(method))
        text += block("strips", title, of_method, masked)
    return text
