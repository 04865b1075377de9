"""A whole masked network against the loops of `reference`, in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.masked import MergeRule, PaddingRule
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import draw_features, draw_visible, exact
from tests.lm_modules.masking.networks import randomise
from tests.lm_modules.masking.reference import Features, Visible

Norm = Callable[[nn.BatchNorm2d, Features, Visible], Features]
every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])
BOTH_MERGES = pytest.mark.parametrize("merge", ["intersection", "union"])


class Block(nn.Module):
    """Two convolutions and a shortcut that has to follow a stride."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


class Tiny(nn.Module):
    """A 5x5 stem, a max pool, a block with and a block without a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 5, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Block(3, 4, 2), Block(4, 4, 1))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.pool(self.relu(self.bn(self.stem(images)))))
        return self.fc(self.flatten(self.average(features)))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(Tiny()).double().eval()


def eval_norm(module: nn.BatchNorm2d, features: Features, _visible: Visible) -> Features:
    statistics = [exact(tensor) for tensor in (module.running_mean, module.running_var)]
    return reference.batch_norm(features, *statistics, exact(module.weight), exact(module.bias))


def train_norm(module: nn.BatchNorm2d, features: Features, visible: Visible) -> Features:
    values = reference.visible_values(features, visible)
    return reference.batch_norm(
        features, values.mean(axis=0), values.var(axis=0), exact(module.weight), exact(module.bias)
    )


def convolved(module: nn.Conv2d, x: Features, visible: Visible, hole: str) -> tuple[Features, Visible]:
    padding = [(size, size) for size in module.padding]
    return reference.convolution(x, visible, exact(module.weight), None, module.stride, padding, hole=hole)


def reference_block(
    block: nn.Module, x: Features, visible: Visible, merge: MergeRule, norm: Norm, hole: str
) -> tuple[Features, Visible]:
    out, seen = convolved(block.conv1, x, visible, hole)
    out = np.maximum(norm(block.bn1, out, seen), 0)
    out, seen = convolved(block.conv2, out, seen, hole)
    out = norm(block.bn2, out, seen)
    if isinstance(block.shortcut, nn.Conv2d):
        x, visible = convolved(block.shortcut, x, visible, hole)
    if merge == "union":
        out, x = np.where(seen[:, None], out, 0), np.where(visible[:, None], x, 0)
        return np.maximum(out + x, 0), seen | visible
    return np.maximum(out + x, 0), seen & visible


def reference_logits(
    network: nn.Module, images: Features, visible: Visible, merge: MergeRule, norm: Norm, hole: str
) -> Features:
    x, seen = convolved(network.stem, images, visible, hole)
    x = np.maximum(norm(network.bn, x, seen), 0)
    x, seen = reference.pool(x, seen, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for block in network.blocks:
        x, seen = reference_block(block, x, seen, merge, norm, hole)
    return reference.masked_mean(x, seen) @ exact(network.fc.weight).T + exact(network.fc.bias)


@BOTH_MERGES
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", [(14, 11), (9, 16)])
@every_padding
def test_logits_are_those_of_the_loops(
    network: nn.Module, merge: MergeRule, training: bool, size: tuple[int, int], padding: PaddingRule
) -> None:
    images, visible = draw_features(6, 2, *size), draw_visible(*size)
    norm = train_norm if training else eval_norm
    expected = reference_logits(network, exact(images), visible[:, 0].numpy(), merge, norm, padding)
    logits = LayerMasking(network, merge=merge, padding=padding).train(training)(images, visible)
    torch.testing.assert_close(logits, torch.from_numpy(expected), rtol=1e-6, atol=1e-6)


def test_the_merge_rules_differ(network: nn.Module) -> None:
    images, visible = draw_features(6, 2, 14, 11), draw_visible(14, 11)
    intersection, union = (LayerMasking(network, merge=merge)(images, visible) for merge in ("intersection", "union"))
    assert (intersection - union).abs().max() > 1e-2


@BOTH_MERGES
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@every_padding
def test_with_differentiable_padding_gradients_are_those_of_finite_differences(
    network: nn.Module, merge: MergeRule, training: bool, padding: PaddingRule
) -> None:
    masked = LayerMasking(network, merge=merge, detach_padding=False, padding=padding).train(training)
    images, visible = draw_features(2, 2, 5, 4).requires_grad_(), draw_visible(5, 4)[1:3]
    assert torch.autograd.gradcheck(lambda x: masked(x, visible), images, atol=1e-4, fast_mode=True)


def test_detached_padding_has_the_same_logits_and_other_gradients(network: nn.Module) -> None:
    images, visible = draw_features(6, 2, 9, 8).requires_grad_(), draw_visible(9, 8)
    both = [LayerMasking(network, detach_padding=detach)(images, visible) for detach in (True, False)]
    gradients = [torch.autograd.grad(logits.sum(), images)[0] for logits in both]
    assert torch.equal(*both)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3
