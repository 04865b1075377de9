"""Optimisers and schedules by name, and `SampleMean`, in which every sample counts once."""

import math

import pytest
import torch
from torch import nn, optim

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.training.optimisation import build_optimiser, build_schedule, follow_length
from maskrobust.lm_modules.training.sample_mean import SampleMean

PEAK = 0.4


def rates(name, steps, warmup_fraction):
    """Learning rate of each optimiser step, and after the last."""
    optimiser = optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = build_schedule(optimiser, name, steps, warmup_fraction)
    history = []
    for _ in range(steps + 1):
        history.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return history


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_only_weights_of_two_or_more_axes_decay(name):
    network = SmallResNet(4, width=16)
    network.conv1.weight.requires_grad_(False)
    decayed, kept = build_optimiser(network, name, 0.1, 0.05, 0.9).param_groups
    assert decayed["weight_decay"] == 0.05 and kept["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    kept_names = {names[id(parameter)] for parameter in kept["params"]}
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert decayed_names | kept_names == trained and not decayed_names & kept_names
    assert "fc.weight" in decayed_names and "layer2.0.conv1.weight" in decayed_names
    assert {"fc.bias", "bn1.weight", "bn1.bias"} <= kept_names
    assert "conv1.weight" not in trained


@pytest.mark.parametrize(
    ("name", "momentum", "kind"), [("sgd", 0.9, optim.SGD), ("sgd", 0.0, optim.SGD), ("adamw", 0.9, optim.AdamW)]
)
def test_the_optimiser_is_the_one_named(name, momentum, kind):
    optimiser = build_optimiser(SmallResNet(2, width=16), name, 0.1, 0.0, momentum)
    assert type(optimiser) is kind
    for group in optimiser.param_groups:
        assert group["lr"] == 0.1
        if kind is optim.SGD:
            assert group["momentum"] == momentum and group["nesterov"] is (momentum > 0)


def test_the_cosine_ends_at_zero_and_the_constant_stays():
    cosine, constant = rates("cosine", 40, 0.25), rates("constant", 40, 0.25)
    assert constant[10:] == pytest.approx([PEAK] * 31)
    expected = [PEAK * (1 + math.cos(math.pi * step / 30)) / 2 for step in range(31)]
    assert cosine[10:] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("before", "now"), [(20, 50), (50, 20), (2, 50), (50, 2)])
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_training_that_goes_on_with_another_length_has_the_rates_of_that_length(name, before, now):
    def begun(steps):
        optimiser = optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
        return optimiser, build_schedule(optimiser, name, steps, 0.1)

    done = min(before, now)
    optimiser, schedule = begun(before)
    for _ in range(done):
        optimiser.step()
        schedule.step()
    states = schedule.state_dict(), optimiser.state_dict()
    follow_length(*states, name, now, 0.1)
    optimiser, schedule = begun(now)
    schedule.load_state_dict(states[0])
    optimiser.load_state_dict(states[1])
    rest = []
    for _ in range(done, now + 1):
        rest.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rest == rates(name, now, 0.1)[done:]


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
