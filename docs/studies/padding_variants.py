"""The paddings that layer masking is compared with, beside those that the library has.

`register(find_shifts)` makes each of them a masking method, so that everything that takes methods takes them by name:

    sys.path.append("docs/studies")
    from padding_variants import register
    register(find_shifts)
    load_network("timm/tf_efficientnet_lite0:pretrained").predictor("layer_masking_shifted")

On a CPU. Hidden pixels have no effect under any of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.masked import Masked
from maskrobust.lm_modules.masking.morphology import PADDINGS, CopiedRows, RowPlan, ring_rows
from maskrobust.lm_modules.masking.table import RULES
from maskrobust.lm_modules.methods import WRAPPERS, unwrapped

FindShifts = Callable[[Tensor, Tensor], Tensor]
"""(images (B, C, H, W) normalised, visible (B, 1, H, W) bool) -> (B, 2, H, W) int64: for each hidden pixel, how many
rows down and columns to the right its features are taken from."""

_INPUT: dict[str, Tensor] = {}


class Shifted(LayerMasking):
    """Layer masking that fills in features from where an exemplar fill takes the pixels."""

    def __init__(self, network: nn.Module, find_shifts: FindShifts) -> None:
        super().__init__(unwrapped(network))
        use_padding(self, "shifted")
        self.find_shifts = find_shifts

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits, as `LayerMasking` gives them."""
        if visible is not None:
            _INPUT["shifts"] = self.find_shifts(images.masked_fill(~visible, 0.0), visible)
        logits: Tensor = super().forward(images, visible)
        return logits


class PartialConvolution(LayerMasking):
    """Partial convolution (Liu et al., "Image inpainting for irregular holes using partial convolutions", ECCV 2018).

    Each convolution reads 0 at hidden positions; its sum, without the bias, is multiplied by the number of positions
    that its window reads, over the number of those that are visible. Positions outside of the picture count as neither,
    so that the network is unchanged where nothing is hidden. Everything else is layer masking.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(unwrapped(network), padding="zeros")

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits, as `LayerMasking` gives them."""
        with partial_convolutions():
            logits: Tensor = super().forward(images, visible)
        return logits


def use_padding(masked: LayerMasking, name: str) -> LayerMasking:
    """A masked network with one of `PADDINGS` that the library's options do not name, and so would refuse."""
    object.__setattr__(masked.options, "padding", name)
    return masked


def random_neighbour(visible: Tensor, rings: int, _inside: Tensor | None = None) -> RowPlan:
    """Ring by ring a known neighbour, drawn at random; a draw is of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    plan = RowPlan()
    for ring in islice(ring_rows(visible), rings):
        counts = ring.starts.diff(append=ring.starts.new_tensor([len(ring.neighbours)]))
        drawn = ring.starts + (torch.rand(len(counts), generator=generator) * counts).long()
        plan.append(CopiedRows(ring.rows, ring.neighbours[drawn]))
    return plan


def shifted(visible: Tensor, rings: int, _inside: Tensor | None = None) -> RowPlan:
    """The features at the hole's shift over the stride; where these are hidden or outside, mirrored ones."""
    plan = PADDINGS["mirror"](visible, rings)
    if not plan:
        return plan
    height, width = visible.shape[2:]
    rows, side = plan[0].rows, torch.tensor([height, width])[:, None]
    image, place = rows // (height * width), torch.stack([rows // width % height, rows % width])
    strides = torch.tensor(_INPUT["shifts"].shape[2:])[:, None] / side
    pixel = ((place + 0.5) * strides).long()
    target = place + (_INPUT["shifts"][image, :, pixel[0], pixel[1]].mT / strides).round().long()
    is_inside = ((target >= 0) & (target < side)).all(dim=0)
    target = torch.where(is_inside, target, place)
    taken = image * height * width + target[0] * width + target[1]
    return RowPlan([replace(plan[0], neighbours=torch.where(visible.flatten()[taken], taken, plan[0].neighbours))])


def register(find_shifts: FindShifts) -> list[str]:
    """Make masking methods of all paddings, and return their names.

    Args:
        find_shifts: where an exemplar fill takes each hidden pixel from.
    """
    PADDINGS.update(random_neighbour=random_neighbour, shifted=shifted)
    made: dict[str, Callable[[nn.Module], nn.Module]] = {
        "layer_masking_random_neighbour": lambda network: use_padding(
            LayerMasking(unwrapped(network)), "random_neighbour"
        ),
        "layer_masking_shifted": partial(Shifted, find_shifts=find_shifts),
        "partial_convolution": PartialConvolution,
    }
    WRAPPERS.update(made)  # type: ignore[arg-type]
    return list(made)


@contextmanager
def partial_convolutions() -> Iterator[None]:
    """Within, convolutions of masked features are partial ones."""
    rule = RULES[F.conv2d]

    def partial_convolution(
        operation: Any, x: Masked, weight: Tensor, bias: Tensor | None = None, *args: Any, **options: Any
    ) -> Any:
        inside, frame = (x, (0, 0, 0, 0)) if x.frame is None else (x.frame.inside, x.frame.padding)
        seen = inside.visible.positions

        def scaled(features: Tensor, *, groups: int, **geometry: Any) -> Tensor:
            one = weight.new_ones(1, 1, *weight.shape[2:])
            counts = [
                F.conv2d(F.pad(each.float(), frame), **{**geometry, "weight": one})
                for each in (seen, torch.ones_like(seen))
            ]
            sums: Tensor = operation(features, groups=groups, **geometry)
            sums *= counts[1] / counts[0].clamp(min=1)
            return sums if bias is None else sums + bias[:, None, None]

        return rule.apply(scaled, x, weight, None, *args, **options)

    RULES[F.conv2d] = rule._replace(apply=partial_convolution)
    try:
        yield
    finally:
        RULES[F.conv2d] = rule
