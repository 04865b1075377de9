"""The rule table: what layer masking does at each operation of a network.

A rule is one function ``rule(operation, *args, **kwargs)``: `operation` is what the plain network would call (a module,
or a function), the arguments are the network's own, with `Masked` in place of masked tensors. It returns a `Masked`, a
tuple of them, or a plain tensor where masking ends (after global pooling). Add a rule for an own operation with
`masking_rule`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import resolve_name

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.masked import Window

Operation = Callable[..., Any]
Target = type[nn.Module] | Callable[..., object] | str
RuleFunction = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=RuleFunction)
EndsMasking = Callable[..., bool]
Check = Callable[..., None]


class UnsupportedNetworkError(InputError):
    """A network that layer masking or token dropping cannot compute exactly; the message says why, and the remedy."""


def _refuses_nothing(*_args: Any, **_kwargs: Any) -> None:
    pass


@dataclass(frozen=True)
class RowKernel:
    """How an operation is computed on rows, the features of some positions alone (`row_engine`).

    Attributes:
        apply: ``(operation, outputs, *operands) -> Tensor``: from `Rows` to one row for each position of `outputs`.
        accepts: whether it computes this operation; False leaves the operation to the rule.
        window: of positions that the operation reads.
    """

    apply: Callable[..., Tensor]
    accepts: Callable[[Any], bool] = lambda _operation: True
    window: Callable[[Any], Window] = lambda _operation: Window((1, 1))


@dataclass(frozen=True)
class Rule:
    """One entry of the table.

    Attributes:
        apply: ``(operation, *args, **kwargs) -> Masked | tuple[Masked, ...] | Tensor``.
        ends_masking: ``(operation, *args, **kwargs) -> bool``, asked when a network is wrapped: whether the result is a
            plain value, so that what follows needs no rule.
        check: ``(operation, *args, **kwargs)``, called before that; raises NotImplementedError to refuse the operation.
        rows: the operation on rows; None where only dense features are computed.
        is_local: whether each position of the result follows from that position of the operands alone, in eval mode.
        folds: of a convolution, whether it is linear in its weight and bias, so that a batch norm can be folded into
            it; of a batch norm, whether the rule leaves out what has been (`Masked.is_normalised`).
    """

    apply: RuleFunction
    ends_masking: EndsMasking
    check: Check
    rows: RowKernel | None
    is_local: bool
    folds: bool


RULES: dict[Target, Rule] = {}


def masking_rule(
    *targets: Target,
    ends_masking: bool | EndsMasking = False,
    check: Check = _refuses_nothing,
    rows: RowKernel | None = None,
    is_local: bool = False,
    folds: bool = False,
) -> Callable[[AnyRule], AnyRule]:
    """Register the decorated function as the rule of some operations, replacing an earlier one.

    Args:
        targets: module classes (with subclasses that keep their forward), functions, or names of tensor methods.
        ends_masking: whether the rule returns a plain value; a function where that depends on the operation.
        check: called with the operation and its arguments when a network is wrapped; raises NotImplementedError, with
            the reason, where the rule cannot compute it.
        rows: the operation on rows, where there is such a kernel.
        is_local: whether each position of the result follows from that position of the operands alone, in eval mode.
        folds: whether a batch norm can be folded into the convolution, or be left out where it has been; see `Rule`.

    Examples:
        >>> @masking_rule(Swish)
        ... def swish(operation, x):
        ...     return x.with_features(operation(x.features))
    """
    decide: EndsMasking = ends_masking if callable(ends_masking) else lambda *_args, **_kwargs: ends_masking

    def register(apply: AnyRule) -> AnyRule:
        for target in targets:
            RULES[target] = Rule(apply, decide, check, rows, is_local, folds)
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


def written(target: Target) -> str:
    """A target as Python code names it, for `masking_rule`: torch.roll, "roll", or a class with its module."""
    if isinstance(target, str):
        return f'"{target}"'
    if isinstance(target, type):
        module = "torch.nn" if target is getattr(nn, target.__name__, None) else target.__module__
        return target.__qualname__ if module == "__main__" else f"{module}.{target.__qualname__}"
    return resolve_name(target) or f"{target.__module__.removeprefix('_')}.{target.__qualname__}"
