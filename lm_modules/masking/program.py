"""A network as a list of steps, read with `torch.fx` and paired with masking rules when the network is wrapped."""

import operator
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.batch_norm import FoldedBatchNorm
from maskrobust.lm_modules.masking.masked import Masked, ZeroPadded
from maskrobust.lm_modules.masking.rules.pointwise import ROW_BY_ROW, elementwise
from maskrobust.lm_modules.masking.rules.table import (
    RULES,
    Rule,
    Target,
    UnsupportedNetworkError,
    find_rule,
    masking_rule,
    written,
)
from maskrobust.lm_modules.masking.state import Modes, State
from maskrobust.lm_modules.masking.tracing import Call, trace


@dataclass(frozen=True, slots=True)
class Value:
    """The result of an earlier step, as an argument of a later one."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of the network.

    Attributes:
        name: of the result, unique in a program.
        layer: path of the module that the operation is, or belongs to.
        kind: node kind of `torch.fx` ("call_module", "call_function", "call_method" or "get_attr").
        target: path of a module or attribute, a function, or the name of a tensor method.
        args: positional arguments; `Value` stands for an earlier result.
        kwargs: keyword arguments, likewise.
        rule: applied where an argument is masked; None where none can be.
        reads: names of earlier results among the arguments.
        last_uses: names of earlier results that no later step needs.
        path: names that lead to the module; empty where there is none.
        takes_results_alone: whether every argument is the result of an earlier step.
        modes: in which it is called; None for those that hold outside the network.
        writes: name of the result whose memory it changes; None where it changes none.
    """

    name: str
    layer: str
    kind: str
    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rule: Rule | None
    reads: tuple[str, ...]
    last_uses: tuple[str, ...]
    path: tuple[str, ...]
    takes_results_alone: bool
    modes: Modes | None
    writes: str | None

    def run(
        self,
        network: nn.Module,
        values: dict[str, Any],
        *,
        halves_padding: bool = False,
        folding: "Folding | None" = None,
        operation: Any = None,
    ) -> Any:
        """Compute the step's result from those of earlier steps.

        Args:
            network: whose step it is.
            values: results of earlier steps by name.
            halves_padding: half of the rings of its first argument suffice.
            folding: of the batch norm that alone reads the result into this step.
            operation: in place of `operation(network)`.
        """
        if self.modes is not None:
            return self._run_in_modes(network, values, operation)
        args, kwargs = self.arguments(values)
        operation, folded = self.operation(network) if operation is None else operation, None
        if halves_padding and type(args[0]) is Masked:
            args = (replace(args[0], halves_padding=True), *args[1:])
        if folding is not None:
            folded = folding.fold(operation, folding.step.operation(network), args[0].features.dtype)
            if folded is not None:
                operation = folded
        if self.kind == "get_attr":
            return operation
        if self.rule is None:
            return operation(*args, **kwargs)
        try:
            result = self.rule.apply(operation, *args, **kwargs)
        except NotImplementedError as error:
            raise _refusal(self.layer, network, error) from error
        if folded is not None:
            result.is_normalised = True
        return result

    def _run_in_modes(self, network: nn.Module, values: dict[str, Any], operation: Any) -> Any:
        assert self.modes is not None
        grad, cpu, cpu_dtype, cuda, cuda_dtype = self.modes
        if torch.is_grad_enabled() and not grad and self.writes is None:
            # Without gradients, rules change features at hidden positions; here an earlier step may still need them.
            values = {name: _copied(values[name]) for name in self.reads}
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(grad))
            for kind, enabled, dtype in (("cpu", cpu, cpu_dtype), ("cuda", cuda, cuda_dtype)):
                if (enabled, dtype) != (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)):
                    stack.enter_context(torch.autocast(kind, dtype, enabled))
            return replace(self, modes=None).run(network, values, operation=operation)

    def arguments(self, values: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """Positional and keyword arguments, with results for values."""
        if self.takes_results_alone:
            return [values[argument.name] for argument in self.args], {}
        return fill_in(self.args, values), fill_in(self.kwargs, values)

    def operation_name(self, network: nn.Module) -> str:
        """Class of the module, or name of the function or tensor method."""
        if self.kind == "call_module":
            return type(network.get_submodule(str(self.target))).__name__
        return str(getattr(self.target, "__name__", self.target))

    def operation(self, network: nn.Module) -> Any:
        """The module, function or tensor method that the plain network calls, or the attribute that it reads."""
        if self.kind == "call_module":
            module: Any = network
            for name in self.path:
                module = module._modules[name]  # get_submodule takes as long as a small network's operations
            return module
        if self.kind == "get_attr":
            return operator.attrgetter(str(self.target))(network)
        return self.target if callable(self.target) else _Method(self.target)


@dataclass(frozen=True, slots=True)
class Program:
    """The steps of one forward pass.

    Attributes:
        input_name: of the value that holds the masked images.
        steps: in the order of computation.
        output: the network's result, with `Value` for results of steps.
        call: of the network itself, with the calls of modules within.
        state: of the network that it was read in.
    """

    input_name: str
    steps: tuple[Step, ...]
    output: Any
    call: Call
    state: State

    def run_steps(
        self,
        network: nn.Module,
        values: dict[str, Any],
        start: int,
        end: int,
        dropped: Set[str] = frozenset(),
        folded: Mapping[str, "Folding"] | None = None,
    ) -> None:
        """Compute steps `start` to `end`, without the last, into `values`, forgetting each after its last use."""
        for step in self.steps[start:end]:
            name, folding = step.name, folded.get(step.name) if folded else None
            values[name] = step.run(network, values, halves_padding=name in dropped, folding=folding)
            for last in step.last_uses:
                del values[last]

    def run_to(self, network: nn.Module, images: Masked, layer: str) -> Any:
        """Compute what one module of the network returns for masked images, and nothing after it.

        Args:
            network: whose program this is.
            images: masked images.
            layer: path of the module.

        Raises:
            InputError: the forward pass has no result of a module at that path.
        """
        name = self.name_of(network, layer)
        end = next((index for index, step in enumerate(self.steps, start=1) if step.name == name), 0)
        values: dict[str, Any] = {self.input_name: images}
        self.run_steps(network, values, 0, end)
        return values[name]

    def name_of(self, network: nn.Module, layer: str) -> str:
        """Name of the value that the module at a path returns, of several calls the last; `InputError` without one."""
        found = [each.result.name for each in self.call.within() if each.path == layer and type(each.result) is Value]
        if not found:
            raise InputError(
                f"layer must be a module that {type(network).__name__} calls and that returns one tensor, got "
                f"'{layer}'; name another of its named_modules()."
            )
        return found[-1]

    @property
    def returned(self) -> frozenset[str]:
        """Names of the results that the network returns, whatever else reads them."""
        return frozenset(leaf.name for leaf in tree_leaves(self.output) if isinstance(leaf, Value))

    def output_of(self, values: dict[str, Any]) -> Any:
        """The network's output from the results of its steps."""
        return fill_in(self.output, values)


class Folding(NamedTuple):
    """A batch norm that can be folded into the convolution that it reads, and what folds it."""

    step: Step
    fold: FoldedBatchNorm


def find_folded(program: Program, network: nn.Module) -> dict[str, Folding]:
    """The batch norm that can be folded into a convolution, as nothing else reads it, by the convolution's name.

    Args:
        program: of the network.
        network: whose program it is.
    """
    found = {step.name: step.operation(network) for step in program.steps if step.rule is not None and step.rule.folds}
    operations = {name: module for name, module in found.items() if type(module) in RULES}  # no class of one's own
    reads = Counter(name for step in program.steps for name in step.reads)
    in_modes = {step.name for step in program.steps if step.modes is not None}
    return {
        step.reads[0]: Folding(step, FoldedBatchNorm())
        for step in program.steps
        if isinstance(operations.get(step.name), nn.modules.batchnorm._NormBase)
        and isinstance(operations.get(step.reads[0]), nn.Conv2d)
        and reads[step.reads[0]] == 1
        and step.reads[0] not in program.returned
        and step.name not in in_modes
        and step.reads[0] not in in_modes
    }


def read_program(network: nn.Module, *, training: bool | None = None, separates_calls: bool = False) -> Program:
    """Trace a network and pair every masked operation with its rule.

    Args:
        network: takes images (B, C, H, W) as its only tensor argument; left as it is.
        training: mode of all modules in which the forward pass is read; None for that of each.
        separates_calls: as in `tracing.trace`.

    Raises:
        UnsupportedNetworkError: the network cannot be traced, or an operation on masked features has no rule; the
            message names the layer, the operation and the remedy.
    """
    _refuse_attention(network)
    _load_rules_for(network)
    traced = trace(network, training=training, separates_calls=separates_calls)
    graph = traced.graph
    images, *others = [node for node in graph.nodes if node.op == "placeholder"]
    if any(node.users for node in others):
        raise UnsupportedNetworkError(
            f"{type(network).__name__} takes {', '.join(node.name for node in others)} beside the images, but layer "
            "masking needs a network of the images alone; wrap one that sets the other arguments itself."
        )
    masked = {images}
    last_use = {argument: node for node in graph.nodes for argument in node.all_input_nodes}
    steps, output = [], None
    for node in graph.nodes:
        if node.op == "output":
            output = _with_values(node.args[0])
        elif node.op != "placeholder":
            rule = _rule_for(node, network) if any(argument in masked for argument in node.all_input_nodes) else None
            if rule is not None and not _ends_masking(rule, node, network):
                masked.add(node)
            last_uses = tuple(argument.name for argument in node.all_input_nodes if last_use[argument] is node)
            steps.append(_step(node, rule, last_uses))
    call = Call("", 0, len(steps), (Value(images.name),), {}, output, tuple(map(_call_with_values, traced.calls)))
    return Program(images.name, tuple(steps), output, call, traced.state)


def _step(node: fx.Node, rule: Rule | None, last_uses: tuple[str, ...]) -> Step:
    args, kwargs = (_with_values(arguments) for arguments in _arguments(node))
    return Step(
        name=node.name,
        layer=_layer_of(node),
        kind=node.op,
        target=node.target,
        args=args,
        kwargs=kwargs,
        rule=rule,
        reads=tuple(argument.name for argument in node.all_input_nodes),
        last_uses=last_uses,
        path=tuple(str(node.target).split(".")) if node.op == "call_module" else (),
        takes_results_alone=not kwargs and all(isinstance(argument, Value) for argument in args),
        modes=node.meta["modes"],
        writes=node.meta["memory"][0] if node.meta.get("writes") else None,
    )


def _call_with_values(call: Call) -> Call:
    args, kwargs, result = (_with_values(structure) for structure in (call.args, call.kwargs, call.result))
    return replace(call, args=args, kwargs=kwargs, result=result, calls=tuple(map(_call_with_values, call.calls)))


class _Method:
    """A tensor method by name, as an operation."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, self.__name__)(*args, **kwargs)


_TENSORS = ("input", "tensors", "other")
_ATTENTION = (
    ("qkv",), ("q", "k"), ("q", "kv"), ("query", "key"), ("to_qkv",), ("in_proj_weight",), ("num_heads", "scale"),
    ("num_heads", "head_dim"),
)  # fmt: skip


def _load_rules_for(network: nn.Module) -> None:
    """Enter the rules for other libraries' layers, imported with the first network that may have one; others stay."""
    there = dict(RULES)
    if "torchvision" in sys.modules:
        from torchvision.ops import stochastic_depth  # torchvision takes as long to import as torch

        masking_rule(stochastic_depth, rows=ROW_BY_ROW, is_local=True)(elementwise)
    if any(type(module).__module__.startswith("timm.") for module in network.modules()):
        from maskrobust.lm_modules.masking.rules import timm_layers

        timm_layers.register()
    RULES.update(there)


def _refuse_attention(network: nn.Module) -> None:
    for path, module in network.named_modules():
        if any(all(hasattr(module, name) for name in names) for names in _ATTENTION):
            raise UnsupportedNetworkError(
                f"{type(network).__name__} attends from each position to all others (layer '{path}', "
                f"{type(module).__name__}), but layer masking is for convolutional networks; a transformer can simply "
                "drop hidden tokens, as the masking method token_dropping does with timm's."
            )


@contextmanager
def mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Within the context every module is in one mode; afterwards each is in its own again."""
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, flag in before.items():
            module.training = flag


def _rule_for(node: fx.Node, network: nn.Module) -> Rule:
    operation = _operation_of(node, network)
    target: Target = type(operation) if isinstance(operation, nn.Module) else node.target
    rule = find_rule(target)
    if rule is None:
        name = written(target)
        raise UnsupportedNetworkError(
            f"layer masking has no rule for the operation {name} at layer '{_layer_of(node)}' of "
            f"{type(network).__name__}; add one with maskrobust.masking_rule({name})."
        )
    return rule


def _ends_masking(rule: Rule, node: fx.Node, network: nn.Module) -> bool:
    try:
        args, kwargs = _arguments(node)
        operation = _operation_of(node, network)
        rule.check(operation, *args, **kwargs)
        return rule.ends_masking(operation, *args, **kwargs)
    except NotImplementedError as error:
        raise _refusal(_layer_of(node), network, error) from error


def _refusal(layer: str, network: nn.Module, reason: Exception) -> UnsupportedNetworkError:
    return UnsupportedNetworkError(f"at layer '{layer}' of {type(network).__name__}, {reason}")


def _operation_of(node: fx.Node, network: nn.Module) -> Any:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def _arguments(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments; tensors that the network names are positional, as rules take them."""
    named = [node.kwargs[name] for name in _TENSORS if name in node.kwargs]
    return (*node.args, *named), {name: value for name, value in node.kwargs.items() if name not in _TENSORS}


def _layer_of(node: fx.Node) -> str:
    """Path of the module that a node belongs to."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else node.name


def _with_values(argument: Any) -> Any:
    return _replace(argument, fx.Node, lambda node: Value(node.name))


def _copied(value: Any) -> Any:
    """The same with features of its own, where a value is masked."""
    if isinstance(value, tuple):
        return tuple(map(_copied, value))
    if isinstance(value, ZeroPadded):
        return replace(value, features=value.features.clone(), inside=_copied(value.inside))
    return replace(value, features=value.features.clone()) if isinstance(value, Masked) else value


def fill_in(argument: Any, values: Mapping[str, Any]) -> Any:
    """An argument with results for values; most are a value, a constant, or a tuple of these."""
    kind = type(argument)
    if kind is Value:
        return values[argument.name]
    if kind is tuple:
        return tuple([fill_in(item, values) for item in argument])
    if kind is dict and not argument:
        return {}
    if kind in (int, float, bool, str):
        return argument
    return _replace(argument, Value, lambda value: values[value.name])


def _replace(argument: Any, kind: type, replacement: Callable[[Any], Any]) -> Any:
    """An argument with everything of one kind in it replaced, however deep in tuples, lists, dicts and slices."""
    if isinstance(argument, kind):
        return replacement(argument)
    if isinstance(argument, tuple | list):
        items = [_replace(item, kind, replacement) for item in argument]
        if isinstance(argument, list):
            return items
        return type(argument)(*items) if hasattr(argument, "_fields") else type(argument)(items)
    if isinstance(argument, dict):
        return {key: _replace(item, kind, replacement) for key, item in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_replace(item, kind, replacement) for item in (argument.start, argument.stop, argument.step)))
    return argument
