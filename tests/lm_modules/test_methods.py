"""Masking methods: normalisation, what a network is shown under each of them, and what it makes of that."""

import pytest
import torch
from torch import nn

from maskrobust.augment import FILLS, apply_fill, enclosing_circles, sample_keys
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.lm_modules.explanation.asking import Queries, ask
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.methods import WRAPPERS, illustrate, mark_hidden, predictor
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 2.0, 0.25)


class Recorder(nn.Module):
    """Keeps what it is called with."""

    def forward(self, images, visible=None):
        self.images, self.visible = images, visible
        return images.mean(dim=(2, 3))


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(4, 3, 16, 16, generator=generator),
        torch.rand(4, 1, 16, 16, generator=generator) < 0.6,
        sample_keys(0, torch.arange(4)),
    )


@pytest.mark.parametrize("method", ["black", "inpainting", "layer_masking"])
def test_objects_with_one_circle_cannot_be_told_apart_behind_it(method):
    """Bit for bit: the guarantee of hiding circles."""
    cross, bar = torch.zeros(2, 1, 1, 32, 32, dtype=torch.bool)
    bar[..., 16, 6:25] = True
    cross[..., 16, 6:25], cross[..., 7:26, 15] = True, True
    disc = enclosing_circles(bar)
    objects, generator = torch.cat([bar, cross, disc]), torch.Generator().manual_seed(0)
    colours, scene = torch.rand(3, 3, 1, 1, generator=generator), torch.rand(1, 3, 32, 32, generator=generator)
    images, visible = torch.where(objects, colours, scene), ~enclosing_circles(objects)
    network = SmallResNet(10).eval()
    predict = predictor(LayerMasking(network) if method == "layer_masking" else network, method, MEAN, STD)
    along_outlines, by_circles = (
        [predict(images[i : i + 1], each[i : i + 1], torch.zeros(1, dtype=torch.int64)) for i in range(3)]
        for each in (~objects, visible)
    )
    assert not torch.equal(along_outlines[0], along_outlines[1])
    assert torch.equal(by_circles[0], by_circles[1]) and torch.equal(by_circles[0], by_circles[2])


def test_a_predictor_refuses_images_that_are_not_in_the_unit_range(inputs):
    images, visible, keys = inputs
    shift, scale = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    for wrong, named in ((images * 255, r"look bytes; divide"), ((images - shift) / scale, "look normalised; leave")):
        for method in ("black", "layer_masking"):
            predict = predictor(LayerMasking(SmallResNet(10).eval()), method, IMAGENET_MEAN, IMAGENET_STD)
            with pytest.raises(ValueError, match=rf"images must lie in \[0, 1\], got pixels from .* {named}"):
                predict(wrong, visible, keys)
            with pytest.raises(ValueError, match="divide"):
                ask(predict, images[0] * 255, Queries.of(visible))
            hidden_bytes = torch.where(visible, images, 255.0)
            predict(hidden_bytes if method == "layer_masking" else images * 1.2 - 0.1, visible, keys)
    as_they_are = predictor(SmallResNet(10).eval(), "black", (0.0,) * 3, (1.0,) * 3)
    assert as_they_are((images - shift) / scale, visible, keys).shape == (4, 10)


def test_a_predictor_refuses_a_network_or_a_method_where_they_are_named():
    with pytest.raises(ValueError, match=r"method must be one of black, .* got 'blak'"):
        predictor(SmallResNet(10), "blak", MEAN, STD)
    for method in ("layer_masking", "token_dropping"):
        with pytest.raises(ValueError, match=r"got SmallResNet, which takes images alone; .* LayerMasking\(network\)"):
            predictor(SmallResNet(10), method, MEAN, STD)
    with pytest.raises(ValueError, match="network must be a plain one, but has layer masking already"):
        LayerMasking(LayerMasking(SmallResNet(10)))
    predictor(Recorder(), "layer_masking", MEAN, STD)


def test_people_are_shown_the_fill_or_a_checkerboard_where_there_is_none(inputs):
    images, visible, keys = inputs
    for fill in FILLS:
        filled = apply_fill(fill, images, visible, keys=keys, mean=MEAN)
        assert torch.equal(illustrate(fill, images, visible, keys, MEAN), filled)
    marked = illustrate("layer_masking", images, visible, keys, MEAN)
    assert torch.equal(illustrate("token_dropping", images, visible, keys, MEAN), marked)
    assert torch.equal(marked, mark_hidden(images, visible))
    assert torch.equal(torch.where(visible, marked, 0), torch.where(visible, images, 0))
    board = mark_hidden(images, torch.zeros_like(visible))
    assert len(board.unique()) == 2
    assert (board[..., 1:] != board[..., :-1]).all() and (board[..., 1:, :] != board[..., :-1, :]).all()


@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_is_drawn_before_normalising_and_the_network_knows_nothing_of_the_hole(fill, inputs):
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


def test_a_method_names_the_padding_of_the_network_that_it_asks(inputs):
    network = LayerMasking(SmallResNet(3, width=16).eval(), merge="union", detach_padding=False)
    mirrored = WRAPPERS["layer_masking_mirror"](network)
    assert mirrored.options == MaskingOptions("union", detach_padding=False, padding="mirror")
    assert WRAPPERS["layer_masking"](mirrored).options == network.options
    assert WRAPPERS["layer_masking_mirror"](mirrored) is mirrored and mirrored.network is network.network
    asked = [
        predictor(each, name, MEAN, STD)(*inputs)
        for each, name in ((network, "layer_masking"), (mirrored, "layer_masking_mirror"))
    ]
    assert not torch.equal(*asked)
    with pytest.raises(ValueError, match=r"^method 'layer_masking_mirror' .* with padding 'mean'; .*\.$"):
        predictor(network, "layer_masking_mirror", MEAN, STD)
