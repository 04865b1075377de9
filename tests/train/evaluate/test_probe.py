"""The mask-only probe is a bound: it reads what outlines hold, and a simple other reader does not read more."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes, probe_outcomes
from maskrobust.train.data import Cues
from maskrobust.train.probe import train_outline_probe

CLASSES, SIDE, NEIGHBOURS = 4, 24, 15
TOLERANCE = 0.1  # four standard errors of the difference of two readers that guess
INFORMATIVENESS = (0.0, 0.5, 1.0)


def cues(informativeness: float) -> Cues:
    return Cues(
        train_images=1200,
        val_images=200,
        test_images=600,
        image_size=32,
        num_classes=CLASSES,
        outline_informativeness=informativeness,
    )


@pytest.fixture(scope="module", params=INFORMATIVENESS)
def read(request: pytest.FixtureRequest) -> tuple[Cues, ProbeOutcomes]:
    data = cues(request.param)
    return data, probe_outcomes(train_outline_probe(data, seed=0), data.test_dataloader())


def accuracy(outcomes: ProbeOutcomes) -> float:
    return float((outcomes.predictions == outcomes.labels).mean())


def test_the_probe_reaches_what_a_perfect_reader_of_outlines_can(read: tuple[Cues, ProbeOutcomes]) -> None:
    """A perfect reader names the outline's class: right in s + (1 - s) / K of cases."""
    data, outcomes = read
    causes = data.causes(torch.from_numpy(outcomes.ids))
    perfect = (causes.outlines == causes.labels).double().mean().item()
    informativeness = data.outline_informativeness
    assert perfect == pytest.approx(informativeness + (1 - informativeness) / CLASSES, abs=0.05)
    assert accuracy(outcomes) == pytest.approx(perfect, abs=TOLERANCE)


def test_nearest_neighbours_by_overlap_do_not_read_more(read: tuple[Cues, ProbeOutcomes]) -> None:
    data, outcomes = read
    train, test = data.samples("train"), data.samples("test")
    overlap = overlaps(cut_out(test.object_mask), cut_out(train.object_mask))
    nearest = np.argpartition(-overlap, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.stack([np.bincount(row, minlength=CLASSES) for row in train.labels.numpy()[nearest]])
    others = float((votes.argmax(axis=1) == test.labels.numpy()).mean())
    assert others > 0.8 * data.outline_informativeness
    assert accuracy(outcomes) > others - TOLERANCE


def test_a_probe_learns_nothing_from_objects_without_labels() -> None:
    data = Cues(train_images=4, val_images=4, test_images=4, image_size=32, num_classes=CLASSES)
    data.samples("train").labels.fill_(-1)
    with pytest.raises(InputError, match=r"^the mask-only probe learns the classes .* those of Cues have no labels;"):
        train_outline_probe(data, seed=0)


def cut_out(object_mask: Tensor) -> NDArray[np.float32]:
    """Every mask's bounding box, stretched to a square of `SIDE` pixels: (N, SIDE ** 2) of 0 or 1."""
    rows = []
    for mask in object_mask[:, 0].numpy():
        down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        steps = (np.arange(SIDE) + 0.5) / SIDE
        row = (down[0] + steps * (np.ptp(down) + 1)).astype(int)
        column = (across[0] + steps * (np.ptp(across) + 1)).astype(int)
        rows.append(mask[np.ix_(row, column)].ravel())
    return np.array(rows, dtype=np.float32)


def overlaps(masks: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of each mask with each of the others, (N, M)."""
    both = masks @ others.T
    return both / (masks.sum(axis=1)[:, None] + others.sum(axis=1) - both)
