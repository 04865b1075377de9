"""`SampleMean`: a mean in which every sample counts once."""

import pytest
import torch

from maskrobust.lm_modules.training.sample_mean import SampleMean

VALUES = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.25, 1.0])


def mean_over(*batches):
    """The mean of `VALUES` when they come in these batches of ids."""
    metric = SampleMean()
    for ids in batches:
        metric.update(torch.tensor(ids), VALUES[ids])
    return metric.compute()


@pytest.mark.parametrize(
    "batches",
    [
        ([0, 1, 2, 3, 4, 5, 6],),
        ([0, 1, 2, 3], [4, 5, 6]),
        ([0, 2, 4, 6], [1, 3, 5, 0]),
        ([6, 6, 6], [0, 1, 2], [3, 4, 5], [6, 6, 6]),
    ],
)
def test_every_sample_counts_once_however_often_and_wherever_it_comes(batches):
    assert torch.equal(mean_over(*batches), VALUES.mean())


def test_the_first_value_of_a_sample_counts():
    metric = SampleMean()
    metric.update(torch.tensor([3, 8, 3]), torch.tensor([1.0, 2.0, 9.0]))
    metric.update(torch.tensor([8]), torch.tensor([7.0]))
    assert metric.compute() == 1.5
