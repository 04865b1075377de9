"""Stand-ins for parts of a detector: torchvision's own code runs on maps that are known already.

A stand-in is a shallow copy of a module, which shares all parameters, or a module that returns what it was given.
"""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD

from maskrobust.lm_modules.masking.functional import neighbour_padding, neighbour_rings
from maskrobust.lm_modules.masking.layer_masking import MaskedMap

Heads = dict[tuple[str, str], list[MaskedMap]]
"""Maps of each level by the part of the dense head and the name of the convolution that makes them."""

NEVER = -1e4
"""A logit whose sigmoid, softmax and loss as background are exactly 0; at minus infinity the two latter are NaN."""
_LEAST_WEIGHT = 1e-3


def stand_in(module: nn.Module) -> Any:
    """A copy of a module that shares its parts, in which others can be put in their place."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


class Given(nn.Module):
    """Returns what it was given: one answer always, or several in turn."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self._answers = answers
        self._calls = 0

    def forward(self, *_: Any) -> Any:
        """The next answer."""
        self._calls += 1
        return self._answers[(self._calls - 1) % len(self._answers)]


def head_parts(head: nn.Module) -> Iterator[tuple[str, Any]]:
    """The parts of a dense head that end in scores or boxes, by name; the one of the scores is first."""
    names = [name for name in ("classification_head", "regression_head") if hasattr(head, name)]
    yield from ((name, getattr(head, name)) for name in names)
    if not names:
        yield "", head


def last_convolutions(part: nn.Module) -> list[str]:
    """The names of the convolutions of a part of a dense head that make scores and boxes."""
    return [name for name, _ in part.named_children() if name != "conv"]


class HiddenAnchors(NamedTuple):
    """Which anchors are left out.

    Attributes:
        seen: for each level (B, A, H, W) bool, False for anchors that are left out.
        dense: the module that holds head and anchors: the proposal network, or the detector itself.
    """

    seen: list[Tensor]
    dense: nn.Module

    def head(self, heads: Heads) -> Any:
        """The dense head with `heads` for what its convolutions return, without scores at hidden anchors."""
        head = stand_in(self.dense.head)  # type: ignore[arg-type]
        for name, part in head_parts(head):
            own = stand_in(part) if name else head
            if name:
                setattr(head, name, own)
            if hasattr(own, "conv"):
                own.conv = nn.Identity()
            for (owner, last), maps in heads.items():
                if owner == name:
                    is_score = last == "cls_logits" or owner == "classification_head"
                    filled = [self._filled(x.features, seen, is_score) for x, seen in zip(maps, self.seen, strict=True)]
                    is_list = last == "module_list"
                    setattr(own, last, nn.ModuleList(map(Given, filled)) if is_list else Given(*filled))
        return head

    def _filled(self, x: Tensor, seen: Tensor, is_score: bool) -> Tensor:
        """A map (B, A K, H, W) with no score at hidden anchors, and no size where they are proposals."""
        if seen.all():
            return x
        parts = x.view(len(x), seen.shape[1], -1, *x.shape[2:])
        filler = parts.new_full((parts.shape[2], 1, 1), NEVER if is_score else 0.0)
        if is_score and isinstance(self.dense, SSD):
            filler[0] = 0.0  # the background, for the softmax
        if not is_score and isinstance(self.dense, RegionProposalNetwork):
            filler[2:] = -torch.inf  # of no width and height: torchvision drops them before it suppresses others
        return torch.where(seen[:, :, None], parts, filler).view_as(x)

    def leave_out_of_losses(self, dense: Any) -> None:
        """Have the stand-in for `dense` compute no loss at hidden anchors."""
        seen = torch.cat([each.permute(0, 2, 3, 1).flatten(1) for each in self.seen], 1)

        def with_hidden(labels: list[Tensor], value: int) -> list[Tensor]:
            return [each.masked_fill(~one, value) for each, one in zip(labels, seen, strict=True)]

        if isinstance(dense, RegionProposalNetwork):
            sample = dense.fg_bg_sampler
            dense.fg_bg_sampler = lambda labels: sample(with_hidden(labels, -1))  # which samples no anchor of -1
            return
        owner = dense if isinstance(dense, SSD) else dense.head
        compute_loss = owner.compute_loss
        # Background, with scores that say so: the loss is exactly 0.
        owner.compute_loss = lambda targets, outputs, anchors, matched: compute_loss(
            targets, outputs, anchors, with_hidden(matched, -1)
        )


def masked_roi_heads(roi_heads: nn.Module, maps: dict[str, MaskedMap]) -> Any:
    """The heads of proposals, which pool visible positions alone."""
    found = stand_in(roi_heads)
    for name, pool in roi_heads.named_children():
        if name.endswith("roi_pool"):
            setattr(found, name, MaskedPool(pool, maps))
    return found


class MaskedPool(nn.Module):
    """RoIAlign of visible positions: each bin is the mean over its visible part; bins without any are padded.

    In a batch of several sizes each image is pooled by itself: a box at its edge must not read beyond it.

    Args:
        pool: of the detector.
        maps: for each name what a map holds, and what is visible of it.
    """

    def __init__(self, pool: nn.Module, maps: dict[str, MaskedMap]) -> None:
        super().__init__()
        self.pool, self.maps = pool, maps

    def forward(self, _features: Any, boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pooled features (N, C, h, w) of the boxes of all images; see `torchvision.ops.MultiScaleRoIAlign`."""
        if all((each.sizes == each.sizes[0]).all() for each in self.maps.values()):
            return self._pooled({name: each[:2] for name, each in self.maps.items()}, boxes, image_shapes)
        found = []
        for index, (own, shape) in enumerate(zip(boxes, image_shapes, strict=True)):
            alone = {}
            for name, (features, visible, sizes) in self.maps.items():
                place = slice(index, index + 1), slice(None), *(slice(side) for side in sizes[index].tolist())
                alone[name] = features[place], visible[place]
            found.append(self._pooled(alone, [own], [shape]))
        return torch.cat(found)

    def _pooled(self, maps: dict[str, tuple[Tensor, Tensor]], boxes: list[Tensor], shapes: list[Any]) -> Tensor:
        pooled: Tensor = self.pool({name: x.contiguous() for name, (x, _) in maps.items()}, boxes, shapes)
        if all(visible.all() for _, visible in maps.values()):
            return pooled
        with torch.no_grad():
            weights = {name: visible.to(pooled.dtype) for name, (_, visible) in maps.items()}
            weight = self.pool(weights, boxes, shapes)
            whole = self.pool({name: torch.ones_like(each) for name, each in weights.items()}, boxes, shapes)
            known = (weight > _LEAST_WEIGHT) | (weight == whole)
            scale = torch.where(known & (weight < whole), whole / weight.clamp(min=_LEAST_WEIGHT), 1.0)
        pooled = pooled * scale
        if known.all():
            return pooled
        return neighbour_padding(pooled, known, neighbour_rings(known, max(known.shape[2:])))
