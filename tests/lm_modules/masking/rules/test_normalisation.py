"""Normalisation with the statistics of visible positions."""

import copy

import pytest
import torch
from timm.layers import GroupNormAct, LayerNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    Function,
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)
from tests.lm_modules.masking.networks import randomise


def drawn(module: nn.Module) -> nn.Module:
    """Weights and biases that are not those of a fresh module, in float64."""
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = draw_features(1, 1, 1, parameter.numel(), seed=seed).reshape(parameter.shape) + 0.5
    return module.double()


def affine(features, module: nn.Module):
    return features * exact(module.weight)[:, None, None] + exact(module.bias)[:, None, None]


GROUP_NORMS = {
    "groups": (lambda: nn.GroupNorm(2, 6, eps=1e-3), 2),
    "one group": (lambda: nn.GroupNorm(1, 6, eps=1e-3), 1),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True, eps=1e-3), 6),
    "timm": (lambda: GroupNormAct(6, 3, eps=1e-3, apply_act=False), 3),
}


@pytest.mark.parametrize("name", GROUP_NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_a_group_norm_takes_the_statistics_of_each_images_visible_positions(name: str, training: bool) -> None:
    make, groups = GROUP_NORMS[name]
    module, features, visible = drawn(make()), draw_features(6, 6, 5, 6), draw_visible(5, 6)
    seen = visible[:, 0].numpy()
    expected = affine(reference.group_norm(exact(features), seen, groups, 1e-3), module), seen
    assert_agrees(masked_forward(module, masked(features, visible), training=training), expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_functional_group_norm_is_the_module(weighted: bool) -> None:
    module, x = drawn(nn.GroupNorm(2, 6, affine=weighted)), masked(draw_features(6, 6, 5, 6), draw_visible(5, 6))
    weight, bias = (module.weight.detach(), module.bias.detach()) if weighted else (None, None)
    called = Function(lambda features: F.group_norm(features, 2, weight, bias=bias))
    assert torch.equal(masked_forward(called, x).features, masked_forward(module, x).features)


class ChannelsLast(nn.Module):
    """Layer norm over the channels of (B, H, W, C)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


LAYER_NORMS = {
    "module": lambda: ChannelsLast(nn.LayerNorm(6)),
    "timm": lambda: LayerNorm2d(6, eps=1e-5),
    "functional": lambda: ChannelsLast(Function(lambda x: F.layer_norm(x, [6]))),
    "by name": lambda: ChannelsLast(Function(lambda x: F.layer_norm(x, normalized_shape=(6,), eps=1e-5))),
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_a_layer_norm_takes_the_statistics_of_each_positions_channels(name: str) -> None:
    module, features, visible = drawn(LAYER_NORMS[name]()), draw_features(6, 6, 5, 6), draw_visible(5, 6)
    weights = getattr(module, "norm", module)
    expected = reference.layer_norm(exact(features))
    expected = affine(expected, weights) if hasattr(weights, "weight") else expected
    assert_agrees(masked_forward(module, masked(features, visible)), (expected, visible[:, 0].numpy()))
    assert_differentiable(module, 6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_global_response_norm_weighs_channels_by_their_visible_values(channels_last: bool) -> None:
    norm = drawn(GlobalResponseNorm(6, channels_last=channels_last))
    module = ChannelsLast(norm) if channels_last else norm
    features, visible = draw_features(6, 6, 5, 6), draw_visible(5, 6)
    x, seen = exact(features), visible[:, 0].numpy()
    expected = x.copy()
    for b in range(6):
        lengths = (x[b][:, seen[b]] ** 2).sum(axis=1) ** 0.5
        shares = lengths / (lengths.mean() + norm.eps)
        expected[b] += exact(norm.bias)[:, None, None] + (exact(norm.weight) * shares)[:, None, None] * x[b]
    assert_agrees(masked_forward(module, masked(features, visible)), (expected, seen))
    assert_differentiable(module, 6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("tracks", [False, True])
def test_a_batch_norm_takes_the_batchs_visible_positions_where_it_has_no_statistics(
    training: bool, tracks: bool
) -> None:
    module = randomise(nn.BatchNorm2d(6)) if tracks else drawn(nn.BatchNorm2d(6, track_running_stats=False))
    module, features, visible = module.double(), draw_features(6, 6, 5, 6), draw_visible(5, 6)
    before, seen = copy.deepcopy(module.state_dict()), visible[:, 0].numpy()
    values = reference.visible_values(exact(features), seen)
    mean, variance = values.mean(axis=0), values.var(axis=0)
    if tracks and not training:
        mean, variance = exact(module.running_mean), exact(module.running_var)
    expected = reference.batch_norm(exact(features), mean, variance, exact(module.weight), exact(module.bias))
    assert_agrees(masked_forward(module, masked(features, visible), training=training), (expected, seen))
    unchanged = all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert unchanged is not (tracks and training)
    if tracks and training:
        torch.testing.assert_close(module.running_mean, 0.9 * before["running_mean"] + 0.1 * torch.from_numpy(mean))
        unbiased = torch.from_numpy(values.var(axis=0, ddof=1))
        torch.testing.assert_close(module.running_var, 0.9 * before["running_var"] + 0.1 * unbiased)


def test_a_functional_batch_norm_may_use_given_statistics() -> None:
    module, x = randomise(nn.BatchNorm2d(6)).double(), masked(draw_features(6, 6, 5, 6), draw_visible(5, 6))
    mean, variance = module.running_mean, module.running_var
    weight, bias = module.weight.detach(), module.bias.detach()
    called = Function(lambda features: F.batch_norm(features, mean, variance, weight, bias))
    torch.testing.assert_close(masked_forward(called, x).features, masked_forward(module, x).features)
