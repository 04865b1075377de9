"""The colour that each fill draws."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import fill_mean, fill_random_colour, sample_keys

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_dtype
@pytest.mark.parametrize("mean", [(0.485, 0.456, 0.406), [0.1], (0.0, 1.0)])
def test_the_mean_goes_into_its_own_channel(dtype: torch.dtype, mean: list[float]) -> None:
    channels = len(mean)
    filled = fill_mean(torch.ones(2, channels, 3, 3, dtype=dtype), torch.zeros(2, 1, 3, 3, dtype=torch.bool), mean)
    for channel, value in enumerate(mean):
        assert (filled[:, channel] == torch.tensor(value, dtype=dtype)).all()


def test_random_colours_are_uniform_and_independent_over_images_and_channels():
    keys = sample_keys(0, torch.arange(4000))
    colours = fill_random_colour(torch.ones(4000, 3, 1, 1), torch.zeros(4000, 1, 1, 1, dtype=torch.bool), keys)
    red, green, blue = colours.flatten(1).unbind(dim=1)
    for channel in (red, green, blue):
        assert stats.kstest(channel, "uniform").pvalue > 1e-3
    for first, second in [(red, green), (red, blue), (green, blue), (red[1:], red[:-1])]:
        assert stats.pearsonr(first, second).pvalue > 1e-3
