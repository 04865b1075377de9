"""Operations that compute each position from that position alone."""

import inspect

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError
from maskrobust.lm_modules.masking.rules.pointwise import ACTIVATIONS
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    DIFFERENTIABLE,
    Function,
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)

MODULES = [
    nn.Threshold(0.1, 0.2) if kind is nn.Threshold else kind() for kind in ACTIVATIONS if inspect.isclass(kind)
] + [nn.Identity(), nn.Softmax2d(), nn.LocalResponseNorm(3), nn.PReLU(4, dtype=torch.float64)]
CALLS = {
    "activations": lambda x: F.silu(F.leaky_relu(F.gelu(x), 0.2)) + torch.sigmoid(x).tanh(),
    "arithmetic": lambda x: (-x).abs().exp().sqrt().clamp(max=1.2) ** 2,
    "numbers": lambda x: (2 - x) / 3 + x * 0.5 - 1,
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "dropout in eval mode": lambda x: F.dropout(x, 0.5, training=False),
    "by name": lambda x: torch.relu(input=x),
}


def plain(module: nn.Module, features: Tensor, visible: Tensor) -> tuple:
    """What a module computes of each visible position on its own, one at a time."""
    expected = torch.zeros_like(features)
    for b, y, x in visible[:, 0].nonzero().tolist():
        expected[b, :, y, x] = module(features[b : b + 1, :, y : y + 1, x : x + 1])[0, :, 0, 0]
    return exact(expected), visible[:, 0].numpy()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_pointwise_module_computes_each_position_alone_and_keeps_the_map(module: nn.Module) -> None:
    x = masked(draw_features(6, 4, 3, 4), draw_visible(3, 4))
    result = masked_forward(module, x)
    assert_agrees(result, plain(module, x.features, x.visible.positions))
    assert result.visible is x.visible
    assert_differentiable(module, 4)


@pytest.mark.parametrize("name", CALLS)
def test_functions_and_methods_compute_each_position_alone(name: str) -> None:
    module, x = Function(CALLS[name]), masked(draw_features(6, 4, 3, 4), draw_visible(3, 4))
    assert_agrees(masked_forward(module, x), plain(module, x.features, x.visible.positions))
    assert_differentiable(module, 4)


@pytest.mark.parametrize(
    "activate",
    [nn.ReLU(inplace=True), Function(torch.relu_), Function(lambda x: F.relu(x, inplace=True)), nn.SiLU(inplace=True)],
)
def test_an_activation_in_place_changes_what_was_there(activate: nn.Module) -> None:
    class ReadsAgain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activate = activate

        def forward(self, x: Tensor) -> Tensor:
            y = x * 1.0
            self.activate(y)
            return y + x

    x = masked(draw_features(6, 2, 5, 6), draw_visible(5, 6))
    expected = exact(activate(x.features.clone()) + x.features), x.visible.positions[:, 0].numpy()
    assert_agrees(masked_forward(ReadsAgain(), x), expected)


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.Dropout2d(0.5), StochasticDepth(0.5, "row")])
def test_dropout_scales_or_drops_in_training_alone(module: nn.Module) -> None:
    x = masked(1.5 + draw_features(6, 8, 5, 6), draw_visible(5, 6))
    kept = masked_forward(module, x).features
    assert torch.equal(kept, x.features)
    torch.manual_seed(0)
    ratio = masked_forward(module, x, training=True).features / x.features
    assert set(ratio.unique().round(decimals=6).tolist()) == {0.0, 2.0}


class Linear(nn.Module):
    """A linear layer over the channels, as in a ConvNeXt block."""

    def __init__(self, *, functional: bool) -> None:
        super().__init__()
        self.linear, self.functional = nn.Linear(4, 3, dtype=torch.float64), functional

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.linear(x, self.linear.weight, self.linear.bias) if self.functional else self.linear(x)
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("functional", [False, True])
def test_a_linear_layer_over_channels_is_a_convolution_of_one_position(functional: bool) -> None:
    module = Linear(functional=functional)
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    weight, bias = exact(module.linear.weight)[:, :, None, None], exact(module.linear.bias)
    expected = reference.convolution(exact(features), visible[:, 0].numpy(), weight, bias)
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)


def test_features_may_be_cast() -> None:
    x = masked(draw_features(6, 4, 5, 6), draw_visible(5, 6), DIFFERENTIABLE)
    for cast, dtype in [("float", torch.float32), ("half", torch.float16), ("bfloat16", torch.bfloat16)]:
        result: Masked = masked_forward(Function(lambda x, name=cast: getattr(x, name)().contiguous().clone()), x)
        assert torch.equal(result.features, x.features.to(dtype))
    halved = masked_forward(Function(lambda x: x.to(torch.float16).type_as(x)), x)
    assert halved.features.dtype == torch.float64


SOFTMAXES = {
    "nn.Softmax": nn.Softmax(dim=1),
    "nn.LogSoftmax": nn.LogSoftmax(1),
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "method": lambda x: x.log_softmax(-3),
    "channels last": lambda x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_softmax_over_the_channels_is_that_of_each_position(name: str) -> None:
    softmax = SOFTMAXES[name]
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    result = masked_forward(softmax if isinstance(softmax, nn.Module) else Function(softmax), masked(features, visible))
    assert_agrees(result, (exact(softmax(features)), visible[:, 0].numpy()))


def test_the_most_likely_class_of_a_hidden_position_is_0() -> None:
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    network = LayerMasking(Function(lambda x: x.argmax(dim=1)))
    assert torch.equal(network(features, visible), torch.where(visible[:, 0], features.argmax(dim=1), 0))


@pytest.mark.parametrize("softmax", [nn.Softmax(dim=2), nn.Softmax(), lambda x: x.softmax(-2)])
def test_a_softmax_over_positions_is_refused_when_wrapped(softmax) -> None:
    network = softmax if isinstance(softmax, nn.Module) else Function(softmax)
    with pytest.raises(UnsupportedNetworkError, match=r"over the channels only, got axis (2|-2|None)"):
        LayerMasking(nn.Sequential(network))
