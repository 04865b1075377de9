"""Layer masking of networks that attend: against tokens dropped by hand, and what a hidden pixel can do."""

from functools import partial

import pytest
import torch
import torchvision
from timm.models.davit import DaVit
from timm.models.deit import VisionTransformerDistilled
from timm.models.edgenext import EdgeNeXt
from timm.models.efficientformer_v2 import EfficientFormerV2
from timm.models.hiera import Hiera
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.tnt import TNT
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.methods import predictor
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from tests.conftest import refused
from tests.lm_modules.masking.architectures import COLUMNS, check, initialised
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import seeded

# --- the reference: a vision transformer that gets its visible tokens alone ------------------------------------------

SIDE, PATCH = 32, 8
SMALL = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
TRANSFORMERS = {
    "vit": partial(VisionTransformer, **SMALL),
    "deit": partial(VisionTransformerDistilled, **SMALL),
    "registers": partial(VisionTransformer, **SMALL, reg_tokens=3, no_embed_class=True, init_values=1.0),
    "clip": partial(VisionTransformer, **SMALL, pre_norm=True),
    "any_size": partial(VisionTransformer, **SMALL, dynamic_img_size=True),
    "mean": partial(VisionTransformer, **SMALL, global_pool="avg"),
}


def draw(build):
    """A network none of whose parameters is 0, as class tokens and biases are at first."""
    torch.manual_seed(0)
    network = build().eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2 and name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.ndim < 2 or name.endswith(("token", "pos_embed")):
            nn.init.normal_(parameter, std=0.3)
        else:
            nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
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
    visible[4] = visible[3].roll(PATCH, 2)
    return images, visible


def by_hand(network, image, visible):
    """Logits of one image (3, H, W), patch by patch, of those that are wholly visible."""
    positions = list(network.pos_embed[0])
    beside = [] if network.cls_token is None else [network.cls_token[0, 0]]
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
    if network.global_pool == "avg":
        return network.head(network.fc_norm(network.norm(sequence)[0, network.num_prefix_tokens :].mean(0)))
    classes = network.norm(sequence)[0]
    if not isinstance(network, VisionTransformerDistilled):
        return network.head(network.fc_norm(classes[0]))
    return (network.head(classes[0]) + network.head_dist(classes[1])) / 2


@pytest.mark.parametrize(("fused", "training"), [(True, False), (False, True)])
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_vision_transformer_is_the_one_that_gets_its_visible_tokens_alone(name, fused, training):
    network, (images, visible) = draw(TRANSFORMERS[name]).double().train(training), question()
    if name == "mean":  # of no token at all there is none
        images, visible = images[[0, 2, 3, 4]], visible[[0, 2, 3, 4]]
    for block in network.blocks:
        block.attn.fused_attn = fused

    masked = LayerMasking(network, partial_patches="hidden")

    def answers(compute):
        given = images.double().requires_grad_()
        logits = compute(given)
        direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double()
        gradients = torch.autograd.grad((logits * direction).sum(), [given, *network.parameters()], allow_unused=True)
        return [logits, *(each for each in gradients if each is not None)]

    expected = answers(
        lambda given: torch.stack([by_hand(network, *each) for each in zip(given, visible, strict=True)])
    )
    for one, other in zip(answers(lambda given: masked(given, visible)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert len({tuple(row) for row in expected[0].detach().flatten(1).round(decimals=3).tolist()}) == len(images)


# --- properties of real networks, made small --------------------------------------------------------------------------

OF_STAGES = {"depths": (1, 1, 1, 1), "num_classes": 5}
NETWORKS = {
    "torchvision vit": (
        partial(torchvision.models.VisionTransformer, 32, 8, 2, 2, 24, 48, num_classes=5), 32,
    ),
    "maxvit": (
        partial(torchvision.models.MaxVit, input_size=(32, 32), stem_channels=8, partition_size=4,
                block_channels=[8, 16], block_layers=[1, 1],
                head_dim=4, stochastic_depth_prob=0.0, num_classes=5), 32,
    ),
    "hiera": (
        partial(Hiera, img_size=(64, 64), embed_dim=16, num_heads=1, stages=(1, 1, 1), q_pool=2, mask_unit_size=(4, 4),
                num_classes=5), 64,
    ),
    "efficientformerv2": (
        partial(EfficientFormerV2, (1, 1, 1, 2), embed_dims=(8, 16, 16, 16), img_size=64, num_vit=1, num_classes=5), 64,
    ),
    "davit": (partial(DaVit, embed_dims=(8, 16, 16, 16), num_heads=(1, 2, 2, 2), window_size=2, **OF_STAGES), 64),
    "edgenext": (partial(EdgeNeXt, dims=(8, 16, 16, 16), **OF_STAGES), 64),
    "mvitv2": (
        partial(MultiScaleVit, MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=8, num_heads=1), img_size=64,
                num_classes=5), 64,
    ),
    "tnt": (partial(TNT, img_size=32, patch_size=8, embed_dim=24, inner_dim=8, depth=2, num_classes=5), 32),
}  # fmt: skip


@pytest.mark.parametrize(("name", "padding"), [(name, ["mean", "mirror"][at % 2]) for at, name in enumerate(NETWORKS)])
def test_a_network_that_attends_has_all_six_properties(name, padding):
    make, size = NETWORKS[name]
    network = initialised(seeded(make), (8, 3, size, size))
    assert check(network, (3, size, size), padding) == dict.fromkeys(COLUMNS, True)


# --- what is refused --------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """Patches, some layer over their tokens, and a head on the mean."""

    def __init__(self, layer, *parts):
        super().__init__()
        self.patches, self.layer, self.head = nn.Conv2d(3, 8, 32, 32), Function(layer, *parts), nn.Linear(8, 2)

    def forward(self, images):
        tokens = self.layer(self.patches(images).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1))


