"""The rule table: what layer masking does at each operation of a network.

A rule is one function ``rule(operation, *args, **kwargs)``: `operation` is what the plain network would call (a module,
or a function), the arguments are the network's own, with `Masked` in place of masked tensors. It returns a `Masked`, a
tuple of them, or a plain tensor where masking ends (after global pooling). Add a rule for an own operation with
`masking_rule`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from maskrobust.errors import InputError

Operation = Callable[..., Any]
Target = type[nn.Module] | Callable[..., object] | str
RuleFunction = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=RuleFunction)
EndsMasking = Callable[..., bool]


class UnsupportedNetworkError(InputError):
    """A network that layer masking cannot compute exactly; the message names layer, operation and remedy."""


@dataclass(frozen=True)
class Rule:
    """One entry of the table.

    Attributes:
        apply: ``(operation, *args, **kwargs) -> Masked | tuple[Masked, ...] | Tensor``.
        ends_masking: ``(operation, *args, **kwargs) -> bool``, asked when a network is wrapped: whether the result is a
            plain value, so that what follows needs no rule; raises NotImplementedError to refuse the operation then.
    """

    apply: RuleFunction
    ends_masking: EndsMasking


RULES: dict[Target, Rule] = {}


def masking_rule(*targets: Target, ends_masking: bool | EndsMasking = False) -> Callable[[AnyRule], AnyRule]:
    """Register the decorated function as the rule of some operations, replacing an earlier one.

    Args:
        targets: module classes (with subclasses that keep their forward), functions, or names of tensor methods.
        ends_masking: whether the rule returns a plain value; a function where that depends on the operation.

    Example:
        >>> @masking_rule(Swish)
        ... def swish(operation, x):
        ...     return x.with_features(operation(x.features))
    """
    decide: EndsMasking = ends_masking if callable(ends_masking) else lambda *_args, **_kwargs: ends_masking

    def register(apply: AnyRule) -> AnyRule:
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
