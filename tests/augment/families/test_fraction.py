"""The hidden fraction that every family draws."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import sample_keys
from maskrobust.augment.families.fraction import check_hidden_fraction, draw_hidden_fraction

KEYS = sample_keys(0, torch.arange(5000))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.1, 0.9), (0.25, 0.3), (0.0, 0.01), (0.99, 1.0)])
def test_the_fraction_is_uniform_over_the_range(bounds: tuple[float, float]) -> None:
    low, high = bounds
    drawn = draw_hidden_fraction(KEYS, bounds)
    assert drawn.dtype == torch.float32 and drawn.shape == (5000,)
    assert drawn.min() >= torch.tensor(low) and drawn.max() <= torch.tensor(high)
    assert stats.kstest(drawn.double(), stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1 / 3, 0.5, 0.7, 1.0])
def test_equal_bounds_fix_the_fraction(fraction: float) -> None:
    assert (draw_hidden_fraction(KEYS, (fraction, fraction)) == torch.tensor(fraction)).all()


@pytest.mark.parametrize(
    "bounds", [(-0.1, 0.5), (0.5, 1.1), (0.6, 0.5), (float("nan"), 0.5), (0.5, float("nan")), (0.0, float("inf"))]
)
def test_a_range_outside_zero_to_one_or_out_of_order_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="hidden_fraction"):
        check_hidden_fraction(bounds)
    with pytest.raises(ValueError, match="hidden_fraction"):
        draw_hidden_fraction(KEYS, bounds)
