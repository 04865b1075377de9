"""A few images with their holes exchanged, and what each network answers: pictures for a page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from maskrobust.augment import Batch, HoleBank
from maskrobust.lm_modules.methods import MaskingMethod, illustrate
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource
from maskrobust.lm_modules.reliance.holes.own import EXCHANGED
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data_options import Split
from maskrobust.train.report.blocks import prose
from maskrobust.train.report.examples import of_different_classes, to_pictures
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import in_sentence, method_title

PICTURES = 3


class ExchangedImage(NamedTuple):
    """An image with its own hole, and with that of another image.

    Attributes:
        class_name: what it shows.
        own: (H, W, 3) uint8.
        exchanged: (H, W, 3) uint8.
        answers: names of the classes that a network names behind the one and the other, by network and masking method.
    """

    class_name: str
    own: NDArray[np.uint8]
    exchanged: NDArray[np.uint8]
    answers: Mapping[tuple[str, str], tuple[str, str]]


def draw_exchanged(
    data: AnnotatedDataModule,
    split: Split,
    runs: Mapping[str, Mapping[MaskingMethod, Outcomes]],
    bank: HoleBank | None,
    preprocessing: Preprocessing,
    seed: int,
) -> list[ExchangedImage]:
    """The first images of a split that have a hole and are given another one, of different classes where there are.

    Nothing else chooses them, no answer in particular.

    Args:
        data: set up for the split.
        split: whose images.
        runs: outcomes by network and masking method; those without exchanged holes are passed over.
        bank: the images that lend their holes; None where there are none.
        preprocessing: how pictures are resized, and the colour of the fill "mean".
        seed: seed of the measures' holes.
    """
    asked = {
        (name, method): outcomes
        for name, by_method in runs.items()
        for method, outcomes in by_method.items()
        if EXCHANGED in outcomes.predictions
    }
    if bank is None or not asked:
        return []
    (_, method), outcomes = next(iter(asked.items()))
    usable = set(outcomes.ids[outcomes.predictions_under(EXCHANGED) >= 0].tolist()) & set(
        bank.ids[bank.has_hole()].tolist()
    )
    few: Batch | None = None
    for batch in (each.to("cpu") for each in data.whole_split(split)):
        some = batch.select(torch.tensor([each in usable for each in batch.ids.tolist()]))
        few = of_different_classes(some if few is None else Batch.cat([few, some]), PICTURES)
        if len(few.labels.unique()) >= min(PICTURES, data.num_classes) and len(few.ids) >= PICTURES:
            break
    if few is None or not len(few.ids):
        return []
    drawn = ConditionSource(None, ReliancePlan(shapes=False, hidden_fractions=(), own_holes=1), seed, bank).draw(few)
    (given,) = (each for each in drawn.all if each.name == EXCHANGED)
    shown = []
    for images, visible in (
        (few.images, few.known),
        (few.images if given.images is None else given.images, given.visible),
    ):
        resized = preprocessing.resize_masked(images, visible)
        filled = illustrate(method, *resized, drawn.fill_keys, preprocessing.mean)
        shown.append(to_pictures(filled, data.show_bands))
    names = dict(enumerate(data.class_names))
    return [
        ExchangedImage(names[label], own, other, {key: _answers(each, sample, names) for key, each in asked.items()})
        for label, sample, own, other in zip(few.labels.tolist(), few.ids.tolist(), *shown, strict=True)
    ]


def _answers(outcomes: Outcomes, sample: int, names: Mapping[int, str]) -> tuple[str, str]:
    """The classes that are named of a sample with its own hole and with another one."""
    (row,) = np.flatnonzero(outcomes.ids == sample)
    clean, exchanged = (int(outcomes.predictions_under(each)[row]) for each in ("clean", EXCHANGED))
    return names.get(clean, "another class"), names.get(exchanged, "another class")


def exchanged_block(results: Results, shown: Sequence[ExchangedImage]) -> Markup:
    """The pictures with their answers; nothing where there is none."""
    if not shown:
        return Markup()
    titles = {network.name: network.title for network in results.networks}
    rows = [(titles[name], in_sentence(method_title(method)), (name, method)) for name, method in shown[0].answers]
    return prose("exchanged", shown=shown, rows=rows)
