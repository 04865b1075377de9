"""The nearest picture against its definition, picture by picture."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measures.nearest import nearest, nearest_centred, nearest_is_own
from tests.lm_modules.reliance.tables import make_outcomes


def cosine(one, other):
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


def looked_up(hidden, clean):
    """The definition, with Python's numbers."""
    found = []
    for place, features in enumerate(hidden):
        near = [cosine(features, candidate) for candidate in clean]
        found.append(all(near[place] > each + 1e-6 for other, each in enumerate(near) if other != place))
    return found


@pytest.mark.parametrize("rows", [64, 1024])
def test_it_is_the_picture_with_the_largest_cosine_and_a_tie_is_none(rows, monkeypatch):
    monkeypatch.setattr("maskrobust.lm_modules.reliance.measures.nearest._MOST_ROWS", rows)
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(300, 6)).astype(np.float32)
    hidden = (clean + rng.normal(size=clean.shape) * rng.uniform(0, 2, (300, 1))).astype(np.float32)
    clean[7], clean[290] = 3 * clean[5], 0
    hidden[[5, 7, 290]] = clean[[5, 7, 290]]
    found = nearest_is_own(torch.from_numpy(hidden), torch.from_numpy(clean)).tolist()
    assert found == looked_up(hidden.tolist(), clean.tolist())
    assert 0.1 < np.mean(found) < 0.9 and not found[5] and not found[7] and not found[290]


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=1, max_size=12), st.sampled_from([0.5, 1.0, 7.0]))
def test_with_nothing_hidden_each_picture_is_nearest_to_itself_unless_another_has_its_features(rows, scale):
    features = torch.tensor(rows).float()
    directions = [(x // (math.gcd(x, y) or 1), y // (math.gcd(x, y) or 1)) for x, y in rows]
    alone = [directions.count(each) == 1 and (each != (0, 0) or len(rows) == 1) for each in directions]
    assert nearest_is_own(scale * features, features).tolist() == alone


def test_the_measure_is_their_fraction_with_an_interval_over_objects():
    outcomes = make_outcomes(60, seed=2)
    expected = looked_up(outcomes.features["retention/0.5"].tolist(), outcomes.features["clean"].tolist())
    found = estimate(nearest(0.5), [outcomes], replicates=200)
    assert nearest(0.5).columns(outcomes).values.tolist() == [expected] and 0 < np.mean(expected) < 1
    assert found.value == pytest.approx(np.mean(expected)) and found.images == 60
    pairs = estimate(nearest(0.5), [replace(outcomes, objects=outcomes.objects // 20)], replicates=200)
    assert pairs.value == found.value and (pairs.low, pairs.high) != (found.low, found.high)
    whole = replace(
        outcomes, features={"clean": outcomes.features["clean"], "retention/0.5": outcomes.features["clean"]}
    )
    assert estimate(nearest(0.5), [whole], replicates=20).value == 1.0
    with pytest.raises(ValueError, match=r"none under 'retention/0\.7'; set nearest in the plan"):
        estimate(nearest(0.7), [outcomes])


@pytest.mark.parametrize("numbers", [20, 2**21])
def test_a_shift_that_all_pictures_share_does_not_count_once_means_are_subtracted(numbers, monkeypatch):
    monkeypatch.setattr("maskrobust.lm_modules.reliance.measures.nearest._MOST_NUMBERS", numbers)
    rng = np.random.default_rng(3)
    outcomes = make_outcomes(60, seed=2)
    hidden, clean = outcomes.features["retention/0.5"], outcomes.features["clean"]
    centred = [(each - each.mean(axis=0)).tolist() for each in (hidden.astype(float), clean.astype(float))]
    expected = looked_up(*centred)
    assert nearest_centred(0.5).columns(outcomes).values.tolist() == [expected]
    shift = (40 * rng.normal(size=(1, hidden.shape[1]))).astype(np.float32)
    shifted = replace(outcomes, features={"clean": clean, "retention/0.5": hidden + shift})
    assert estimate(nearest_centred(0.5), [shifted], replicates=20).value == pytest.approx(np.mean(expected), abs=0.02)
    assert estimate(nearest(0.5), [shifted], replicates=20).value < 0.2
