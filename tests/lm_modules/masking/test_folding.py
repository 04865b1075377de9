"""What is computed once or in part, batch norms folded into convolutions and padding dropped again, changes nothing."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import Gated, Modern, Shuffled

IMAGES, VISIBLE = draw_images(3, 32), holes(32)


def make_network():
    stem = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    return randomise(nn.Sequential(*stem, nn.BatchNorm2d(8), nn.ReLU(), *head)).eval()


@torch.no_grad()
def in_place(network):
    network[0].weight.mul_(2.0)


@torch.inference_mode()
def in_inference_mode(network):
    network[3].weight.mul_(2.0)


def through_data(network):
    network[0].weight.data.mul_(0.999)  # unseen by the tensor's version, as of an average of weights


def as_data(network):
    network[0].weight.data = network[0].weight.data * 2.0


def by_another_convolution(network):
    network[0] = copy.deepcopy(network[0])
    network[0].weight.data.mul_(2.0)


def by_loading(network):
    network.load_state_dict({name: value * 1.5 for name, value in network.state_dict().items()})


def statistics(network):
    network[1].running_mean.add_(1.0)


def eps(network):
    network[4].eps = 0.5


def dtype(network):
    network.double()
    network.float()
    network[0].weight.data.mul_(2.0)


CHANGES = (
    in_place,
    in_inference_mode,
    as_data,
    through_data,
    by_another_convolution,
    by_loading,
    statistics,
    eps,
    dtype,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_counts_in_the_next_pass(change):
    masked = LayerMasking(build(make_network))
    with torch.inference_mode():
        before = masked(IMAGES, VISIBLE)
    change(masked.network)
    after, fresh = logits(masked), logits(LayerMasking(masked.network))
    assert torch.equal(after, fresh) and not torch.equal(after, before)


def test_an_optimiser_that_writes_through_data_counts_after_training():
    masked = LayerMasking(build(make_network))
    before = logits(masked)
    masked.train()(IMAGES, VISIBLE).sum().backward()
    for parameter in masked.parameters():
        parameter.data.sub_(0.1 * parameter.grad)
    masked.eval()
    assert torch.equal(logits(masked), logits(LayerMasking(masked.network)))
    assert not torch.equal(logits(masked), before)


@torch.inference_mode()
def logits(masked):
    return masked(IMAGES, VISIBLE)


class ReadsConvolutionTwice(nn.Module):
    """A convolution's result goes to a batch norm and past it; another one's to a batch norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (randomise(nn.BatchNorm2d(8)) for _ in range(3))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        x = self.bn3(x + self.bn2(self.conv(F.relu(self.bn1(x)))))
        return self.fc(self.pool(x).flatten(1))


def assert_folding_changes_nothing(masked):
    unfolded = masked(IMAGES, VISIBLE)  # as there are gradients
    torch.testing.assert_close(logits(masked), unfolded, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_batch_norm_is_folded_into_a_convolution_that_nothing_else_reads(memory_format):
    network = ReadsConvolutionTwice().eval().to(memory_format=memory_format)
    masked = LayerMasking(network, engine="dense")
    assert {folding.step.layer for folding in masked.read().folded.values()} == {"bn2"}
    assert_folding_changes_nothing(masked)
    kept = []
    network.conv.register_forward_hook(lambda _module, _inputs, output: kept.append((output, output.clone())))
    assert_folding_changes_nothing(masked)
    assert all(torch.equal(*outputs) for outputs in kept) and len(kept) == 2


class ReturnsConvolution(nn.Module):
    """Returns a convolution's result beside that of the batch norm that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), randomise(nn.BatchNorm2d(8))

    def forward(self, x):
        x = self.conv(x)
        return {"before": x, "after": self.bn(x)}


@torch.no_grad()
def test_a_convolution_whose_result_is_returned_keeps_its_batch_norm():
    network = ReturnsConvolution().eval()
    found, plain = LayerMasking(network)(IMAGES, VISIBLE), network(IMAGES)
    far = ~F.max_pool2d((~VISIBLE).float(), 3, 1, 1).bool()
    for name, result in found.items():
        torch.testing.assert_close(result * far, plain[name] * far)


class Binary(nn.Conv2d):
    """Computes with the signs of its weight."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight.sign(), bias)


def binary(network):
    network[0] = Binary(3, 8, 3, padding=1)


def spectral(network):
    parametrizations.spectral_norm(network[0])


def weight_as_attribute(network):
    weight = network[0].weight.detach() + 1
    del network[0].weight
    network[0].weight = weight


def forward_of_its_own(network):
    first, plain = network[0], network[0].forward
    first.forward = lambda x: plain(x) * 2


def compiled(network):
    network[0].compile(backend="eager")


@pytest.mark.parametrize("change", [binary, spectral, weight_as_attribute, forward_of_its_own, compiled])
@pytest.mark.parametrize("is_wrapped_first", [False, True])
def test_a_convolution_that_computes_otherwise_than_its_class_keeps_its_batch_norm(
    change, is_wrapped_first, fresh_compiler
):
    network = build(make_network)
    if not is_wrapped_first:
        change(network)
    masked = LayerMasking(network)
    if is_wrapped_first:
        change(network)
    assert_folding_changes_nothing(masked)


class Residual(nn.Module):
    """A residual block between a stem and a pool, with a layer that may look sideways after the convolution."""

    def __init__(self, then: nn.Module, *, stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv, self.then = nn.Conv2d(8, 8, 5, stride, 2), then
        self.last = nn.Conv2d(8, 8, 1)
        self.shortcut = nn.Conv2d(8, 8, 1, stride) if stride > 1 else nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, images):
        x = self.stem(images)
        x = self.shortcut(x) + self.last(self.then(self.conv(x)))
        return self.fc(self.pool(x).flatten(1))


class Squeezed(nn.Module):
    """A gate made of the mean over all positions."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def pads_in_full(masked):
    reading = replace(masked.read(), dropped=frozenset())
    masked.read = lambda: reading


@pytest.mark.parametrize(
    ("then", "stride", "dropped"),
    [
        (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), 1, {"conv"}),
        (nn.Identity(), 2, set()),
        (nn.BatchNorm2d(8, track_running_stats=False), 1, set()),
        (nn.GroupNorm(2, 8), 1, set()),
        (nn.MaxPool2d(3, 1, 1), 1, set()),
        (Squeezed(), 1, set()),
        (nn.Conv2d(8, 8, 3, padding=1), 1, {"then"}),
    ],
    ids=["position by position", "stride", "batch statistics", "group norm", "pool", "gate", "convolution"],
)
@torch.no_grad()
def test_only_convolutions_whose_new_positions_are_dropped_are_found(then, stride, dropped):
    masked, images = LayerMasking(Residual(then, stride=stride).eval(), engine="dense"), draw_images(size=32)
    reading = masked.read()
    assert {step.layer for step in reading.program.steps if step.name in reading.dropped} == dropped
    assert not LayerMasking(masked.network, merge="union").read().dropped
    logits = masked(images, holes(32))
    pads_in_full(masked)
    assert torch.equal(masked(images, holes(32)), logits)


@pytest.mark.parametrize("make", [Modern, Gated, Shuffled, lambda: build("basic_resnet"), lambda: build("dilated")])
@torch.no_grad()
def test_half_of_the_padding_changes_no_bit(make):
    masked, images = LayerMasking(randomise(make()).eval(), engine="dense"), draw_images(size=32)
    logits = masked(images, holes(32))
    pads_in_full(masked)
    assert torch.equal(masked(images, holes(32)), logits)