REFUSED = {
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "no causal attention"),
    "attention with a mask": (
        lambda x, layer: layer(x, x, x, attn_mask=x.new_zeros(4, 4))[0], "without key_padding_mask and attn_mask",
        nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "flex attention": (
        lambda x: flex_attention(x[:, None], x[:, None], x[:, None])[:, 0], "torch.nn.attention.flex_attention"
    ),
    "a mixer": (lambda x: F.linear(x.mT, x.new_ones(64, 64)).mT, "linear layers or norms over positions"),
    "a recurrent layer": (lambda x, layer: layer(x)[0], "torch.lstm", nn.LSTM(8, 8, batch_first=True)),
    "a state-space layer": (lambda x: x.cumsum(1), "torch.Tensor.cumsum"),
    "tokens by number": (lambda x: x[:, torch.arange(3)], "index of slices and numbers"),
    "a sorted sequence": (lambda x: x.sort(1).values, "torch.Tensor.sort"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_of_tokens_are_refused_by_name_when_wrapped(name):
    layer, named, *parts = REFUSED[name]
    with refused(UnsupportedNetworkError, "layer 'layer", named):
        LayerMasking(Tokens(layer, *parts))


PRODUCTS = {
    "matmul": lambda x, layer: layer.weight @ x,
    "einsum": lambda x, layer: torch.einsum("qn,bnc->bqc", layer.weight, x),
}


@pytest.mark.parametrize("name", PRODUCTS)
@torch.no_grad()
def test_a_plain_matrix_times_tokens_sums_visible_ones_alone(name):
    network = draw(partial(Tokens, PRODUCTS[name], nn.Linear(4, 3)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    visible = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    visible[0, :, :32, :32] = visible[1, :, 32:] = False
    shown = torch.tensor([[0.0, 1, 1, 1], [1, 1, 0, 0]])[..., None]
    tokens = network.patches(images).flatten(2).mT * shown
    expected = network.head((network.layer.parts[0].weight @ tokens).mean(1))
    torch.testing.assert_close(LayerMasking(network)(images, visible), expected)


def copied_to_its_end(x):
    """Tokens of which the first two stand in place of the last two, too."""
    x = x.clone()
    x[:, 2:] = x[:, :2]
    return x


def with_nothing_and_one_ahead(x):
    """Tokens behind none, as where a network has no class token, and each beside the one ahead of it."""
    one = torch.ones(len(x), 1, x.shape[2])
    return torch.cat([x[:, :0], x], dim=1) + torch.cat([one, x], dim=1)[:, :-1]


SHOWN = [[0.0, 1, 1, 1], [1, 1, 0, 0]]
IN_BOTH, IN_ANY = [[0.0, 1, 0, 1], [1, 1, 0, 0]], [[0.0, 1, 1, 1], [1, 1, 1, 1]]
CHANGES = {
    "normalised over positions": (partial(F.normalize, dim=1), "intersection", SHOWN),
    "written to a slice": (copied_to_its_end, "intersection", [[0.0, 1, 0, 1], [1, 1, 1, 1]]),
    "behind an empty slice": (with_nothing_and_one_ahead, "intersection", [[0.0, 0, 1, 1], [1, 1, 0, 0]]),
    "a residual of both": (lambda x: x + copied_to_its_end(x), "intersection", IN_BOTH),
    "a residual of any": (lambda x: x + copied_to_its_end(x), "union", IN_ANY),
    "a product of both": (lambda x: x * copied_to_its_end(x), "union", IN_BOTH),
}


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_tokens_that_are_changed_are_those_of_visible_ones_alone(name):
    change, merge, shown_then = CHANGES[name]
    network = draw(partial(Tokens, lambda x, _: change(x), nn.Linear(4, 3)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    visible = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    visible[0, :, :32, :32] = visible[1, :, 32:] = False
    shown, then = (torch.tensor(each)[..., None] for each in (SHOWN, shown_then))
    tokens = change(network.patches(images).flatten(2).mT * shown) * then
    found = LayerMasking(network, merge=merge)(images, visible)
    torch.testing.assert_close(found, network.head(tokens.sum(1) / then.sum(1)))


@pytest.mark.parametrize("forbidden", [True, -torch.inf], ids=["bool", "float"])
@torch.no_grad()
def test_where_a_mask_of_the_network_leaves_hidden_keys_alone_nothing_is_attended_to(forbidden):
    """Tokens attend to all but themselves."""
    own = torch.eye(4, dtype=torch.bool)
    given = ~own if forbidden is True else torch.zeros(4, 4).masked_fill(own, forbidden)

    def attend(x, _):
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=given)[:, 0]

    network = draw(partial(Tokens, attend, nn.Linear(4, 3)))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    shown = torch.tensor([[True, False, False, False], [True, True, False, True]])
    visible = shown.reshape(2, 1, 2, 2).repeat_interleave(32, 2).repeat_interleave(32, 3)
    expected = []
    for tokens, kept in zip(network.patches(images).flatten(2).mT, shown, strict=True):
        seen = tokens[kept]
        scores = (seen @ seen.T * 8**-0.5).masked_fill(torch.eye(len(seen), dtype=torch.bool), -torch.inf)
        expected.append(network.head((scores.softmax(-1).nan_to_num() @ seen).mean(0)))
    torch.testing.assert_close(LayerMasking(network)(images, visible), torch.stack(expected))


def test_coverage_is_refused_by_name_and_images_of_several_sizes_are_answered_as_if_alone():
    masked, (images, visible) = LayerMasking(draw(TRANSFORMERS["any_size"])), question()
    with refused(UnsupportedNetworkError, "coverage follows positions"):
        masked.coverage(visible)
    expected = torch.cat([masked(images[:4], visible[:4]), masked(images[4:, :, :, :8], visible[4:, :, :, :8])])
    sizes = torch.tensor([[SIDE, SIDE]] * 4 + [[SIDE, 8]])
    torch.testing.assert_close(masked(images, visible, sizes=sizes), expected)


class OfSignals(nn.Module):
    """Patches of signals, torch's own block of a transformer, distances of all tokens to one another, and a head."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv1d(2, 8, 4, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, signals):
        return self.of_tokens(self.patches(signals).transpose(1, 2))

    def of_tokens(self, tokens):
        tokens = self.block(tokens)
        tokens = tokens + (tokens[:, :, None] - tokens[:, None]).tanh().mean(2)
        return self.head(tokens.mean(1))


def test_tokens_of_signals_attend_to_visible_ones_alone():
    network = draw(OfSignals).double().train()
    signals = torch.randn(3, 2, 24, generator=torch.Generator().manual_seed(6)).double().requires_grad_()
    shown = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    found = LayerMasking(network)(signals, shown.repeat_interleave(4, 1)[:, None])
    tokens = network.patches(signals).transpose(1, 2)
    expected = torch.cat([network.of_tokens(one[None, kept]) for one, kept in zip(tokens, shown, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    slope = torch.randn(3, 3, generator=torch.Generator().manual_seed(7)).double()
    inputs = [signals, *network.parameters()]
    given, wanted = (torch.autograd.grad((each * slope).sum(), inputs) for each in (found, expected))
    torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-11)


class Weights(nn.Module):
    """Tokens of 2 x 2 patches, and the weights with which they attend."""

    def __init__(self, averaged):
        super().__init__()
        self.patches, self.layer = nn.Conv2d(3, 8, 32, 32), nn.MultiheadAttention(8, 2, batch_first=True)
        self.averaged = averaged

    def forward(self, images):
        return self.of_tokens(self.patches(images).flatten(2).transpose(1, 2))

    def of_tokens(self, tokens):
        weights = self.layer(tokens, tokens, tokens, average_attn_weights=self.averaged)[1]
        return weights, weights.mean(-2)


@pytest.mark.parametrize("batch", [2, 3])  # as many images as heads, or not
@pytest.mark.parametrize("averaged", [True, False])
@torch.no_grad()
def test_weights_of_attention_are_those_of_visible_tokens_and_0_elsewhere(averaged, batch):
    network = draw(partial(Weights, averaged)).double()
    images = torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(5)).double()
    shown = torch.tensor([[False, True, True, False], [True] * 4, [False] * 4][:batch])
    visible = shown.reshape(batch, 1, 2, 2).repeat_interleave(32, 2).repeat_interleave(32, 3)
    found, of_keys = LayerMasking(network)(images, visible)
    wanted, means = torch.zeros_like(found), torch.zeros_like(of_keys)
    tokens = network.patches(images).flatten(2).mT
    for image, kept in enumerate(shown):
        if kept.any():
            own, mean = network.of_tokens(tokens[image : image + 1, kept])
            wanted[image][..., kept[:, None] & kept] = own[0].flatten(-2)
            means[image][..., kept] = mean[0]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(of_keys, means)


def by_slices(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def by_pairs(x):
    first, second = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((-second, first), dim=-1).reshape(x.shape)


class Rotary(nn.Module):
    """Tokens of 2 x 2 patches that attend by queries and keys which their places have rotated."""

    def __init__(self, rotated):
        super().__init__()
        self.patches, self.qkv, self.head = nn.Conv2d(3, 8, 32, 32), nn.Linear(8, 24), nn.Linear(8, 2)
        self.rotated = rotated

    def forward(self, images):
        return self.of_tokens(self.patches(images).flatten(2).transpose(1, 2), torch.arange(4))

    def of_tokens(self, tokens, places):
        angles = places[:, None] / torch.tensor([1.0, 1.0, 5.0, 5.0], dtype=torch.float64)
        qkv = self.qkv(tokens).reshape(*tokens.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        queries, keys = (each * angles.cos() + self.rotated(each) * angles.sin() for each in (queries, keys))
        found = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        return self.head((tokens + found).mean(1))


@pytest.mark.parametrize("rotated", [by_slices, by_pairs])
@torch.no_grad()
def test_a_rotary_embedding_by_hand_is_that_of_visible_tokens_alone(rotated):
    network = draw(partial(Rotary, rotated)).double()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)).double()
    shown = torch.tensor([[False, True, True, False], [True, False, True, True]])
    visible = shown.reshape(2, 1, 2, 2).repeat_interleave(32, 2).repeat_interleave(32, 3)
    tokens = network.patches(images).flatten(2).mT
    expected = [
        network.of_tokens(one[None, kept], kept.nonzero()[:, 0]) for one, kept in zip(tokens, shown, strict=True)
    ]
    torch.testing.assert_close(LayerMasking(network)(images, visible), torch.cat(expected))


# --- patches that are partly visible ----------------------------------------------------------------------------------


def test_token_dropping_hides_patches_that_are_partly_visible():
    network, (images, visible) = draw(TRANSFORMERS["vit"]), question()
    masked = LayerMasking(network, partial_patches="hidden")
    logits = masked(images.requires_grad_(), visible)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    whole = -F.max_pool2d(-visible.float(), PATCH).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    seen = whole.bool().expand_as(images)
    assert (gradient[~seen] == 0).all() and (gradient[seen] != 0).all() and (seen != visible).any()
    padded = LayerMasking(network)
    assert not torch.allclose(padded(images, visible)[3], logits[3])
    pictures, keys = images.detach().sigmoid(), torch.arange(len(images))
    by_name = TrainedNetwork("tokens", network, Preprocessing((0.5,) * 3, (0.5,) * 3), 5).predictor("token_dropping")
    torch.testing.assert_close(by_name(pictures, visible, keys), masked(pictures * 2 - 1, visible))
    with pytest.raises(InputError, match=r"'token_dropping' needs .*partial_patches='hidden'"):
        predictor(padded, "token_dropping", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UnsupportedNetworkError, match=r"layer 'conv1'.* begins with patches, .* leave it 'padded'"):
        LayerMasking(SmallResNet(10), partial_patches="hidden")


def test_what_reads_a_padded_map_first_changes_nothing_that_windows_see():
    torch.manual_seed(0)
    stem, queries = nn.Conv2d(3, 8, 3, 2, 1).double(), nn.Linear(8, 8).double()

    def enlarged(x):
        return F.interpolate(x, scale_factor=2.0, mode="bilinear").mean((2, 3))

    def attended(x):
        windows = x.reshape(len(x), 8, 6, 4, 6, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 8)
        return F.scaled_dot_product_attention(queries(windows), windows, windows).mean((1, 2))

    def answers(x, order):
        padded = F.pad(stem(x).contiguous(memory_format=torch.channels_last), (2, 2, 2, 2))
        found = {function: function(padded) for function in order}
        return found[enlarged], found[attended]

    images = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    visible = torch.ones(2, 1, 40, 40, dtype=torch.bool)
    visible[:, :, :20, 8:32] = False
    with torch.no_grad():
        first, second = (
            LayerMasking(Function(lambda x, *_, order=order: answers(x, order), stem, queries))(images, visible)
            for order in ((enlarged, attended), (attended, enlarged))
        )
    torch.testing.assert_close(first, second)
