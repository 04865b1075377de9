"""Whatever changes in a network after a masked pass takes effect in the next one, however it was changed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise
from tests.lm_modules.masking.reference import Run, masked_output

IMAGES, VISIBLE = draw_images(3, 32).double(), holes(32)


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
    network.float()
    network.double()
    network[0].weight.data.mul_(2.0)


def through_numpy(network):
    network[1].running_mean.numpy()[:] += 1


def by_a_plain_function(network):
    F.batch_norm(
        draw_images(size=8).double()[:, [0] * 8], network[1].running_mean, network[1].running_var, training=True
    )


def by_a_permutation(network):
    network[0].weight.data.copy_(network[0].weight.data.flip(0))  # which a sum does not see


def of_the_norm_through_data(network):
    network[1].weight.data.mul_(3)


class Binary(nn.Conv2d):
    """Computes with the signs of its weight."""

    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight.sign(), bias)


def binary(network):
    network[0] = Binary(3, 8, 3, padding=1).double()


def spectral(network):
    parametrizations.spectral_norm(network[0])


def weight_as_attribute(network):
    weight = network[0].weight.detach() + 1
    del network[0].weight
    network[0].weight = weight


def forward_of_its_own(network):
    first, plain = network[0], network[0].forward
    first.forward = lambda x: plain(x) * 2


def convolves_otherwise(network):
    first, plain = network[0], network[0]._conv_forward
    first._conv_forward = lambda x, weight, bias: plain(x, weight * 2, bias)


CHANGES = (
    in_place, in_inference_mode, as_data, through_data, by_another_convolution, by_loading, statistics, eps, dtype,
    through_numpy, by_a_plain_function, by_a_permutation, of_the_norm_through_data, binary, spectral,
    weight_as_attribute, forward_of_its_own, convolves_otherwise,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_in_the_next_pass(change):
    masked = LayerMasking(build(make_network).double())
    before = logits(masked)
    change(masked.network)
    after, fresh = logits(masked), logits(LayerMasking(masked.network))
    assert torch.equal(after, fresh) and not torch.equal(after, before)
    reference = masked_output(copy.deepcopy(masked.network), IMAGES, VISIBLE, Run())
    torch.testing.assert_close(after, reference, rtol=1e-8, atol=1e-8)


def test_an_optimiser_that_writes_through_data_counts_after_training():
    masked = LayerMasking(build(make_network).double())
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
