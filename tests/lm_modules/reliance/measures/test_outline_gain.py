"""The shape's gain in log-odds against its definition, image by image."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measurement import log_odds
from maskrobust.lm_modules.reliance.measures.shape import shape_gain
from tests.lm_modules.reliance.tables import make_outcomes


def odds_of(logits, label):
    """The definition, with probabilities."""
    probability = math.exp(logits[label]) / sum(map(math.exp, logits))
    return math.log(probability / (1.0 - probability))


def test_log_odds_are_of_a_class_against_all_others():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(20, 5)), rng.integers(0, 5, (20, 3))
    found = log_odds(torch.from_numpy(logits), torch.from_numpy(classes))
    expected = [[odds_of(row, label) for label in labels] for row, labels in zip(logits, classes, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected)
    far = log_odds(torch.tensor([[200.0, 0.0, 0.0]]), torch.tensor([[0, 1]]))  # where probabilities are 1 and 0
    np.testing.assert_allclose(far.numpy(), [[200.0 - math.log(2.0), -200.0]], rtol=1e-6)
    assert log_odds(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64)).isnan().all()


def test_the_gain_is_paired_by_image_over_those_that_count():
    outcomes = make_outcomes(40, seed=3, invalid=(4, 9))
    odds = {name: each.astype(np.float64) for name, each in outcomes.log_odds.items()}
    valid = outcomes.swap_valid
    towards = odds["swap_j"][:, 1] - odds["swap_k"][:, 1] + odds["swap_k"][:, 2] - odds["swap_j"][:, 2]
    found = estimate(shape_gain(), [outcomes])
    assert found.value == pytest.approx(towards[valid].mean() / 2, rel=1e-5)
    assert (found.images, found.left_out) == (38, 2) and found.low < found.value < found.high
    unknown = replace(outcomes, log_odds={name: np.full_like(each, np.nan) for name, each in outcomes.log_odds.items()})
    assert estimate(shape_gain(), [unknown]).value is None
    with pytest.raises(InputError, match="outcomes must hold log-odds"):
        shape_gain().columns(replace(outcomes, log_odds={}))
