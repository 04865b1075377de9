"""Both controls and what lies between: networks whose use of the outline is known, and intervals that hold it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from maskrobust.augment import SilhouetteBank, uniform
from maskrobust.augment.families.holes import enclosing_circles
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.accuracy import silhouette_accuracy
from maskrobust.lm_modules.reliance.measures.shape import shape_choice, silhouette_leak
from maskrobust.lm_modules.reliance.plan import ReliancePlan
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


PREDICTORS = {
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


def figure(measure, outcomes, confidence=0.95):
    return estimate(measure, [outcomes], confidence=confidence).interval


def test_a_network_that_reads_only_the_outline_is_right_behind_it_alone(outcomes):
    assert figure(silhouette_leak(), outcomes["reader"]).low > 0.6
    assert figure(shape_choice(), outcomes["reader"]).low > 0.95


@pytest.mark.parametrize("name", ["guesser", "constant", "circle"])
def test_a_network_that_cannot_see_the_outline_scores_zero(outcomes, name):
    for measure, blind in ((silhouette_leak(), 0.0), (shape_choice(), 0.5)):
        found = figure(measure, outcomes[name])
        assert found.low <= blind <= found.high
        assert found.high - found.low < 0.35


def test_a_network_that_reads_the_outline_and_is_misled_by_it_has_a_negative_leak(outcomes):
    assert figure(silhouette_leak(), outcomes["contrarian"]).high < 0.0
    assert figure(shape_choice(), outcomes["contrarian"]).high < 0.5


COLOURS = torch.eye(4, 3)
"""Of a rim beside an object, by its class."""


class Pointwise(torch.nn.Sequential):
    """Convolutions of 1 x 1 and a mean over a grid of places: on a grid of 1 it can see neither shape nor place."""

    def __init__(self, places=1):
        count, pool, flat = torch.nn.Conv2d(3, NUM_CLASSES, 1), torch.nn.AdaptiveAvgPool2d(places), torch.nn.Flatten()
        count.weight.data, count.bias.data = 2 * COLOURS[:, :, None, None] - 1, 0.05 - COLOURS.sum(dim=1)
        super().__init__(count, torch.nn.ReLU(), pool, flat)


def asked_about(network, batch):
    """What a network of 1 x 1 convolutions answers where holes are grey."""

    def predict(images, visible, keys):
        with torch.no_grad():
            return network(images.where(visible, torch.tensor(0.5))).double()

    plan, bank = ReliancePlan(hidden_fractions=()), SilhouetteBank.from_batches([batch])
    return Measurement({"network": Asked(predict, plan)}, bank, NUM_CLASSES).ask(batch)["network"]


def test_a_network_that_cannot_see_shapes_is_blind_beside_a_rim_that_tells_the_class():
    batch = shape_batch(400, 0)
    rim = F.max_pool2d(batch.object_mask.float(), 3, 1, 1).bool() & ~batch.object_mask
    rim &= enclosing_circles(batch.object_mask)
    images = torch.where(rim, COLOURS[batch.labels][:, :, None, None], 0.5 + 0.1 * (batch.images - 0.5))
    found = asked_about(Pointwise(), batch._replace(images=images))
    assert figure(silhouette_leak(), found).low > 0.2  # outline or surroundings
    choices = figure(shape_choice(), found)
    assert 0.45 < choices.low < 0.5 < choices.high < 0.55


def test_a_network_that_sees_where_a_hole_is_and_no_shape_is_blind_where_the_place_tells_the_class():
    batch = shape_batch(400, 0)
    hidden = batch.object_mask.double()
    rows, columns = (hidden.sum(dim=(1, dim)).argmax(dim=1) >= 16 for dim in (3, 2))
    batch = batch._replace(labels=2 * rows.long() + columns.long())  # the quadrant of the object

    class Place(torch.nn.Module):
        def forward(self, images):
            grey = (images == 0.5).all(dim=1, keepdim=True).double()
            return 20 * F.adaptive_avg_pool2d(grey, 2).flatten(1)

    found = asked_about(Place(), batch)
    assert figure(silhouette_accuracy(), found).low > 0.6
    choices = figure(shape_choice(), found)
    assert 0.45 < choices.low < 0.5 < choices.high < 0.55
