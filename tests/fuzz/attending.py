"""Random networks that attend: blocks and heads for `draw_example`, and what each is when hidden tokens are dropped.

Given plain features, a block computes all tokens at once, in one of the ways that networks do. Given those of the
reference, it computes each image and window by itself, of its visible tokens alone.
"""

import random
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.lm_modules.masking.reference import Seen

CLASSES = 3


def heads(channels: int) -> int:
    """Two, where channels can be shared out."""
    return 2 if channels % 2 == 0 else 1


class Attention(nn.Module):
    """Of tokens (B, N, C), (B, N, C) out.

    Attributes:
        way: how it is computed: "fused", "by hand", "einsum", "module", "channels" or "linear".
        slopes: (heads, 1, 1), of biases that fall with the distance of two tokens; None for none.
    """

    def __init__(self, chance: random.Random, channels: int, way: str = "") -> None:
        super().__init__()
        way = way or chance.choice(["fused", "by hand", "einsum", "module", "channels", "linear"])
        self.way, self.norm, self.heads = way, nn.LayerNorm(channels), heads(channels)
        self.in_proj = nn.Linear(channels, 3 * channels, bias=chance.random() < 0.5)
        self.out_proj = nn.Linear(channels, channels)
        self.module = nn.MultiheadAttention(channels, self.heads, batch_first=True) if way == "module" else None
        biased = way in ("fused", "by hand", "einsum") and chance.random() < 0.5
        self.slopes = nn.Parameter(torch.randn(self.heads, 1, 1)) if biased else None

    def extra_repr(self) -> str:
        return f"{self.way}, biased={self.slopes is not None}"

    def forward(self, x: Any, places: Tensor | None = None) -> Any:
        """Of tokens at some places of a sequence, by default one after another."""
        x = self.norm(x)
        if self.module is not None:
            return self.module(x, x, x, need_weights=False)[0]
        images, count, channels = x.shape
        q, k, v = self.in_proj(x).reshape(images, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        places = torch.arange(count) if places is None else places
        biases = None if self.slopes is None else self.slopes * (places[:, None] - places).abs() / 10
        return self.out_proj(self._attend(q, k, v, biases).transpose(1, 2).reshape(images, count, channels))

    def _attend(self, q: Any, k: Any, v: Any, biases: Tensor | None) -> Any:
        if self.way == "fused":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=biases)
        if self.way == "channels":
            q, k, v = q.transpose(-2, -1), k.transpose(-2, -1), v.transpose(-2, -1)
            weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(dim=-1)
            return (weights @ v).transpose(-2, -1)
        if self.way == "linear":
            q, k = q.sigmoid(), k.sigmoid()
            return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(dim=-2, keepdim=True).transpose(-2, -1) + 1)
        if self.way == "einsum":
            weights = torch.einsum("bhnc,bhmc->bhnm", q, k) * q.shape[-1] ** -0.5
            weights = weights if biases is None else weights + biases
            return torch.einsum("bhnm,bhmc->bhnc", weights.softmax(-1), v)
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return (weights if biases is None else weights + biases).softmax(dim=-1) @ v


def tokens_of(seen: Seen, image: int) -> tuple[Tensor, Tensor]:
    """The visible tokens (1, n, C) of an image, and which of N these are; what surrounds the image is seen, too."""
    kept = seen.known[image].flatten().nonzero()[:, 0]
    return seen.x[image].flatten(1).T[kept][None], kept


class OverPositions(nn.Module):
    """Every position of a map attends, with tokens of no position before them, which may be added to the map."""

    def __init__(self, chance: random.Random, channels: int) -> None:
        super().__init__()
        self.extra, self.adds = chance.choice([0, 0, 1, 2]), chance.random() < 0.5
        self.attention = Attention(chance, channels)
        self.tokens = nn.Parameter(torch.randn(1, self.extra, channels)) if self.extra else None

    def forward(self, x: Any) -> Any:
        if isinstance(x, Seen):
            return x + self._dropped(x)
        tokens = x.flatten(2).transpose(1, 2)
        if self.tokens is not None:
            tokens = torch.cat([self.tokens.expand(len(x), -1, -1), tokens], dim=1)
        tokens = self.attention(tokens)
        y = tokens[:, self.extra :].transpose(1, 2).reshape(x.shape)
        return x + (y + tokens[:, 0, :, None, None] if self.extra and self.adds else y)

    def _dropped(self, seen: Seen) -> Seen:
        images = []
        for image in range(len(seen.x)):
            tokens, kept = tokens_of(seen, image)
            if self.tokens is not None:
                tokens = torch.cat([self.tokens, tokens], dim=1)
                kept = torch.cat([torch.arange(self.extra), kept + self.extra])
            y = torch.zeros_like(seen.x[image]).flatten(1)
            if len(kept) > self.extra:
                tokens = self.attention(tokens, kept)[0]
                own = tokens[self.extra :] + (tokens[0] if self.extra and self.adds else 0)
                y = y.index_copy(1, kept[self.extra :] - self.extra, own.T)
            images.append(y.reshape(seen.x[image].shape))
        return Seen(torch.stack(images), seen.known, seen.run)


