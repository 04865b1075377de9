"""Quotients, roots, powers and logarithms: whatever features are hidden, values and gradients are finite."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.lm_modules.masking import LayerMasking, VisibleMap
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
from tests.lm_modules.masking.networks import draw_images

SINGULAR: dict[str, Callable[[Tensor], Tensor]] = {
    "x / x.norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "x.div(y)": lambda x: x.div(x.square().sum(1, keepdim=True)),
    "torch.div": lambda x: torch.div(x, x.abs() + x.square()),
    "1 / x": lambda x: 1 / (x * x),
    "reciprocal": lambda x: x.square().reciprocal(),
    "sqrt": lambda x: x.square().sqrt(),
    "rsqrt": lambda x: torch.rsqrt(x.square()),
    "log": lambda x: x.square().log(),
    "log2": lambda x: torch.log2(x.abs()),
    "log10": lambda x: x.square().log10(),
    "log1p": lambda x: torch.log1p(x.square() - 1),
    "pow": lambda x: x.abs().pow(0.3),
    "operator **": lambda x: (x.square() - 0.0) ** -0.5,
    "x ** y": lambda x: x.abs() ** x,
    "2 ** x": lambda x: 2**x,
    "exp": lambda x: x.exp(),
    "local response norm": nn.LocalResponseNorm(3, k=0.0),
}
every_operation = pytest.mark.parametrize("name", SINGULAR)


def module_of(name: str) -> nn.Module:
    operation = SINGULAR[name]
    return operation if isinstance(operation, nn.Module) else Function(operation)


@every_operation
def test_each_visible_position_is_computed_alone(name: str) -> None:
    module, features, visible = module_of(name), draw_features(6, 4, 3, 4), draw_visible(3, 4)
    expected = torch.where(visible, module(features), 0)
    assert_agrees(masked_forward(module, masked(features, visible)), (exact(expected), visible[:, 0].numpy()))
    assert_differentiable(nn.Sequential(Function(lambda x: x + 3), module), 4)


@every_operation
@pytest.mark.parametrize("may_be_read", [True, False])
def test_in_training_nothing_is_infinite_where_all_that_is_hidden_is_zero(
    name: str, may_be_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VisibleMap, "may_be_read", may_be_read)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), module_of(name), nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
        ).train()  # fmt: skip
    visible = torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[0, :, :3, :3] = visible[1] = True
    images = draw_images(3, 9).requires_grad_()
    logits = LayerMasking(network)(images, visible)
    logits.square().sum().backward()
    tensors = [logits, images.grad, *network.buffers(), *(parameter.grad for parameter in network.parameters())]
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert (images.grad[~visible.expand_as(images)] == 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_what_each_image_is_divided_by_may_be_zero_where_nothing_is_visible(training: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), Function(lambda x: x / x.norm(dim=(2, 3), keepdim=True)),
            nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
        ).train(training)  # fmt: skip
    images, visible = draw_images(3, 9).requires_grad_(), torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[:2, :, 2:6, 2:6] = True
    alone = LayerMasking(copy.deepcopy(network))(images[:2], visible[:2])
    logits = LayerMasking(network)(images, visible)
    torch.testing.assert_close(logits[:2], alone)
    logits.sum().backward()
    assert all(tensor.isfinite().all() for tensor in [logits, images.grad, *network.buffers()])
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_features_themselves_stay_what_they_are_where_a_quotient_changes_them_in_place() -> None:
    module = Function(lambda x: F.relu(x).add(1).div_(x.square().sum(1, keepdim=True)))
    features, visible = draw_features(6, 4, 3, 4), draw_visible(3, 4)
    expected = torch.where(visible, module(features), 0)
    assert_agrees(masked_forward(module, masked(features, visible)), (exact(expected), visible[:, 0].numpy()))
