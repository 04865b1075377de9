"""Layer masking of a batch of images of several sizes, each computed as if it were alone.

Rules that heed the sizes compute all images together (`table.ANY_SIZES`). Where a network calls a function with another
rule, or asks how large its features are, the images of each size go through it by themselves, in step (`steps`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import cropped, padding_of, times
from maskrobust.lm_modules.masking.masked import Masked, map_output, masked_in
from maskrobust.lm_modules.masking.rules.merging import concatenate, difference_from, residual
from maskrobust.lm_modules.masking.rules.pointwise import pointwise, power, quotient, quotient_of_number, singular
from maskrobust.lm_modules.masking.table import (
    ANY_SIZES,
    ONE_SIZE_IN_COMPILED_CODE,
    Rule,
    UnsupportedNetworkError,
    name_of,
)
from maskrobust.lm_modules.masking.visible_map import DependsOnSize

_BROADCASTING = (
    pointwise, power, quotient, quotient_of_number, singular, residual, difference_from, concatenate,
)  # fmt: skip
_REMEDY = "give the images of each size to the network in a batch of their own."


def check_sizes(images: Tensor, sizes: Tensor) -> None:
    """Refuse sizes that are none of images on this canvas.

    Args:
        images: (B, C, H, W).
        sizes: (B, n) int64, size of each image.

    Raises:
        TypeError: the sizes are no tensor of integers.
        InputError: they have another shape, or an image is empty or larger than its canvas.
    """
    if not isinstance(sizes, Tensor) or sizes.dtype not in (torch.int64, torch.int32):
        given = f"{sizes.dtype}" if isinstance(sizes, Tensor) else type(sizes).__name__
        raise TypeError(f"sizes must be an int64 tensor (B, {images.ndim - 2}), got {given}; see pad_batch.")
    canvas = tuple(images.shape[2:])
    if sizes.shape != (images.shape[0], len(canvas)):
        raise InputError(
            f"sizes must hold the size of each of {images.shape[0]} images, shape ({images.shape[0]}, {len(canvas)}), "
            f"got shape {tuple(sizes.shape)}; see pad_batch."
        )
    if torch.compiler.is_compiling():
        return
    for index, lengths in enumerate(sizes.tolist()):
        if not all(1 <= length <= longest for length, longest in zip(lengths, canvas, strict=True)):
            raise InputError(
                f"sizes must lie between {times([1] * len(canvas))} and the canvas, {times(canvas)}, got "
                f"{times(lengths)} for image {index} of the batch; see pad_batch."
            )


def parts_of_each_size(
    images: Tensor, visible: Tensor | None, sizes: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each size which images have it, (N,) int64, these without what lies beyond, and what is visible of them."""
    if visible is None:
        visible = torch.ones_like(images[:, :1], dtype=torch.bool)
    different, of_image = torch.unique(sizes.cpu(), dim=0, return_inverse=True)
    for index, size in enumerate(different.tolist()):
        rows = (of_image == index).nonzero().flatten()
        yield rows, *(cropped(each[rows.to(each.device)], size) for each in (images, visible))


def joined(outputs: Sequence[Any], rows: Sequence[Tensor]) -> Any:
    """One batch of what a network returns for the images of each size: maps at the top left, 0 beyond them.

    Args:
        outputs: for the images of each size, plain tensors in any structure.
        rows: which images have it, (N,) int64.

    Raises:
        UnsupportedNetworkError: the outputs of the sizes are no batch, as vectors of several lengths are none.
    """
    leaves: list[list[Any]] = [[] for _ in outputs]
    for found, output in zip(leaves, outputs, strict=True):
        map_output(found.append, output)
    if len({*map(len, leaves)}) > 1:
        raise UnsupportedNetworkError(f"what the network returns depends on the size of the images; {_REMEDY}")
    order = torch.cat([*rows]).argsort()
    batches = iter([_in_one(each, order) for each in zip(*leaves, strict=True)])
    return map_output(lambda _: next(batches), outputs[0])


def _in_one(parts: Sequence[Any], order: Tensor) -> Any:
    shapes = [tuple(each.shape[1:]) if isinstance(each, Tensor) else each for each in parts]
    if not isinstance(parts[0], Tensor) and all(each == shapes[0] for each in shapes):
        return parts[0]
    if not all(isinstance(each, tuple) and len(each) == len(shapes[0]) for each in shapes) or (
        len(shapes[0]) < 2 and len({*shapes}) > 1
    ):
        raise UnsupportedNetworkError(
            f"the network returns {', '.join(map(str, dict.fromkeys(shapes)))} for images of several sizes, which are "
            "no batch; use `each`."
        )
    longest = [max(lengths) for lengths in zip(*shapes, strict=True)]
    behind = ([long - own for own, long in zip(shape, longest, strict=True)] for shape in shapes)
    padded = [F.pad(each, padding_of([0] * len(more), more)) for each, more in zip(parts, behind, strict=True)]
    return torch.cat(padded).index_select(0, order.to(parts[0].device))


def together(operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a rule returns for the images of all sizes.

    Raises:
        UnsupportedNetworkError: it depends on the size of each image.
    """
    operands = masked_in((*args, *kwargs.values()))
    has_one_size = all(each.visible.extent is None for each in operands)
    try:
        if has_one_size or (rule.apply in ANY_SIZES and not _takes_places(rule, operands[0], (args, kwargs))):
            return rule.apply(operation, *args, **kwargs)
    except DependsOnSize:
        pass
    raise UnsupportedNetworkError(f"{name_of(operation)} depends on the size of each image{ONE_SIZE_IN_COMPILED_CODE}")


def _takes_places(rule: Rule, like: Masked, values: Any) -> bool:
    """Whether plain tensors with a value for each position are broadcast, which fits one size of images alone."""
    if rule.apply not in _BROADCASTING:
        return False
    plain = [each for each in tree_leaves(values) if isinstance(each, Tensor) and not isinstance(each, Masked)]
    behind = [axis - like.ndim for axis in like.spatial_axes]
    return any(each.shape[axis] > 1 for each in plain for axis in behind if -axis <= each.ndim)


@contextmanager
def counted_once(modules: Iterable[nn.Module], passes: int) -> Iterator[None]:
    """Within the context so many passes count as one batch of batch norm."""
    counts = [each for each in (getattr(one, "num_batches_tracked", None) for one in modules) if each is not None]
    before = [each.clone() for each in counts]
    yield
    for each, first in zip(counts, before, strict=True):
        each.copy_(first + (each - first) // passes)
