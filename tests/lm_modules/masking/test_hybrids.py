"""Layer masking of networks of windows, and of convolutions and attention: against attention to visible tokens alone.

All else that these networks compute is known to the slow reference beside this file, which shares no code with the
library; here each of their attention layers gets what it computes there.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from timm.models import fastvit, maxxvit, swin_transformer
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking.cases import assert_as_reference
from tests.lm_modules.masking.reference import Seen
from tests.lm_modules.masking.test_attention import draw, with_holes

Compute = Callable[[Tensor, Tensor], Tensor]


def attend(tokens: Tensor, q: Tensor, k: Tensor, v: Tensor, offsets: Tensor | float = 0.0) -> Tensor:
    """Softmax attention of tokens (n, C), with weights (heads, C, d) for each of q, k and v and their biases behind."""
    q, k, v = (torch.cat([tokens, torch.ones_like(tokens[:, :1])], dim=1) @ each for each in (q, k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5 + offsets
    return (scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1)


def weights_of(layer: Any, heads: int, *, heads_first: bool = False) -> list[Tensor]:
    """Weights of q, k and v for each head, (heads, C + 1, d), with the biases in the last row."""
    weight = layer.weight.flatten(1)
    bias = torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias
    both = torch.cat([weight, bias[:, None]], dim=1)
    parts = both.unflatten(0, (heads, 3, -1)).unbind(1) if heads_first else both.unflatten(0, (3, heads, -1)).unbind(0)
    return [each.mT for each in parts]


def over_images(seen: Seen, compute: Compute) -> Seen:
    """What is computed of the visible tokens (n, C) of each map (C, H, W), and of which of H x W they are."""
    images = []
    for x, v in zip(seen.x.flatten(2), seen.v.flatten(1), strict=True):
        kept = v.nonzero()[:, 0]
        after = compute(x[:, kept].T, kept).T
        images.append(after.new_zeros(len(after), x.shape[1]).index_copy(1, kept, after))
    return seen.like(torch.stack(images).unflatten(2, seen.v.shape[1:]))


def attention_of_fastvit(layer: Any, seen: Seen) -> Seen:
    weights = weights_of(layer.qkv, layer.num_heads)
    return over_images(seen, lambda tokens, _kept: layer.proj(attend(tokens, *weights)))


def attention_of_coatnet(layer: Any, seen: Seen) -> Seen:
    weights = weights_of(layer.qkv, layer.num_heads, heads_first=layer.head_first)
    offsets = layer.rel_pos.get_bias()[0]
    out = partial(F.linear, weight=layer.proj.weight.flatten(1), bias=layer.proj.bias)
    return over_images(seen, lambda tokens, kept: out(attend(tokens, *weights, offsets[:, kept][:, :, kept])))


def block_of_swin(block: Any, seen: Seen) -> Seen:
    seen = seen + _windows_of_swin(block, block.norm1(seen))
    return seen + block.mlp(block.norm2(seen))


def _windows_of_swin(block: Any, seen: Seen) -> Seen:
    """Of features (B, H, W, C), window by window, with zeros behind them that are attended to."""
    (side, _), (shift, _), (_, height, width, channels) = block.window_size, block.shift_size, seen.x.shape
    weights = weights_of(block.attn.qkv, block.attn.num_heads)
    offsets = block.attn._get_rel_pos_bias().reshape(-1, side**2, side**2)
    offsets = offsets if block.attn_mask is None else offsets + block.attn_mask[:, None]
    images = []
    for x, v in zip(seen.x, seen.v, strict=True):
        y = torch.zeros_like(x)
        for number, (top, left) in enumerate(product(range(0, height, side), range(0, width, side))):
            places = product(range(top, top + side), range(left, left + side))
            rolled = [
                ((i + shift) % height, (j + shift) % width) if i < height and j < width else None for i, j in places
            ]
            kept = [at for at, place in enumerate(rolled) if place is None or v[place]]
            tokens = [x.new_zeros(channels) if rolled[at] is None else x[rolled[at]] for at in kept]
            if not tokens:
                continue
            between = (offsets if block.attn_mask is None else offsets[number])[:, kept][:, :, kept]
            after = block.attn.proj(attend(torch.stack(tokens), *weights, between))
            for at, token in zip(kept, after, strict=True):
                if rolled[at] is not None:
                    y = y.index_put(tuple(map(torch.tensor, rolled[at])), token)
        images.append(y)
    return seen.like(torch.stack(images))


def merging_of_swin(layer: Any, seen: Seen) -> Seen:
    """Four neighbours side by side, each 0 where it is hidden, visible where any is."""
    _, height, width, _ = seen.x.shape
    x = F.pad(seen.x, (0, 0, 0, width % 2, 0, height % 2))
    v = F.pad(seen.v, (0, width % 2, 0, height % 2), value=True)
    corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
    merged = torch.cat([x[:, down::2, across::2] for down, across in corners], dim=3)
    shown = torch.stack([v[:, down::2, across::2] for down, across in corners]).any(dim=0)
    return layer.reduction(layer.norm(Seen(merged, shown, seen.run, axes=(0, 1, 2))))


NETWORKS = {
    "swin": (
        partial(swin_transformer.SwinTransformer, img_size=36, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2),
                num_heads=(2, 4), drop_path_rate=0.0, num_classes=5), 36,
        [(swin_transformer.SwinTransformerBlock, block_of_swin), (swin_transformer.PatchMerging, merging_of_swin)],
    ),
    "fastvit": (
        partial(fastvit.FastVit, layers=(1, 1, 1, 1), embed_dims=(8, 16, 16, 32),
                token_mixers=("repmixer", "repmixer", "repmixer", "attention"), num_classes=5), 128,
        [(fastvit.Attention, attention_of_fastvit)],
    ),
    "coatnet": (
        partial(timm.create_model, "test_coatnet", img_size=64, num_classes=5), 64,
        [(maxxvit.Attention2d, attention_of_coatnet)],
    ),
}  # fmt: skip


def split(network: nn.Module) -> nn.Module:
    """A network whose batch norms do nothing else, as the reference knows them."""
    for path, module in [*network.named_modules()]:
        if isinstance(module, BatchNormAct2d):
            norm = nn.BatchNorm2d(module.num_features, eps=module.eps)
            norm.load_state_dict(module.state_dict())
            network.set_submodule(path, nn.Sequential(norm.eval(), module.drop, module.act))
    return network


def of_either(own: Callable[..., Any], compute: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that is another one for features of the reference."""

    def forward(layer: nn.Module, x: Any, **more: Any) -> Any:
        return compute(layer, x) if isinstance(x, Seen) else own(layer, x, **more)

    return forward


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_attends_as_if_its_hidden_tokens_were_dropped(name, fused, training, monkeypatch):
    build, size, layers = NETWORKS[name]
    for kind, compute in layers:
        monkeypatch.setattr(kind, "forward", of_either(kind.forward, compute))
    network = split(draw(build))
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = 1.0
    with torch.no_grad():
        network(torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(3)))
    images, visible = with_holes(size)
    assert_as_reference(network.eval(), images, visible, training=training)
