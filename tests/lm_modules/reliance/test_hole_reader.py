"""The reader of holes alone: it finds what was planted, and nothing where there is nothing."""

import numpy as np
import pytest
import torch

from maskrobust.augment import HoleBank
from maskrobust.lm_modules.reliance import hole_reader
from maskrobust.lm_modules.reliance.hole_reader import hole_features, read_holes
from tests.lm_modules.reliance.shapes import NUM_CLASSES, draw_shape

SIZE = 32


def holes(told, count=80, seed=0, classes=NUM_CLASSES):
    """A bank in which shape, place, size or presence of the hole goes with the class, or nothing does."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    visible = np.ones((count, 1, SIZE, SIZE), dtype=bool)
    for number, label in enumerate(labels):
        kind, quarter, radius = rng.integers(4), rng.integers(4), rng.integers(4, 8)
        if told == "shape":
            kind = label
        if told == "place":
            quarter = label
        if told == "size":
            radius = 3 + 2 * label
        row, column = (8 + 15 * int(part) + rng.integers(2) for part in divmod(quarter, 2))
        if told == "size":
            row, column = rng.integers(10, 22, 2)
        hole = draw_shape(int(kind), int(row), int(column), int(radius))
        if told != "presence" or rng.random() < (0.9 if label == 0 else 0.1):
            visible[number, 0] = ~hole
    ids = torch.arange(count)
    return HoleBank(torch.from_numpy(visible), torch.from_numpy(labels), ids, ids)


@pytest.mark.parametrize("told", ["shape", "place", "size", "presence"])
def test_it_names_what_tells_the_class(told):
    found = read_holes(holes(told, count=120))
    everything, own = found.readings["everything"], found.readings[told]
    assert found.tell and told in found.telling
    assert own.order.value == max(found.readings[each].order.value for each in found.telling)
    most = {"presence": 0.6}.get(told, 0.9)  # presence tells one class of four from the others, not these apart
    assert everything.order.value > most and everything.order.low > 0.5
    assert everything.pull.value > (0.1 if told == "presence" else 0.6)


def test_holes_that_are_all_alike_tell_nothing():
    bank = holes("nothing")
    found = read_holes(HoleBank(bank.visible[:1].expand_as(bank.visible), bank.labels, bank.ids, bank.objects))
    assert not found.tell and found.telling == ()
    for reading in found.readings.values():
        assert reading.order.value == 0.5 and reading.pull.value == 0.0 and reading.p_value == 1.0
        assert reading.order.low < 0.5 < reading.order.high


def test_it_is_blind_where_nothing_is_told_and_seldom_says_otherwise():
    found = [read_holes(holes("nothing", 60, seed)).readings["everything"] for seed in range(20)]
    assert np.mean([each.order.value for each in found]) == pytest.approx(0.5, abs=0.05)
    assert sum(each.p_value <= 0.05 for each in found) <= 4  # one of 20 is expected; more than 4 in 0.3 % of cases
    assert sum(each.order.low <= 0.5 <= each.order.high for each in found) >= 17
    assert sum(each.pull.low <= 0.0 <= each.pull.high for each in found) >= 17


def test_pictures_of_one_object_are_read_together():
    """Two pictures of each object have one hole: a reader that has seen the one knows the other."""
    once = holes("nothing", 60)
    shuffled = once.labels[torch.randperm(60, generator=torch.Generator().manual_seed(1))]
    visible, labels = (each.repeat_interleave(2, dim=0) for each in (once.visible, shuffled))
    apart = HoleBank(visible, labels, torch.arange(120), torch.arange(120))
    together = HoleBank(visible, labels, torch.arange(120), torch.arange(120) // 2)
    known, unknown = read_holes(apart), read_holes(together)
    assert known.tell and known.readings["everything"].order.value > 0.75
    assert not unknown.tell and unknown.readings["everything"].order.value < 0.6


def test_weights_are_those_of_a_fit_without_the_fold():
    bank = holes("shape", 40)
    features = hole_features(bank.visible, "everything")
    folds = torch.arange(40) % 4
    weights = hole_reader._left_out_weights(features, folds)
    labels = torch.nn.functional.one_hot(bank.labels).double()
    squared = (features[:, None] - features).square().sum(dim=2)
    scaled = squared / squared[squared > 1e-9].median()
    kernel = 10.0 + torch.exp(-scaled) + torch.exp(-4 * scaled)
    for fold in range(4):
        out, kept = folds == fold, folds != fold
        fitted = torch.linalg.solve(kernel[kept][:, kept] + torch.eye(int(kept.sum())), labels[kept])
        assert torch.allclose(weights[out] @ labels, kernel[out][:, kept] @ fitted, atol=1e-10)
        assert (weights[out][:, out] == 0).all()


def test_too_little_to_read_is_undefined_with_a_sentence():
    bank = holes("shape", 40)
    one_class = HoleBank(bank.visible, torch.zeros_like(bank.labels), bank.ids, bank.objects)
    for each in (one_class, bank.select(torch.arange(2))):
        found = read_holes(each)
        assert not found.tell and found.readings["everything"].order.value is None
        assert "two classes and three objects" in (found.readings["everything"].order.undefined_because or "")


def test_of_many_images_some_are_read_whatever_their_order(monkeypatch):
    monkeypatch.setattr(hole_reader, "MOST_IMAGES", 60)
    bank = holes("place", 200)
    found = read_holes(bank)
    assert found.images == 60 and found.tell
    assert found == read_holes(bank.select(torch.arange(200)))
