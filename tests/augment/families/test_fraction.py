"""The hidden fraction that every family draws."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import sample_keys
from maskrobust.augment.families.registry import draw_hidden_fraction

KEYS = sample_keys(0, torch.arange(5000))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.1, 0.9), (0.25, 0.3), (0.0, 0.01), (0.99, 1.0)])
def test_the_fraction_is_uniform_over_the_range(bounds: tuple[float, float]) -> None:
    low, high = bounds
    drawn = draw_hidden_fraction(KEYS, bounds)
    assert drawn.dtype == torch.float32 and drawn.shape == (5000,)
    assert drawn.min() >= torch.tensor(low) and drawn.max() <= torch.tensor(high)
    assert stats.kstest(drawn.double(), stats.uniform(low, high - low).cdf).pvalue > 1e-3
