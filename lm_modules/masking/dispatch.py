"""`Ruled`, a tensor whose functions are computed by the rules of the table, whoever calls them.

Torch hands every function that meets such a tensor to `Ruled.__torch_function__`, from whatever code it is called; a
class of modules with a rule of its own hands on its forward. `masked` says what such a tensor carries.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking.memory import Watched, note_change, refuse_stale, watch
from maskrobust.lm_modules.masking.steps import Step
from maskrobust.lm_modules.masking.table import (
    ANSWERED,
    ASKING_SIZES,
    ONE_SIZE_IN_COMPILED_CODE,
    OWN_RULE,
    RULED_CLASSES,
    RULES,
    Rule,
    RuledModule,
    UnsupportedNetworkError,
    name_of,
    no_rule,
    rule_of,
)
from maskrobust.lm_modules.masking.torch_private import are_aliases, in_backward
from maskrobust.lm_modules.masking.visible_map import VisibleMap

Observe = Callable[[Any, Rule, Sequence[Any], Any], Any]
Compute = Callable[[Any, Rule, Sequence[Any], dict[str, Any]], Any]


class Run:
    """One masked forward pass.

    Attributes:
        observe: called with operation, rule, arguments and result of each step; returns what the network gets. None to
            compute alone.
        records: whether autograd recorded when the pass began, so that it may need features again.
        is_over: whether the pass has returned. From then on masked features are tensors with 0 at hidden positions,
            but for a backward pass that computes a part of the network again.
        steps: how many rules have been applied.
        together: computes a rule for images of several sizes (`sizes.together`); None where they have one.
        step: the pass among those of a batch of several sizes; None where all images go through the network together.
    """

    def __init__(
        self, observe: Observe | None = None, together: Compute | None = None, step: Step | None = None
    ) -> None:
        self.observe, self.records, self.is_over, self.steps = observe, torch.is_grad_enabled(), False, 0
        self.together, self.step = together, step


class Ruled(Watched):
    """A tensor whose functions rules compute; see `masked.Masked`.

    Attributes:
        features: the same memory as a plain tensor, without the mask.
        with_fresh: the same of features that nobody else holds.
        as_plain: a plain tensor of its own with 0 at hidden positions.
        take_positions_of: be where other features are, from now on.
        run: the pass that it belongs to; None outside of any.
        branches: the maps of several branches, where it is these stacked along axis 0.
        counts: of how many visible positions each value is the mean, in a shape that broadcasts against the features;
            None where they are no means of positions.
        is_of_copies: whether a rule has computed it from a copy of its first operand, which a change in place has to be
            written back to.
    """

    features: Tensor
    with_fresh: Callable[[Tensor], Self]
    as_plain: Callable[[], Tensor]
    take_positions_of: Callable[[Self], None]
    run: Run | None
    branches: tuple[VisibleMap, ...] | None
    counts: Tensor | None
    is_of_copies: bool

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch does instead of a function that is called with such a tensor.

        This is torch's protocol for subclasses of `Tensor`. Before `torch.relu(x)`, `x.relu()`, `x + 1` or `x.shape`
        does anything, torch looks whether an argument is of a class with this method, and calls it instead: `func` is
        the function (for an attribute its getter, as `Tensor.shape.__get__`), `types` the classes, `args` and `kwargs`
        what it was called with. What this method returns is what the caller gets.

        Ours answers questions that are not about values (`ANSWERED`), and computes all else by the rule of the
        function; a function without one is refused, never computed without a mask. Within the context below torch
        hands nothing on: to a rule, masked features are plain tensors, or a rule that calls `func` would come here
        again for ever.
        """
        with torch._C.DisableTorchFunctionSubclass():
            if func in ANSWERED:
                return _answer(func, args, kwargs or {})
            return apply_rule(func, rule_of(func), args, kwargs or {})


_RENAMED = {"axis": "dim", "keepdims": "keepdim"}
_TENSORS = ("input", "tensors", "other")
_SPECIAL = {*_RENAMED, *_TENSORS, "out"}


