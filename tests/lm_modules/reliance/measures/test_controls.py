"""Both controls and what lies between: networks whose use of the outline is known, and intervals that hold it."""

import numpy as np
import pytest
import torch

from maskrobust.augment import SilhouetteBank, uniform
from maskrobust.augment.families.holes import enclosing_circles
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.shape import shape_choice, silhouette_leak, used_share
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes, probe_outcomes, train_probe
from tests.lm_modules.reliance.shapes import (
    NUM_CLASSES,
    as_logits,
    largest_piece,
    read_outline,
    shape_bank,
    shape_batch,
)


def guess(keys, visible):
    """A class that changes with the hole but has nothing to do with its shape."""
    places = torch.arange(visible[0].numel()).reshape(visible.shape[1:])
    return (uniform(keys ^ (~visible * places).sum(dim=(1, 2, 3))) * NUM_CLASSES).long()


def outline_reader(images, visible, keys):
    return as_logits(read_outline(~visible))


def blind_guesser(images, visible, keys):
    return as_logits(guess(keys, visible))


def constant(images, visible, keys):
    return as_logits(torch.zeros_like(keys))


def circle_reader(images, visible, keys):
    """Sees no more of the hole than the enclosing circle of its largest piece."""
    pieces = torch.from_numpy(np.stack([largest_piece(hole) for hole in (~visible[:, 0]).numpy()])).unsqueeze(1)
    return as_logits(enclosing_circles(pieces).sum(dim=(1, 2, 3)) % NUM_CLASSES)


def contrarian(images, visible, keys):
    """Reads the outline and names another class."""
    return as_logits((read_outline(~visible) + 1) % NUM_CLASSES)


PREDICTORS: dict[str, Predictor] = {
    "reader": outline_reader,
    "guesser": blind_guesser,
    "constant": constant,
    "circle": circle_reader,
    "contrarian": contrarian,
}


@pytest.fixture(scope="module")
def batch():
    return shape_batch(400, 0)


@pytest.fixture(scope="module")
def outcomes(batch):
    plan = ReliancePlan(hidden_fractions=())
    asked = {name: Asked(predict, plan) for name, predict in PREDICTORS.items()}
    return Measurement(asked, shape_bank(), NUM_CLASSES).ask(batch)


@pytest.fixture(scope="module")
def trained_probe():
    train, held_out = (SilhouetteBank.from_batches([shape_batch(*each)]) for each in ((1200, 1), (200, 2)))
    return train_probe(train, held_out, NUM_CLASSES, seed=0, max_epochs=8)


@pytest.fixture(scope="module")
def probe(batch, trained_probe):
    return probe_outcomes(trained_probe, [batch])


def figure(measure, outcomes, confidence=0.95):
    found = estimate(measure, [outcomes], confidence=confidence).interval
    assert found is not None
    return found


def test_a_network_that_reads_only_the_outline_scores_one(outcomes, probe):
    assert figure(used_share(probe), outcomes["reader"]).value == pytest.approx(1.0, abs=0.1)
    own = ProbeOutcomes(probe.ids, outcomes["reader"].predictions_under("silhouette"), probe.labels)
    share = figure(used_share(own), outcomes["reader"])
    assert share.low <= 1.0 <= share.high
    assert share.low > 0.8
    assert figure(shape_choice(), outcomes["reader"]).low > 0.95


@pytest.mark.parametrize("name", ["guesser", "constant", "circle"])
def test_a_network_that_cannot_see_the_outline_scores_zero(outcomes, probe, name):
    for measure, blind in ((used_share(probe), 0.0), (silhouette_leak(), 0.0), (shape_choice(), 0.5)):
        found = figure(measure, outcomes[name])
        assert found.low <= blind <= found.high
        assert found.high - found.low < 0.35


def test_a_network_that_reads_the_outline_and_is_misled_by_it_has_a_negative_share(outcomes, probe):
    for measure in (silhouette_leak(), used_share(probe)):
        assert figure(measure, outcomes["contrarian"]).high < 0.0
    assert figure(shape_choice(), outcomes["contrarian"]).high < 0.5
