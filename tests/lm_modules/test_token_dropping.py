"""Token dropping: against tokens dropped by hand, image by image, and what a hidden pixel can do."""

from functools import partial

import pytest
import torch
from timm.layers import PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.token_dropping import TokenDropping
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier

SIDE, PATCH = 32, 8
SMALL = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
NETWORKS = {
    "vit": partial(VisionTransformer, **SMALL),
    "deit": partial(VisionTransformerDistilled, **SMALL),
    "registers": partial(VisionTransformer, **SMALL, reg_tokens=3, no_embed_class=True, init_values=1.0),
    "clip": partial(VisionTransformer, **SMALL, pre_norm=True),
    "any_size": partial(VisionTransformer, **SMALL, dynamic_img_size=True),
}


def draw(name):
    """A network none of whose parameters is 0, as class tokens and biases are at first."""
    network = NETWORKS[name]().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def question():
    """Images of which everything, nothing, some patches, and a disc that cuts through patches may be seen."""
    generator = torch.Generator().manual_seed(0)
    images, visible = torch.randn(5, 3, SIDE, SIDE, generator=generator), torch.ones(5, 1, SIDE, SIDE, dtype=torch.bool)
    visible[1] = False
    some = torch.rand(1, 1, 4, 4, generator=generator) < 0.4
    visible[2] = some.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)[0]
    down, across = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    visible[3] = (down - 15) ** 2 + (across - 12) ** 2 > 60
    visible[4] = visible[3].roll(PATCH, 2)  # as many patches as image 3
    return images, visible


def by_hand(network, image, visible):
    """Logits of one image (3, H, W), patch by patch."""
    positions = list(network.pos_embed[0])
    beside = [network.cls_token[0, 0]]
    if isinstance(network, VisionTransformerDistilled):
        beside.append(network.dist_token[0, 0])
    if network.reg_token is not None:
        beside.extend(network.reg_token[0])
    if not network.no_embed_class:
        beside = [token + positions.pop(0) for token in beside]
    tokens, embed = beside, network.patch_embed.proj
    for place, position in enumerate(positions):
        top, left = place // (SIDE // PATCH) * PATCH, place % (SIDE // PATCH) * PATCH
        if visible[0, top : top + PATCH, left : left + PATCH].all():
            pixels = image[:, top : top + PATCH, left : left + PATCH]
            token = (embed.weight * pixels).sum(dim=(1, 2, 3))
            tokens.append(position + (token if embed.bias is None else token + embed.bias))
    sequence = network.norm_pre(torch.stack(tokens)[None])
    for block in network.blocks:
        sequence = block(sequence)
    classes = network.norm(sequence)[0]
    if isinstance(network, VisionTransformerDistilled):
        return (network.head(classes[0]) + network.head_dist(classes[1])) / 2
    return network.head(network.fc_norm(classes[0]))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_logits_are_those_of_tokens_dropped_by_hand(name):
    network, (images, visible) = draw(name).double(), question()
    images = images.double()
    found = TokenDropping(network)(images, visible)
    expected = torch.stack([by_hand(network, *each) for each in zip(images, visible, strict=True)])
    torch.testing.assert_close(found, expected)
    assert len({tuple(row) for row in found.round(decimals=3).tolist()}) == len(images)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_hidden_pixel_matters_nor_one_of_a_patch_that_is_partly_hidden(name):
    images, visible = question()
    dropping = TokenDropping(draw(name))
    logits = dropping(images.requires_grad_(), visible)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    whole = -nn.functional.max_pool2d(-visible.float(), PATCH).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    seen = whole.bool().expand_as(images)
    assert (gradient[~seen] == 0).all() and (gradient[seen] != 0).all()
    assert (seen != visible).any()
    for other in (torch.nan, 1e30):
        assert torch.equal(dropping(torch.where(visible, images, other), visible), logits)
    assert torch.equal(dropping(torch.where(seen, images, 0.5), visible), logits)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_batch_that_is_all_visible_is_the_plain_networks_bit_for_bit(name):
    network, (images, visible) = draw(name), question()
    plain = network(images)
    assert torch.equal(TokenDropping(network)(images, torch.ones_like(visible)), plain)
    assert torch.equal(TokenDropping(network)(images), plain)
    assert not network.pos_drop._forward_hooks


@pytest.mark.parametrize("name", ["vit", "deit"])
@torch.no_grad()
def test_it_is_a_masking_method(name):
    network, (images, visible) = draw(name), question()
    pictures, keys = images.sigmoid(), torch.arange(len(images))
    by_name = TrainedNetwork("tokens", network, Preprocessing((0.5,) * 3, (0.5,) * 3), 5)
    expected = TokenDropping(network)(pictures * 2 - 1, visible)
    torch.testing.assert_close(by_name.predictor("token_dropping")(pictures, visible, keys), expected)
    trained = MaskRobustClassifier(network, 5, mean=(0.5,) * 3, std=(0.5,) * 3).trained_network()
    torch.testing.assert_close(trained.predictor("token_dropping")(pictures, visible, keys), expected)


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (SmallResNet, "a SmallResNet"),
        (lambda: LayerMasking(SmallResNet()), "a SmallResNet"),
        (partial(type("Own", (VisionTransformer,), {}), **SMALL), "a Own"),
        (partial(NETWORKS["vit"], global_pool="avg"), "pools its tokens by 'avg'"),
        (partial(NETWORKS["vit"], pos_embed="none"), "without embeddings of positions"),
        (partial(NETWORKS["any_size"], dynamic_img_pad=True), "a PatchEmbed that looks beyond"),
        (partial(NETWORKS["vit"], embed_layer=type("Mixed", (PatchEmbed,), {})), "a Mixed that looks beyond"),
    ],
)
def test_networks_whose_tokens_are_not_known_to_be_patches_are_refused(network, found):
    with pytest.raises(UnsupportedNetworkError, match=f"^token dropping takes .*, but this is .*{found}[^.]*\\.$"):
        TokenDropping(network())
