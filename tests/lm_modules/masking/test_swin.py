"""Layer masking of a Swin transformer: against attention to visible tokens alone, window by window.

All else that it computes is known to the slow reference beside this file, which shares no code with the library; here
its blocks get what they compute there. `tests/fuzz/attending.py` does so for blocks over whole maps.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from timm.models import swin_transformer
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking.cases import assert_as_reference
from tests.lm_modules.masking.reference import Seen
from tests.lm_modules.masking.test_attention import draw


def attend(tokens: Tensor, q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Softmax attention of tokens (n, C), with weights (heads, C, d) for each of q, k and v and their biases behind."""
    q, k, v = (torch.cat([tokens, torch.ones_like(tokens[:, :1])], dim=1) @ each for each in (q, k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5 + offsets
    return (scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1)


def weights_of(layer: nn.Linear, heads: int) -> list[Tensor]:
    """Weights of q, k and v for each head, (heads, C + 1, d), with the biases in the last row."""
    both = torch.cat([layer.weight, layer.bias[:, None]], dim=1)
    return [each.mT for each in both.unflatten(0, (3, heads, -1)).unbind(0)]


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


def with_holes(size):
    """Images whose right half is hidden, of which only a corner is visible, and that have a hole along no patches."""
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    visible = torch.ones(3, 1, size, size, dtype=torch.bool)
    visible[0, :, :, size // 2 :] = False
    visible[1, :, size // 4 :] = visible[1, :, :, size // 4 :] = False
    visible[2, :, 5 : size // 2 + 3, 3 : size // 2 + 1] = False
    return images, visible


def of_either(own: Callable[..., Any], compute: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that is another one for features of the reference."""

    def forward(layer: nn.Module, x: Any, **more: Any) -> Any:
        return compute(layer, x) if isinstance(x, Seen) else own(layer, x, **more)

    return forward


@pytest.mark.parametrize(("fused", "training"), [(True, False), (False, True)])
def test_a_swin_transformer_attends_as_if_its_hidden_tokens_were_dropped(fused, training, monkeypatch):
    for kind, compute in (
        (swin_transformer.SwinTransformerBlock, block_of_swin), (swin_transformer.PatchMerging, merging_of_swin),
    ):  # fmt: skip
        monkeypatch.setattr(kind, "forward", of_either(kind.forward, compute))
    sizes = {"img_size": 36, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    network = draw(partial(swin_transformer.SwinTransformer, **sizes, drop_path_rate=0.0, num_classes=5))
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    assert_as_reference(network, *with_holes(36), training=training)