class OverWindows(nn.Module):
    """Positions attend within windows of a map that is rolled, or that zeros are put around, which are attended to."""

    def __init__(self, chance: random.Random, channels: int) -> None:
        super().__init__()
        self.side, self.shift = chance.choice([2, 3]), chance.choice([0, 1])
        self.attention = Attention(chance, channels)

    def extra_repr(self) -> str:
        return f"side={self.side}, shift={self.shift}"

    def forward(self, x: Any) -> Any:
        if isinstance(x, Seen):
            return x + self._dropped(x)
        y, side = x.permute(0, 2, 3, 1), self.side
        below, beside = (-length % side for length in x.shape[2:])
        y = F.pad(y, (0, 0, 0, beside, 0, below)) if below or beside else y
        y = torch.roll(y, (-self.shift, -self.shift), (1, 2)) if self.shift else y
        images, height, width, channels = y.shape
        windows = y.view(images, height // side, side, width // side, side, channels).permute(0, 1, 3, 2, 4, 5)
        windows = self.attention(windows.reshape(-1, side * side, channels))
        y = windows.view(images, height // side, width // side, side, side, channels).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(images, height, width, channels)
        y = torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y
        return x + y[:, : x.shape[2], : x.shape[3]].permute(0, 3, 1, 2)

    def _windows(self, height: int, width: int) -> Iterator[list[tuple[int, int]]]:
        """The positions of each window; beyond the map for zeros."""
        side, sizes = self.side, [length + -length % self.side for length in (height, width)]
        for top in range(0, sizes[0], side):
            for left in range(0, sizes[1], side):
                yield [
                    ((top + down + self.shift) % sizes[0], (left + across + self.shift) % sizes[1])
                    for down in range(side)
                    for across in range(side)
                ]

    def _dropped(self, seen: Seen) -> Seen:
        images, (_, channels, height, width) = [], seen.x.shape
        for x, v in zip(seen.x, seen.known, strict=True):
            found: dict[tuple[int, int], Tensor] = {}
            for window in self._windows(height, width):
                beyond = [down >= height or across >= width for down, across in window]
                kept = [at for at, place in enumerate(window) if beyond[at] or v[place]]
                tokens = [x.new_zeros(channels) if beyond[at] else x[(slice(None), *window[at])] for at in kept]
                if not all(beyond[at] for at in kept):
                    after = self.attention(torch.stack(tokens)[None], torch.tensor(kept))[0]
                    found |= {window[at]: each for at, each in zip(kept, after, strict=True)}
            nothing = x.new_zeros(channels)
            rows = [torch.stack([found.get((i, j), nothing) for j in range(width)]) for i in range(height)]
            images.append(torch.stack(rows).permute(2, 0, 1))
        return Seen(torch.stack(images), seen.known, seen.run)


class ToPooled(nn.Module):
    """Queries at each position, keys and values at those of a strided convolution, as in pyramid transformers."""

    def __init__(self, chance: random.Random, channels: int) -> None:
        super().__init__()
        self.fused, side, self.heads = chance.random() < 0.5, chance.choice([2, 3]), heads(channels)
        self.pool = nn.Conv2d(channels, channels, side, 2, chance.choice([0, 1]))
        self.q, self.kv = nn.Linear(channels, channels), nn.Linear(channels, 2 * channels)

    def forward(self, x: Any) -> Any:
        if isinstance(x, Seen):
            return x + self._dropped(x, self.pool(x))
        y = self._attend(x.flatten(2).transpose(1, 2), self.pool(x).flatten(2).transpose(1, 2))
        return x + y.transpose(1, 2).reshape(x.shape)

    def _attend(self, queries: Any, keys: Any) -> Any:
        images, count, channels = queries.shape
        q = self.q(queries).reshape(images, count, self.heads, -1).transpose(1, 2)
        k, v = self.kv(keys).reshape(images, -1, 2, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
        return y.transpose(1, 2).reshape(images, count, channels)

    def _dropped(self, seen: Seen, pooled: Seen) -> Seen:
        images, shown = [], seen.known.clone()
        for image in range(len(seen.x)):
            (queries, kept), (keys, _) = tokens_of(seen, image), tokens_of(pooled, image)
            y = torch.zeros_like(seen.x[image]).flatten(1)
            if keys.shape[1] and len(kept):
                y = y.index_copy(1, kept, self._attend(queries, keys)[0].T)
            else:
                shown[image] = False
            images.append(y.reshape(seen.x[image].shape))
        return Seen(torch.stack(images), shown, seen.run)


def attention(chance: random.Random, channels: int) -> nn.Module:
    return chance.choice([OverPositions, OverPositions, OverWindows, OverWindows, ToPooled])(chance, channels)


class Token(nn.Module):
    """A head that reads a class token behind attention, or what a learnt query finds, or the mean of tokens."""

    def __init__(self, chance: random.Random, channels: int) -> None:
        super().__init__()
        self.kind = chance.choice(["class token", "query", "mean"])
        self.attention = Attention(chance, channels, chance.choice(["fused", "by hand", "module"]))
        self.attention.slopes = None  # a token's place is not that in its image
        self.token, self.linear = nn.Parameter(torch.randn(1, 1, channels)), nn.Linear(channels, CLASSES)

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, x: Any) -> Tensor:
        if not isinstance(x, Seen):
            return self._of(x.flatten(2).transpose(1, 2))
        return torch.cat([self._of(tokens_of(x, image)[0]) for image in range(len(x.x))])

    def _of(self, tokens: Any) -> Tensor:
        """Logits of tokens (B, N, C); of none, the mean and what a query finds are 0."""
        token = self.token.expand(len(tokens), -1, -1)
        if self.kind == "class token":
            return self.linear(self.attention(torch.cat([token, tokens], dim=1))[:, 0])
        if tokens.shape[1] == 0:
            return self.linear(torch.zeros_like(token[:, 0]))
        if self.kind == "query":
            weights = (token @ tokens.transpose(-2, -1)).softmax(dim=-1)
            return self.linear((weights @ tokens)[:, 0])
        return self.linear(self.attention(tokens).mean(dim=1))


def token_head(chance: random.Random, channels: int) -> nn.Module:
    return Token(chance, channels)
