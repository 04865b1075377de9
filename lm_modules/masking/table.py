"""The table of rules: which rule layer masking applies to each function of torch that a network calls.

A rule is one function ``rule(operation, *args, **kwargs)`` with the signature of the torch function that it stands for:
`operation` is that function, the arguments are the network's own, with `Masked` in place of masked tensors. It returns
a `Masked`, a tuple of them, or a plain tensor where masking ends (after global pooling). Add a rule for an own
operation with `masking_rule`.
"""

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional
from torch.overrides import get_overridable_functions, resolve_name

from maskrobust.errors import InputError

Operation = Callable[..., Any]
Target = type[nn.Module] | Callable[..., object]
RuleFunction = Callable[..., Any]
AnyRule = TypeVar("AnyRule", bound=RuleFunction)


ONE_SIZE_IN_COMPILED_CODE = (
    ", which compiled code cannot heed for images of several sizes; compute them without compiling."
)
OWN_RULE = "give the module around this operation a rule of its own with masking_rule."


class UnsupportedNetworkError(InputError):
    """A network that layer masking cannot compute exactly; the message says why, and the remedy."""


class Rule(NamedTuple):
    """One entry of the table.

    Attributes:
        apply: ``(operation, *args, **kwargs) -> Masked | tuple[Masked, ...] | Tensor``.
        place: of the argument `inplace` of the operation; None without one.
        changes: whether the operation always changes its first argument in place.
        is_of_one: whether the first argument alone may be masked, and no other, such as weights.
    """

    apply: RuleFunction
    place: int | None = None
    changes: bool = False
    is_of_one: bool = False

    def changes_first(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether a call changes its first argument in place."""
        if self.place is None:
            return self.changes
        return bool(kwargs.get("inplace", args[self.place] if len(args) > self.place else False))


RULES: dict[Target, Rule] = {}
RULED_CLASSES: set[type] = set()
"""Classes of modules that have, or had, a rule of their own."""
ANY_SIZES: set[RuleFunction] = set()
"""Rules that compute images of several sizes together."""
_OPERATORS_IN_PYTHON: list[tuple[Operation, Rule]] = []
"""Rules of operators that torch has written in Python, which `torch.compile` hashes otherwise in `RULES`."""


def rule_of(operation: Operation) -> Rule | None:
    """The rule of an operation; None without one."""
    if torch.compiler.is_compiling():
        for each, rule in _OPERATORS_IN_PYTHON:
            if operation is each:
                return rule
    return RULES.get(operation)


_OF_TENSORS = (
    "shape", "dtype", "device", "ndim", "layout", "itemsize", "nbytes", "requires_grad", "is_leaf", "grad", "grad_fn",
    "is_cpu", "is_cuda", "is_meta", "is_mkldnn", "is_mps", "is_nested", "is_quantized", "is_sparse", "is_xla", "is_xpu",
    "_version", "output_nr", "retains_grad", "name",
)  # fmt: skip
_QUESTIONS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "get_device",
    "is_contiguous", "is_floating_point", "is_complex", "is_inference", "__len__", "__hash__", "register_hook",
    "retain_grad", "backward", "requires_grad_", "register_post_accumulate_grad_hook", "new_empty", "new_zeros",
    "new_ones", "new_full", "new_tensor",
)  # fmt: skip
ANSWERED = {
    *(getattr(Tensor, name).__get__ for name in _OF_TENSORS), vars(torch._C.TensorBase)["requires_grad"].__set__,
    *(getattr(Tensor, name) for name in _QUESTIONS), torch.is_floating_point, torch.is_complex, torch.numel,
    torch.autograd.grad, torch.autograd.backward, torch.zeros_like, torch.empty_like, torch.full_like,
    torch.rand_like, torch.randn_like,
}  # fmt: skip
"""Functions that say nothing of the values of features, and those that ask for gradients at them."""
ASKING_SIZES = {
    *(getattr(Tensor, name).__get__ for name in ("shape", "nbytes")), torch.numel,
    *(getattr(Tensor, name) for name in ("size", "numel", "stride", "storage_offset")),
    torch.zeros_like, torch.empty_like, torch.full_like, torch.rand_like, torch.randn_like,
}  # fmt: skip
"""Those of them whose answer depends on the size of the images."""


_UNTAGGED = {
    "absolute", "negative", "multiply", "fix", "isreal", "isclose", "floor_divide", "__floordiv__", "__rfloordiv__",
    "__rmod__", "__and__", "__rand__", "__or__", "__ror__", "__xor__", "__rxor__", "__invert__", "__eq__", "greater",
    "greater_equal", "less", "less_equal", "not_equal", "log_sigmoid", "softsign", "tanhshrink", "detach",
    "float", "double", "half", "bfloat16", "bool", "byte", "char", "short", "int", "long", "arccos", "arccosh",
    "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "special_digamma", "special_psi", "special_erf",
    "special_erfc", "special_erfinv", "special_exp2", "special_expit", "special_expm1", "special_gammainc",
    "special_gammaincc", "special_gammaln", "special_i0", "special_log1p", "special_logit", "special_ndtr",
    "special_polygamma", "special_round", "special_sinc", "special_xlogy",
}  # fmt: skip
"""Functions of entries alone that torch does not tag: most are other names of those that it does."""
_WITHOUT_RULE = {"equal", "frexp", "mvlgamma", "mvlgamma_", "special_multigammaln", "special_zeta"}
"""Tagged functions whose result is no tensor of such entries, or that have none at 1."""


def pointwise_functions() -> list[Operation]:
    """Functions of torch that compute each entry from that entry alone, by the tag of an overload of theirs."""
    of_torch = [each for functions in get_overridable_functions().values() for each in functions]
    return [each for each in of_torch if _is_pointwise(getattr(each, "__name__", ""))]


@cache
def _is_pointwise(name: str) -> bool:
    if name in _WITHOUT_RULE or (name.startswith("__i") and name != "__invert__"):  # torch changes these in place
        return False
    packet = getattr(torch.ops.aten, name, None)
    overloads = [getattr(packet, each) for each in packet.overloads()] if isinstance(packet, OpOverloadPacket) else []
    return not {name, name.removesuffix("_")}.isdisjoint(_UNTAGGED) or any(
        torch.Tag.pointwise in each.tags for each in overloads
    )


def masking_rule(*targets: Target, any_sizes: bool = False, is_of_one: bool = False) -> Callable[[AnyRule], AnyRule]:
    """Register the decorated function as the rule of some operations, replacing an earlier one.

    Args:
        targets: functions of torch, or classes of modules. A function of `torch` stands for the method of a tensor that
            is called alike, for its variant in place, and the other way round. A class stands for those derived from it
            that keep its forward; its rule gets in `operation` the module, which can be called as before.
        any_sizes: whether the rule may be given a batch of images of several sizes (`sizes` of `LayerMasking`): it
            computes each position from that position alone, or heeds `x.visible.extent`. Any other rule is given
            none, and then the images of each size go through the network by themselves.
        is_of_one: whether the rule takes masked features as its first argument alone: a call with others, such as
            weights that are made from them, is refused.

    Examples:
        >>> @masking_rule(torch.cumsum)
        ... def sums_over_channels(operation, x, dim):  # 1
        ...     return x.with_features(operation(x.features, dim))
    """

    def register(apply: AnyRule) -> AnyRule:
        if any_sizes:
            ANY_SIZES.add(apply)
        for target in targets:
            if isinstance(target, type):
                RULES[target] = Rule(apply, is_of_one=is_of_one)  # see `dispatch.ask_for_rules`
                RULED_CLASSES.add(target)
                continue
            for operation, variant in _variants(target, apply):
                rule = RULES[operation] = variant._replace(is_of_one=is_of_one)
                if inspect.isfunction(operation) and operation.__qualname__.startswith("Tensor"):
                    _OPERATORS_IN_PYTHON.insert(0, (operation, rule))
        return apply

    return register


_OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "pow": "pow"}
"""Functions of torch, and the operators under whose names `torch.compile` hands them on."""


def _variants(function: Any, apply: RuleFunction) -> Iterator[tuple[Any, Rule]]:
    """The rule of a function under all names that torch hands on, in place and out of place."""
    name = getattr(function, "__name__", "")
    bare = name.removesuffix("_")
    is_method = not name.startswith("__") and function in (getattr(torch, name, None), getattr(Tensor, name, None))
    is_functional = getattr(functional, name, None) is function
    if not is_method and not is_functional:
        yield function, Rule(apply, _place_of_inplace(function), changes=function is Tensor.__setitem__)
    for owner in (torch, Tensor) if is_method else (functional,) if is_functional else ():
        plain, changing = getattr(owner, bare, None), getattr(owner, f"{bare}_", None)
        if callable(plain):
            yield plain, Rule(apply, _place_of_inplace(plain))
        if callable(plain) and callable(changing):
            yield changing, Rule(apply, changes=True)
    if is_method and bare in _OPERATORS:
        plain = getattr(operator, _OPERATORS[bare])
        yield plain, Rule(apply)
        for owner, changing in ((operator, f"i{_OPERATORS[bare]}"), (Tensor, f"__i{_OPERATORS[bare]}__")):
            yield getattr(owner, changing), Rule(apply, changes=True)


def _place_of_inplace(function: Any) -> int | None:
    if not inspect.isfunction(function):
        return None
    names = list(inspect.signature(function, follow_wrapped=False).parameters)
    return names.index("inplace") if "inplace" in names else None


class RuledModule:
    """A module as an operation of its rule: called, it computes what its class does, without its hooks."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module, self._forward = module, forward

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the class computes."""
        return self._forward(self._module, *args, **kwargs)


def name_of(operation: Any) -> str:
    """An operation as Python reads it, such as torch.Tensor.roll."""
    if isinstance(operation, OpOverload | OpOverloadPacket):
        return f"torch.ops.{operation}"
    if isinstance(operation, RuledModule):
        return type(operation._module).__name__
    name: str | None = resolve_name(operation)
    if name is not None:
        return name.removesuffix(".__get__").replace("torch.functional.", "torch.")
    bare = getattr(operation, "__name__", "")
    if getattr(torch, bare, None) is operation:
        return f"torch.{bare}"
    return f"{operation.__module__}.{getattr(operation, '__qualname__', repr(operation))}"


def no_rule(operation: Any) -> UnsupportedNetworkError:
    """The refusal of an operation without a rule."""
    name = name_of(operation)
    remedy = f"{name}.__get__" if getattr(operation, "__name__", "") == "__get__" else name
    return UnsupportedNetworkError(
        f"layer masking has no rule for the operation {name}; add one with maskrobust.masking_rule({remedy})."
    )
