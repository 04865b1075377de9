"""Optimisers and schedules by name."""

import math

import pytest
import torch
from torch import nn, optim

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.training.optimisation import build_optimiser, build_schedule, follow_length

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
