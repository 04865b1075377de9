"""A network as a list of steps, read with `torch.fx` and paired with masking rules when the network is wrapped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from lm_modules.masking.masked import Masked
from lm_modules.masking.rules import RULES, Rule, RuleFunction, Target, find_rule


class UnsupportedNetworkError(Exception):
    """A network that layer masking cannot compute exactly; raised when it is wrapped, never later."""


@dataclass(frozen=True)
class Value:
    """The result of an earlier step, as an argument of a later one."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation of the network.

    Attributes:
        name: of the result, unique in a program.
        kind: node kind of `torch.fx` ("call_module", "call_function", "call_method" or "get_attr").
        target: path of a module or attribute, a function, or the name of a tensor method.
        args: positional arguments; `Value` stands for an earlier result.
        kwargs: keyword arguments, likewise.
        rule: applied where an argument is masked; None where none can be.
        last_uses: names of earlier results that no later step needs.
    """

    name: str
    kind: str
    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rule: RuleFunction | None
    last_uses: tuple[str, ...]

    def run(self, network: nn.Module, values: dict[str, Any]) -> Any:
        """Compute the step's result from those of earlier steps."""
        args = _fill_in(self.args, values)
        kwargs = _fill_in(self.kwargs, values)
        if self.kind == "get_attr":
            return _attribute(network, str(self.target))
        operation = self._operation(network)
        if self.rule is not None:
            return self.rule(operation, *args, **kwargs)
        return operation(*args, **kwargs)

    def _operation(self, network: nn.Module) -> Callable[..., Any]:
        if self.kind == "call_module":
            return network.get_submodule(str(self.target))
        if callable(self.target):
            return self.target
        return _Method(self.target)


@dataclass(frozen=True)
class Program:
    """The steps of one forward pass.

    Attributes:
        input_name: of the value that holds the masked images.
        steps: in the order of computation.
        output: the network's result, with `Value` for results of steps.
    """

    input_name: str
    steps: tuple[Step, ...]
    output: Any

    def run(self, network: nn.Module, images: Masked) -> Any:
        """Compute the network's output for masked images, forgetting each result after its last use."""
        values: dict[str, Any] = {self.input_name: images}
        for step in self.steps:
            values[step.name] = step.run(network, values)
            for name in step.last_uses:
                del values[name]
        return _fill_in(self.output, values)


def read_program(network: nn.Module, *, training: bool) -> Program:
    """Trace a network in one mode and pair every masked operation with its rule.

    Args:
        network: takes images (B, C, H, W) as its only tensor argument; left as it is.
        training: whether to read the training-mode forward pass.

    Raises:
        UnsupportedNetworkError: the network cannot be traced, or an operation on masked features has no rule; the
            message names the layer, the operation and the remedy.
    """
    graph = _trace(network, training=training)
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
            if any(argument in masked for argument in node.all_input_nodes):
                raise UnsupportedNetworkError(
                    f"{type(network).__name__} returns features that are still masked, but layer masking needs a "
                    "network that ends in global pooling and a linear head; wrap the classifier, not its trunk."
                )
        elif node.op != "placeholder":
            rule = _rule_for(node, network) if any(argument in masked for argument in node.all_input_nodes) else None
            if rule is not None and not _ends_masking(rule, node, network):
                masked.add(node)
            last_uses = tuple(argument.name for argument in node.all_input_nodes if last_use[argument] is node)
            args, kwargs = _with_values(node.args), _with_values(node.kwargs)
            apply = None if rule is None else rule.apply
            steps.append(Step(node.name, node.op, node.target, args, kwargs, apply, last_uses))
    return Program(images.name, tuple(steps), output)


class _Tracer(fx.Tracer):
    """Keeps every module whole that has a rule, or comes of one that has."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        has_rule = any(base in RULES for base in type(module).__mro__)
        return has_rule or super().is_leaf_module(module, module_qualified_name)


class _Method:
    """A tensor method by name, as an operation."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, self.name)(*args, **kwargs)


def _trace(network: nn.Module, *, training: bool) -> fx.Graph:
    tracer = _Tracer()
    try:
        with _mode(network, training=training):
            return tracer.trace(network)
    except Exception as error:  # whatever the network's own forward makes of a proxy
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UnsupportedNetworkError(
            f"{type(network).__name__} cannot be read with torch.fx ({reason}), which layer masking needs; give the "
            "submodule that fails a rule of its own with masking_rule, or free its forward of data-dependent Python."
        ) from error


@contextmanager
def _mode(network: nn.Module, *, training: bool) -> Iterator[None]:
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
        name = target if isinstance(target, str) else getattr(target, "__qualname__", repr(target))
        raise UnsupportedNetworkError(
            f"layer masking has no rule for the operation {name} at layer '{_layer_of(node)}' of "
            f"{type(network).__name__}; add one with lm_modules.masking_rule({name})."
        )
    return rule


def _ends_masking(rule: Rule, node: fx.Node, network: nn.Module) -> bool:
    try:
        return rule.ends_masking(_operation_of(node, network), *node.args, **node.kwargs)
    except NotImplementedError as error:
        raise UnsupportedNetworkError(f"at layer '{_layer_of(node)}' of {type(network).__name__}, {error}") from error


def _operation_of(node: fx.Node, network: nn.Module) -> Any:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def _layer_of(node: fx.Node) -> str:
    """Path of the module that a node belongs to."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else node.name


def _attribute(network: nn.Module, path: str) -> Any:
    *parents, name = path.split(".")
    return getattr(network.get_submodule(".".join(parents)), name)


def _with_values(argument: Any) -> Any:
    return _replace(argument, fx.Node, lambda node: Value(node.name))


def _fill_in(argument: Any, values: dict[str, Any]) -> Any:
    return _replace(argument, Value, lambda value: values[value.name])


def _replace(argument: Any, kind: type, replacement: Callable[[Any], Any]) -> Any:
    """An argument with everything of one kind in it replaced, however deep in tuples, lists, dicts and slices."""
    if isinstance(argument, kind):
        return replacement(argument)
    if isinstance(argument, tuple | list):
        return type(argument)([_replace(item, kind, replacement) for item in argument])
    if isinstance(argument, dict):
        return {key: _replace(item, kind, replacement) for key, item in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_replace(item, kind, replacement) for item in (argument.start, argument.stop, argument.step)))
    return argument
