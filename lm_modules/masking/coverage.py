"""`LayerMasking.coverage`: the visible fraction of what each position of a network's maps reads."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from maskrobust.lm_modules.masking.axes import CONVOLUTIONS, after, before, cropped, padding_of
from maskrobust.lm_modules.masking.dispatch import Run
from maskrobust.lm_modules.masking.masked import Masked, carry, map_output
from maskrobust.lm_modules.masking.rules.normalisation import batch_norm, group_norm, instance_norm, sync_batch_norm
from maskrobust.lm_modules.masking.table import Rule, UnsupportedNetworkError
from maskrobust.lm_modules.masking.visible_map import VisibleMap, Window
from maskrobust.lm_modules.masking.wrapping import run_located

_OVER_IMAGE = (group_norm, instance_norm)
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
        later = super().window(window)
        return self._covering(window, later, partial(_sum_under, window=window, size=later.size[1:]))

    def derive(
        self, key: Hashable, spread: Callable[[Tensor], Tensor], *, least: float = 0.0, **settings: Any
    ) -> VisibleMap:
        """The map of positions that are made from visible ones."""
        return self._covering(key, super().derive(key, spread, least=least, **settings), spread, least)

    def kept(self, key: Hashable, positions: Tensor, frame: Tensor | None) -> VisibleMap:
        """A map of other positions that counts as made from these."""
        return self._covering(key, super().kept(key, positions, frame), lambda numbers: numbers)

    def _covering(
        self, key: Hashable, later: VisibleMap, spread: Callable[[Tensor], Tensor], least: float = 0.0
    ) -> VisibleMap:
        """A later map with the mean coverage of what each of its positions is made from."""
        if not isinstance(later, CoveredMap):
            mean = spread(self.coverage * self._weights) / spread(self._weights).clamp(min=_LEAST)
            is_whole = spread((self.coverage < 1).float()) <= least
            self._derived[key] = later = _covered(later, mean, is_whole)
        return later

    @property
    def _weights(self) -> Tensor:
        """(B, 1, *size) float32: 1, and 0 in the frame."""
        return self.image.to(self.coverage).expand_as(self.coverage)

    def of_image(self) -> Tensor:
        """The coverage of what is made from all positions, (B, 1, 1, 1)."""
        axes, shape = tuple(range(2, self.coverage.ndim)), (-1, *[1] * (self.coverage.ndim - 1))
        mean = (self.coverage * self._weights).sum(axes, keepdim=True) / self._weights.sum(axes, keepdim=True)
        return _bounded(mean, (self.coverage == 1).flatten(1).all(1).reshape(shape))

    def of_batch(self) -> Tensor:
        """The same of what is made from all images, (B, 1, 1, 1)."""
        of_images = self.of_image()
        return _bounded(of_images.mean(0), (of_images == 1).all(0)).expand_as(of_images)

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

    def concatenated(self, others: Sequence[VisibleMap], axis: int) -> VisibleMap:
        """Maps side by side."""
        coverage = torch.cat([each.coverage for each in (self, *others) if isinstance(each, CoveredMap)], axis)
        return _covered(super().concatenated(others, axis), coverage, coverage == 1)


def cover_maps(network: nn.Module, images: Tensor, visible: CoveredMap) -> Any:
    """The coverage of what a network returns, in the same structure.

    What is made from the whole image, such as a pooled branch, the gate of a squeeze-and-excitation or the statistics
    of a group norm, has one coverage for each image, which counts as one operand wherever it meets a map.

    Args:
        network: in eval mode.
        images: (B, C, H, W); any.
        visible: the visible pixels.

    Returns:
        (B, 1, h, w) float32 for each map, (B, 1, 1, 1) for each other tensor.
    """
    run = Run(_observe)
    masked = carry(images, visible)
    masked.run = run
    try:
        return map_output(_coverage, run_located(network, masked, is_guarded=True))
    finally:
        run.is_over = True


def _observe(operation: Any, rule: Rule, arguments: Sequence[Any], result: Any) -> Any:
    if isinstance(result, Masked) and not result.is_map:
        raise UnsupportedNetworkError(
            "coverage follows positions of an image through maps, but this layer makes tokens of them; ask a copy of "
            "the network that ends ahead of it, as where its forward returns the maps that it is given, or `plan`, "
            "which says how much is visible in each layer."
        )
    leaves = tree_leaves(arguments)
    of_images = [each.coverage for each in leaves if isinstance(each, Covered)]
    if isinstance(result, Masked):
        assert isinstance(result.visible, CoveredMap)
        if rule.apply in _OVER_IMAGE:
            of_images.append(result.visible.of_image())
        if _takes_batch(operation, rule, arguments):
            of_images.append(result.visible.of_batch())
        if of_images:
            result.visible = result.visible.joined(of_images)
        return result
    maps = [each.visible for each in leaves if isinstance(each, Masked)]
    of_images += [each.of_image() for each in maps if isinstance(each, CoveredMap)]
    return cover(result, of_images)


def _takes_batch(operation: Any, rule: Rule, arguments: Sequence[Any]) -> bool:
    """Whether it is a batch norm without running statistics, which uses those of the batch in eval mode, too."""
    if rule.apply is sync_batch_norm:
        return operation.running_mean is None
    return rule.apply is batch_norm and arguments[1] is None


class Covered(Tensor):
    """A plain tensor with one coverage for each image, which all that is made from it has.

    Attributes:
        coverage: (B, 1, 1, 1) float32.
    """

    coverage: Tensor

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, Masked) for kind in types):
            return NotImplemented
        coverages = [each.coverage for each in tree_leaves((args, kwargs)) if isinstance(each, Covered)]
        with torch._C.DisableTorchFunctionSubclass():
            return tree_map_only(Tensor, lambda each: cover(each, coverages), func(*args, **(kwargs or {})))


def cover(result: Any, coverages: Sequence[Tensor]) -> Any:
    """A plain tensor with the mean of some coverages; anything else as it is."""
    if not isinstance(result, Tensor) or isinstance(result, Masked):
        return result
    covered = result.as_subclass(Covered)
    covered.coverage = _bounded(*_mean(coverages))
    return covered


def _covered(visible: VisibleMap, coverage: Tensor, is_whole: Tensor) -> CoveredMap:
    coverage = torch.where(visible.known, _bounded(coverage, is_whole), 0.0)
    return CoveredMap(visible.positions, visible.options, frame=visible.frame, coverage=coverage)


def _bounded(coverage: Tensor, is_whole: Tensor) -> Tensor:
    """Clamp to above 0, and to exactly 1 only where nothing is hidden."""
    return torch.where(is_whole, 1.0, coverage.clamp(_LEAST, _MOST))


def _mean(coverages: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean, and where all are 1."""
    stacked = torch.stack(torch.broadcast_tensors(*coverages))
    return stacked.mean(0), (stacked == 1).all(0)


def _sum_under(numbers: Tensor, window: Window, size: Sequence[int]) -> Tensor:
    """Sums of the numbers under a window, as many as `size` says: in ceil mode windows run over the end."""
    ahead = before(window.padding)
    needed = [
        (count - 1) * stride + (kernel - 1) * step + 1
        for count, stride, kernel, step in zip(size, window.stride, window.kernel_size, window.dilation, strict=True)
    ]
    lengths = zip(after(window.padding), needed, numbers.shape[2:], ahead, strict=True)
    frame = padding_of(ahead, [max(behind, need - length - first) for behind, need, length, first in lengths])
    ones = numbers.new_ones(1, 1, *window.kernel_size)
    sums = CONVOLUTIONS[len(size)](F.pad(numbers, frame), ones, None, window.stride, 0, window.dilation)
    return cropped(sums, size)


def _coverage(value: Any) -> Any:
    """What stands for a result: the coverage of a map, or that of the image for another tensor."""
    if isinstance(value, Masked):
        assert isinstance(value.visible, CoveredMap)
        return value.visible.coverage
    return value.coverage if isinstance(value, Covered) else value
