"""The rule table: what layer masking does at each operation of a network.

A rule is one function ``rule(operation, *args, **kwargs)``: `operation` is what the plain network would call (a module,
or a function), the arguments are the network's own, with `Masked` in place of masked tensors. It returns a `Masked`, or
a plain tensor where masking ends (after global pooling). Add a rule for an own operation with `masking_rule`.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_modules.masking import functional
from lm_modules.masking.batch_norm import batch_norm_of_rows, masked_batch_norm
from lm_modules.masking.masked import Masked

Operation = Callable[..., Tensor]
Target = type[nn.Module] | Callable[..., object] | str
RuleFunction = Callable[..., Masked | Tensor]
EndsMasking = Callable[..., bool]


@dataclass(frozen=True)
class Rule:
    """One entry of the table.

    Attributes:
        apply: ``(operation, *args, **kwargs) -> Masked | Tensor``.
        ends_masking: ``(operation, *args, **kwargs) -> bool``, asked when a network is wrapped: whether the result is a
            plain tensor, so that what follows needs no rule; raises NotImplementedError to refuse the operation then.
    """

    apply: RuleFunction
    ends_masking: EndsMasking


RULES: dict[Target, Rule] = {}


def masking_rule(*targets: Target, ends_masking: bool | EndsMasking = False) -> Callable[[RuleFunction], RuleFunction]:
    """Register the decorated function as the rule of some operations, replacing an earlier one.

    Args:
        targets: module classes (with subclasses that keep their forward), functions, or names of tensor methods.
        ends_masking: whether the rule returns a plain tensor; a function where that depends on the operation.

    Example:
        >>> @masking_rule(Swish)
        ... def swish(operation, x):
        ...     return Masked(operation(x.features), x.visible)
    """
    decide: EndsMasking = ends_masking if callable(ends_masking) else lambda *_args, **_kwargs: ends_masking

    def register(apply: RuleFunction) -> RuleFunction:
        for target in targets:
            RULES[target] = Rule(apply, decide)
        return apply

    return register


def find_rule(target: Target) -> Rule | None:
    """The rule of a function, a method name, or a module class; None without one.

    A class without a rule of its own takes that of the nearest base class that it shares `forward` with: one that
    overrides it computes something else.
    """
    if isinstance(target, type) and issubclass(target, nn.Module):
        bases = (base for base in target.__mro__ if getattr(base, "forward", None) is target.forward)
        return next((RULES[base] for base in bases if base in RULES), None)
    return RULES.get(target)


@masking_rule(
    nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.LeakyReLU, nn.Identity,
    nn.Dropout,
    F.relu, F.relu6, F.silu, F.gelu, F.hardswish, F.dropout, torch.relu, torch.sigmoid, "relu", "contiguous",
)  # fmt: skip
def elementwise(operation: Operation, x: Masked, *args: object, **kwargs: object) -> Masked:
    """Position by position: visible positions stay what they are."""
    return Masked(operation(x.features, *args, **kwargs), x.visible)


def _pads_with_zeros(operation: nn.Conv2d, *_args: object) -> bool:
    """Masking goes on after a convolution, which is refused where it pads with anything but zeros."""
    if operation.padding_mode != "zeros":
        raise NotImplementedError(
            f"layer masking needs convolutions with padding_mode 'zeros', got '{operation.padding_mode}'; register a "
            "rule for nn.Conv2d with masking_rule that handles it."
        )
    return False


@masking_rule(nn.Conv2d, ends_masking=_pads_with_zeros)
def convolution(operation: nn.Conv2d, x: Masked) -> Masked:
    """Neighbour padding, the convolution as usual, mask propagation.

    An output that stays visible reads inputs at most (kernel - 1) x dilation positions from a visible one along each
    axis, so that many rings are exact.
    """
    kernel_size, dilation = _pair(operation.kernel_size), _pair(operation.dilation)
    rings = max((size - 1) * step for size, step in zip(kernel_size, dilation, strict=True))
    features = operation(x.with_neighbour_padding(rings))
    padding = _convolution_padding(operation.padding, kernel_size, dilation)
    return Masked(features, x.visible.window(kernel_size, _pair(operation.stride), padding, dilation))


@masking_rule(nn.BatchNorm2d, nn.SyncBatchNorm)
def batch_norm(operation: nn.BatchNorm2d | nn.SyncBatchNorm, x: Masked) -> Masked:
    """Statistics over visible positions only where the batch's own are used; otherwise position by position."""
    uses_batch_statistics = operation.training or operation.running_mean is None
    if not uses_batch_statistics:
        return Masked(operation(x.features), x.visible)
    may_take_rows = not torch.compiler.is_compiling()
    if isinstance(operation, nn.BatchNorm2d) and may_take_rows and len(x.visible.row_indices) > 1:
        return Masked(batch_norm_of_rows(operation, x.features, x.visible.row_indices), x.visible)
    return Masked(masked_batch_norm(operation, x.features, x.visible.positions), x.visible)


@masking_rule(nn.MaxPool2d)
def max_pool(operation: nn.MaxPool2d, x: Masked) -> Masked:
    """Hidden positions count as 0; a window is visible when any position in it is."""
    kernel_size, (vertical, horizontal) = _pair(operation.kernel_size), _pair(operation.padding)
    visible = x.visible.window(
        kernel_size,
        _pair(operation.stride),
        (horizontal, horizontal, vertical, vertical),
        _pair(operation.dilation),
        ceil_mode=operation.ceil_mode,
    )
    return Masked(operation(x.with_hidden_zero()), visible)


@masking_rule(operator.add, operator.iadd, torch.add)
def add(operation: Operation, left: Masked | Tensor | float, right: Masked | Tensor | float, **kwargs: float) -> Masked:
    """Residual sum: visible where the merge rule says so; a number or plain tensor is added position by position."""
    if not isinstance(left, Masked):
        assert isinstance(right, Masked)
        return Masked(operation(left, right.features, **kwargs), right.visible)
    if not isinstance(right, Masked):
        return Masked(operation(left.features, right, **kwargs), left.visible)
    visible = left.visible.merge(right.visible)
    if left.visible is not right.visible and left.visible.options.merge == "union":
        return Masked(operation(left.with_hidden_zero(), right.with_hidden_zero(), **kwargs), visible)
    return Masked(operation(left.features, right.features, **kwargs), visible)


def _pools_to_one(operation: nn.AdaptiveAvgPool2d, *_args: object) -> bool:
    """Masking ends after pooling to one position, the only adaptive pooling that is not refused."""
    if operation.output_size not in (1, (1, 1), [1, 1]):
        raise NotImplementedError(
            f"layer masking pools adaptively to one position only, got output_size {operation.output_size}; register "
            "another rule for nn.AdaptiveAvgPool2d with masking_rule."
        )
    return True


@masking_rule(nn.AdaptiveAvgPool2d, ends_masking=_pools_to_one)
def global_average_pool(_operation: nn.AdaptiveAvgPool2d, x: Masked) -> Tensor:
    """Mean over visible positions, 0 where nothing is visible; masking ends here."""
    return functional.masked_mean(x.features, x.visible.positions)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _convolution_padding(
    padding: str | tuple[int, ...], kernel_size: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Padding of a convolution at (left, right, top, bottom); "same" puts the odd position right and below."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        vertical, horizontal = ((size - 1) * step for size, step in zip(kernel_size, dilation, strict=True))
        return (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    assert not isinstance(padding, str)
    vertical, horizontal = _pair(padding)
    return (horizontal, horizontal, vertical, vertical)
