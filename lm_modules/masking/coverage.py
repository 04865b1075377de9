"""How much of what each position of a network's maps reads is visible, carried as a fraction through the layers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.masked import Masked, VisibleMap, Window
from maskrobust.lm_modules.masking.morphology import propagate_visible
from maskrobust.lm_modules.masking.program import Program, fill_in
from maskrobust.lm_modules.masking.rules.normalisation import functional_group_norm, group_norm, instance_norm
from maskrobust.lm_modules.masking.state import is_hooked, without_hooks

_OVER_IMAGE = (group_norm, functional_group_norm, instance_norm)
_LEAST, _MOST = 2.0**-100, 1 - 2.0**-24


@dataclass(eq=False, kw_only=True)
class CoveredMap(VisibleMap):
    """Visible positions with their coverage: 1 where all that a position reads is visible, 0 where it is hidden.

    A window's coverage is the mean of that of the positions under it, the outside of the image left out; that of a sum,
    a product or a concatenation is the mean over its operands.

    Attributes:
        coverage: (B, 1, H, W) float32; between 0 and 1 for all visible positions that read something hidden, too.
    """

    coverage: Tensor

    def window(self, window: Window) -> VisibleMap:
        """The map after a convolution or pool."""
        after = super().window(window)
        if isinstance(after, CoveredMap):
            return after
        size = after.positions.shape[2:]
        inside = _sum_under(torch.ones_like(self.coverage), window, size).clamp(min=1)
        is_whole = ~propagate_visible(self.coverage < 1, *window)
        covered = _covered(after, _sum_under(self.coverage, window, size) / inside, is_whole)
        self._derived[window] = covered
        return covered

    def derive(self, key: Hashable, spread: Callable[[Tensor], Tensor], *, least: float = 0.0) -> VisibleMap:
        """The map of positions that are made from visible ones."""
        after = super().derive(key, spread, least=least)
        if isinstance(after, CoveredMap):
            return after
        weights = spread(torch.ones_like(self.coverage)).clamp(min=_LEAST)
        is_whole = spread((self.coverage < 1).float()) <= least
        self._derived[key] = covered = _covered(after, spread(self.coverage) / weights, is_whole)
        return covered

    def of_image(self) -> Tensor:
        """The coverage of what is made from all positions, (B, 1, 1, 1)."""
        axes = (2, 3)
        return _bounded(self.coverage.mean(axes, keepdim=True), (self.coverage == 1).all(2, True).all(3, True))

    def joined(self, coverages: Sequence[Tensor]) -> "CoveredMap":
        """The same positions with the mean of their coverage and that of others, (B, 1, 1, 1) or (B, 1, H, W)."""
        return _covered(self, *_mean([self.coverage, *coverages]))

    def merge(self, *others: VisibleMap, intersection: bool | None = None) -> VisibleMap:
        """The positions visible in all maps, or in any."""
        if all(other is self for other in others):
            return self
        merged = super().merge(*others, intersection=intersection)
        coverages = [each.coverage for each in (self, *others) if isinstance(each, CoveredMap)]
        return _covered(merged, *_mean(coverages))


@torch.no_grad()
def carry_coverage(program: Program, network: nn.Module, images: Masked) -> Any:
    """The coverage of what a network returns, in the same structure.

    What is made from the whole image, such as a pooled branch, the gate of a squeeze-and-excitation or the statistics
    of a group norm, has one coverage for each image, which counts as one operand wherever it meets a map.

    Args:
        program: of the network in eval mode.
        network: whose program it is; its hooks are not called.
        images: whose `visible` is a `CoveredMap`.

    Returns:
        (B, 1, h, w) float32 for each map, (B, 1, 1, 1) for each other tensor.
    """
    values: dict[str, Any] = {program.input_name: images}
    of_images: dict[str, Tensor] = {}
    for step in program.steps:
        operation = step.operation(network)
        if isinstance(operation, nn.Module) and is_hooked(operation):
            operation = without_hooks(operation)
        result = step.run(network, values, operation=operation)
        joined = [of_images[name] for name in step.reads if name in of_images]
        if isinstance(result, Masked) and isinstance(result.visible, CoveredMap):
            if step.rule is not None and step.rule.apply in _OVER_IMAGE:
                joined.append(result.visible.of_image())
            if joined:
                result = replace(result, visible=result.visible.joined(joined))
        elif any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            maps = (values[name].visible for name in step.reads if isinstance(values[name], Masked))
            joined += [visible.of_image() for visible in maps]
            if joined:
                of_images[step.name] = _bounded(*_mean(joined))
        values[step.name] = result
        for last in step.last_uses:
            del values[last]
    return fill_in(program.output, {name: _coverage(each, of_images.get(name)) for name, each in values.items()})


def channels_of(program: Program, network: nn.Module) -> int:
    """How many channels the images of a network have: those that its first convolution takes.

    Raises:
        InputError: no module of it says so.
    """
    for call in (program.call, *program.call.within()):
        channels = getattr(network.get_submodule(call.path), "in_channels", None)
        if isinstance(channels, int):
            return channels
    raise InputError(f"{type(network).__name__} does not say how many channels its images have; give `channels`.")


def _covered(visible: VisibleMap, coverage: Tensor, is_whole: Tensor) -> CoveredMap:
    coverage = torch.where(visible.positions, _bounded(coverage, is_whole), 0.0)
    return CoveredMap(visible.positions, visible.options, coverage=coverage)


def _bounded(coverage: Tensor, is_whole: Tensor) -> Tensor:
    """1 where all is visible and nowhere else, however little is hidden, and above 0."""
    return torch.where(is_whole, 1.0, coverage.clamp(_LEAST, _MOST))


def _mean(coverages: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean, and where all are 1."""
    stacked = torch.stack(torch.broadcast_tensors(*coverages))
    return stacked.mean(0), (stacked == 1).all(0)


def _sum_under(numbers: Tensor, window: Window, size: Sequence[int]) -> Tensor:
    """Sums of the numbers under a window, as many as `size` says: in ceil mode windows run over the end."""
    (left, right, top, bottom), (height, width) = window.padding, size
    needed = [
        (count - 1) * stride + (kernel - 1) * step + 1
        for count, stride, kernel, step in zip(size, window.stride, window.kernel_size, window.dilation, strict=True)
    ]
    below = max(bottom, needed[0] - numbers.shape[2] - top)
    beside = max(right, needed[1] - numbers.shape[3] - left)
    ones = numbers.new_ones(1, 1, *window.kernel_size)
    framed = F.pad(numbers, (left, beside, top, below))
    return F.conv2d(framed, ones, None, window.stride, 0, window.dilation)[:, :, :height, :width]


def _coverage(value: Any, of_image: Tensor | None) -> Any:
    """What stands for a result: the coverage of its maps, and that of the image for other tensors."""

    def of_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Masked):
            assert isinstance(leaf.visible, CoveredMap)
            return leaf.visible.coverage
        return of_image if isinstance(leaf, Tensor) else leaf

    return tree_map(of_leaf, value)