def apply_rule(operation: Any, rule: Rule | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute an operation that is called with masked features by its rule.

    Args:
        operation: what the network calls.
        rule: of the operation; None without one.
        args: positional arguments, `Ruled` among them or in lists and tuples.
        kwargs: keyword arguments, likewise.

    Returns:
        What the rule returns.

    Raises:
        UnsupportedNetworkError: layer masking cannot compute the operation.
    """
    # Behind each guard stands the test that fails without it.
    operands = ruled_in((*args, *kwargs.values()))
    run = operands[0].run
    if any([each.run is not run for each in operands]):  # test_features_of_another_pass_are_refused
        raise UnsupportedNetworkError(
            f"{name_of(operation)} is called with masked features of another forward pass; compute them anew in each."
        )
    compiles = torch.compiler.is_compiling()
    is_in_backward = not compiles and in_backward()
    if is_in_backward and not torch.is_grad_enabled() and operation is not Tensor.detach:
        # A derivative of saved features: test_a_derivative_may_compute_anything_from_saved_features. A reentrant
        # checkpoint detaches what it computes again: tests/fuzz/test_networks.py, "checkpoints".
        return operation(*args, **kwargs)
    if run is not None and run.is_over and not is_in_backward:  # test_a_tensor_that_a_hook_puts_in_the_place_of_...
        return operation(*_plain(tuple(args)), **_plain(kwargs))
    if rule is None:
        raise no_rule(operation)  # test_what_cannot_be_masked_is_refused_when_wrapped_in_one_sentence
    refuse_stale(operands)  # test_a_tensor_that_is_changed_through_another_is_refused_by_name
    if not _SPECIAL.isdisjoint(kwargs):
        args, kwargs = _in_order(operation, args, kwargs)  # "by name" and "concat" of tests/.../operations.py
    # "conv2d" and "linear" of test_what_cannot_be_masked_is_refused_when_wrapped_in_one_sentence
    if rule.is_of_one and (len(operands) > 1 or (args and operands[0] is not args[0])):
        raise UnsupportedNetworkError(
            f"{name_of(operation)} takes masked features first, and plain tensors, such as parameters, beside them; "
            f"{OWN_RULE}"
        )
    if run is not None:
        run.steps += 1
    changed = _changed_by(operation, args) if rule.changes_first(args, kwargs) else None
    if changed is not None and compiles:  # which takes a tensor that is changed for a plain one
        args = [changed.with_fresh(changed.features), *args[1:]]
    result = _compute(run, operation, rule, args, kwargs)
    if changed is not None:
        result = _written(operation, changed, result)
    elif isinstance(result, tuple | list):  # such as the values and places of a maximum
        result = type(result)(_own(part, operands, run, is_part=True, compiles=compiles) for part in result)
    else:
        result = _own(result, operands, run, is_part=False, compiles=compiles)
    if run is not None and run.observe is not None:
        return run.observe(operation, rule, [*args, *kwargs.values()], result)
    return result


def _compute(run: Run | None, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    try:
        if run is not None and run.together is not None:
            return run.together(operation, rule, args, kwargs)
        return rule.apply(operation, *args, **kwargs)
    except NotImplementedError as error:
        raise UnsupportedNetworkError(str(error)) from error


def _answer(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The answer to a question.

    Raises:
        UnsupportedNetworkError: it depends on the size of the images, and they have several.
    """
    run = args[0].run if args and isinstance(args[0], Ruled) else None
    if run is not None and run.together is not None and not run.is_over and function in ASKING_SIZES:
        raise UnsupportedNetworkError(
            f"the network asks how large its features are ({name_of(function)}){ONE_SIZE_IN_COMPILED_CODE}"
        )
    return function(*args, **kwargs)


def _changed_by(operation: Any, args: Sequence[Any]) -> Ruled:
    """The first argument of an operation that changes it in place."""
    if not isinstance(args[0], Ruled):  # test_what_cannot_be_masked_is_refused_when_wrapped_in_one_sentence, "add_"
        raise UnsupportedNetworkError(
            f"{name_of(operation)} writes masked features into a tensor without a mask; compute it out of place."
        )
    return args[0]


NO_TENSORS = {type(None), bool, int, float, str}
_PLAIN = NO_TENSORS | {Tensor, nn.Parameter}


def ruled_in(values: Iterable[Any]) -> list[Ruled]:
    """The masked features among values, and in lists and tuples among them."""
    found = []
    for value in values:
        if type(value) in _PLAIN:
            continue
        if isinstance(value, Ruled):
            found.append(value)
        elif type(value) in (list, tuple):
            found += ruled_in(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Ruled):
        return value.as_plain()
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return {name: _plain(each) for name, each in value.items()} if type(value) is dict else value


def _in_order(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Tensors by position, as rules take them, and the names that torch prefers."""
    kwargs = {_RENAMED.get(name, name): value for name, value in kwargs.items()}
    if kwargs.pop("out", None) is not None:
        raise UnsupportedNetworkError(
            f"{name_of(operation)} writes masked features into out=; assign the result instead."
        )
    named = [kwargs.pop(name) for name in _TENSORS if name in kwargs]
    return (*args, *named), kwargs


def _own(result: Any, operands: Sequence[Ruled], run: Run | None, *, is_part: bool, compiles: bool) -> Any:
    """A result of a rule, in the run of its operands."""
    if isinstance(result, Ruled):
        result.run = run
    elif not isinstance(result, Tensor):
        return result
    return result if compiles else watch(result, operands, is_part=is_part)


def _written(operation: Any, changed: Ruled, result: Any) -> Ruled:
    """Features after a change in place to the result of a rule."""
    if not isinstance(result, Ruled) or result.shape != changed.shape or _is_transposed_in_graph(changed, result):
        raise UnsupportedNetworkError(f"{name_of(operation)} cannot be masked in place; compute it out of place.")
    if result is not changed:
        if torch.compiler.is_compiling():
            if result.is_of_copies:
                changed.features.copy_(result.features)
        elif not are_aliases(result, changed):  # tests/fuzz/test_networks.py, "in place"
            changed.copy_(result)
        changed.take_positions_of(result)
    changed.branches = changed.counts = None
    note_change(changed)
    return changed


def _is_transposed_in_graph(changed: Ruled, result: Ruled) -> bool:
    """Whether compiled code has transposed a map in place, which the features that the network holds would not see."""
    return torch.compiler.is_compiling() and not result.is_of_copies and result.stride() != changed.stride()


# --- classes of modules with a rule of their own ----------------------------------------------------------------------

_ASKING: set[type] = set()
_LOOKED_AT: dict[int, set[type]] = {}
"""Classes of modules that have been looked at, by the number of classes that had rules then."""


def ask_for_rules(modules: Iterable[nn.Module]) -> None:
    """From now on the forward of each class with a rule that modules are of asks for it; other classes stay.

    The class is changed, not the module: a subclass may call the forward of its base, as timm's SyncBatchNormAct does,
    a checkpoint may call it again in a backward pass, and a copy of a module must not call the first one.
    """
    kinds = {*map(type, modules)} - _LOOKED_AT.get(len(RULED_CLASSES), set())
    bases = {base for each in kinds for base in each.__mro__}
    if any(base.__module__.startswith("timm.") for base in bases):
        enter_rules_for_timm()
    for kind in bases & RULED_CLASSES - _ASKING:
        _ASKING.add(kind)
        _ask_for_rule(cast(type[nn.Module], kind))
    _LOOKED_AT.setdefault(len(RULED_CLASSES), set()).update(kinds)


@cache
def enter_rules_for_timm() -> None:
    """Enter the rules for timm's layers, imported with the first network that has one; rules that are there stay."""
    from maskrobust.lm_modules.masking import timm_layers

    there = dict(RULES)
    timm_layers.register()
    RULES.update(there)


def _ask_for_rule(kind: type[nn.Module]) -> None:
    own = kind.forward

    @wraps(own)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        rule = rule_of(kind)
        if rule is None or not ruled_in((*args, *kwargs.values())):
            return own(self, *args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return apply_rule(RuledModule(self, own), rule, args, kwargs)

    kind.forward = forward
