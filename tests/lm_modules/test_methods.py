"""Masking methods: normalisation, and what a network is shown under each of them."""

import pytest
import torch
from torch import Tensor, nn

from augment import FILLS, LOOKS_INTO_HOLE, apply_fill, sample_keys
from lm_modules import MASKING_METHODS, LayerMasking, SmallResNet, normalise, predictor

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 2.0, 0.25)


class Recorder(nn.Module):
    """Keeps what it is called with."""

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        self.images, self.visible = images, visible
        return images.mean(dim=(2, 3))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(4, 3, 16, 16, generator=generator),
        torch.rand(4, 1, 16, 16, generator=generator) < 0.6,
        sample_keys(0, torch.arange(4)),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalising_takes_the_mean_and_divides_by_the_deviation(dtype, memory_format) -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = normalise(images.contiguous(memory_format=memory_format), MEAN, STD)
    assert result.dtype == dtype and result.is_contiguous(memory_format=memory_format)
    for channel in range(3):
        expected = (images[:, channel] - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(result[:, channel], expected)


def test_there_is_a_method_for_each_fill_and_layer_masking() -> None:
    assert set(MASKING_METHODS) == {*FILLS, "layer_masking"}


@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_is_drawn_before_normalising_and_the_network_knows_nothing_of_the_hole(fill, inputs) -> None:
    images, visible, keys = inputs
    network = Recorder()
    logits = predictor(network, fill, MEAN, STD)(images, visible, keys)
    shown = network.images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    expected = apply_fill(fill, images, visible, keys=keys, mean=MEAN)
    torch.testing.assert_close(shown, expected, rtol=1e-5, atol=1e-6)
    assert network.visible is None
    assert torch.equal(logits, network.images.mean(dim=(2, 3)))
    if fill == "black":
        assert (shown[~visible.expand_as(shown)].abs() < 1e-6).all()
    if fill == "mean":
        assert (network.images[~visible.expand_as(shown)] == 0).all()


def test_layer_masking_gets_the_images_and_the_hole(inputs) -> None:
    images, visible, keys = inputs
    network = Recorder()
    predictor(network, "layer_masking", MEAN, STD)(images, visible, keys)
    assert torch.equal(network.images, normalise(images, MEAN, STD))
    assert network.visible is visible


@pytest.mark.parametrize("method", MASKING_METHODS)
@torch.no_grad()
def test_no_method_looks_into_the_hole_but_the_fills_that_say_so(method, inputs) -> None:
    images, visible, keys = inputs
    predict = predictor(LayerMasking(SmallResNet(3, width=16)).eval(), method, MEAN, STD)
    logits = predict(images, visible, keys)
    same = torch.equal(predict(torch.where(visible, images, 0.123), visible, keys), logits)
    assert same == (method not in LOOKS_INTO_HOLE)
    assert not torch.equal(predict(images, torch.ones_like(visible), keys), logits)


def test_random_fills_follow_the_keys(inputs) -> None:
    images, visible, keys = inputs
    predict = predictor(LayerMasking(SmallResNet(3, width=16)).eval(), "random_colour", MEAN, STD)
    assert torch.equal(predict(images, visible, keys), predict(images, visible, keys))
    assert not torch.equal(predict(images, visible, keys), predict(images, visible, keys + 1))
