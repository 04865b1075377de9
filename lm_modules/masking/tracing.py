"""Reading a network's forward pass as a graph of `torch.fx` that computes what the network would, whenever it is run.

`fx` alone takes for a constant what `forward` makes of tensors that do not come from the images, and forgets what is
changed in place. Here every tensor that is read is read again in each run, every operation becomes a node with the grad
mode and autocast in which it was called, and a tensor that is changed in place stands for the result from then on.
"""

import inspect
import operator
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property
from torch.utils._pytree import tree_leaves, tree_map_only

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.rules.reshaping import NO_TENSORS, QUESTIONS, same
from maskrobust.lm_modules.masking.rules.table import UnsupportedNetworkError, find_rule
from maskrobust.lm_modules.masking.state import State, modes, take_tensors_for_buffers, twin_of_tree

_FX = inspect.getfile(fx.Tracer)
_LOCK = threading.RLock()  # fx changes the class nn.Module while it reads


@dataclass(frozen=True)
class Call:
    """One call of a module in the forward pass, in terms of nodes or, in a program, of `Value`.

    Attributes:
        path: of the module; "" for the network itself.
        start: index of the first step within.
        end: index after the last one.
        args: positional arguments.
        kwargs: keyword arguments.
        result: what the module returns.
        calls: calls of other modules within, in order.
    """

    path: str
    start: int
    end: int
    args: Any
    kwargs: Any
    result: Any
    calls: "tuple[Call, ...]" = ()

    def within(self) -> "Iterator[Call]":
        """The calls of other modules within, in order, each before those within it."""
        for each in self.calls:
            yield each
            yield from each.within()


@dataclass(frozen=True)
class Trace:
    """A forward pass as it was read.

    Attributes:
        graph: its nodes. `meta["modes"]` is set where other modes hold than outside the network, `meta["memory"]` names
            what a node's memory was made by, and `meta["writes"]` is True where it changes its first argument.
        state: of the network.
        calls: of the modules that the network calls, with those within.
    """

    graph: fx.Graph
    state: State
    calls: tuple[Call, ...]


def is_called(module: nn.Module) -> bool:
    """Whether a module is one step, rather than those of its forward."""
    if find_rule(type(module)) is not None or isinstance(module, nn.modules.batchnorm._NormBase):
        return True
    return type(module).__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(module, nn.Sequential)


def trace(network: nn.Module, *, training: bool | None = None, separates_calls: bool = False) -> Trace:
    """Read the forward pass of a network.

    An `if` that asks for a size of images or features is answered as for images of 256 x 256, and each run checks the
    answer (`expect`).

    Args:
        network: takes images as its first argument; neither it nor one of its modules is changed or called, and other
            threads may call them.
        training: of all modules; None for the mode that each of them is in.
        separates_calls: whether the arguments of a module, and a result that is one of them, are nodes of their own, so
            that a hook can change them without changing what else has the same tensor.

    Raises:
        UnsupportedNetworkError: it cannot be read; the message names the layer and the remedy.
    """
    root, twins = twin_of_tree(network)
    if training is not None:
        root.train(training)
    state = State.of(root, is_called)
    for each in twins.values():
        take_tensors_for_buffers(each)
    before = {each: dict(vars(each)) for each in twins.values()}
    tracer = _Tracer(network, twins, separates_calls=separates_calls)
    try:
        with _LOCK, _Recorder(tracer):
            graph = tracer.trace(root)
        _refuse_assignments(network, twins, before)
    except _UnreadableError as error:
        raise UnsupportedNetworkError(f"{type(network).__name__} cannot be read{tracer.failed_at}: {error}.") from error
    except Exception as error:  # whatever the network's own forward makes of a proxy
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UnsupportedNetworkError(
            f"{type(network).__name__} cannot be read with torch.fx{tracer.failed_at} ({reason}), which layer masking "
            "needs; give the submodule that fails a rule of its own with masking_rule, or free its forward of "
            "data-dependent Python."
        ) from error
    return Trace(graph, state, tuple(tracer.calls))


_SIZE = 256  # every stride of a network divides it


def expect(condition: Any, answer: bool) -> None:
    """Check that images have a size of which an `if` is answered as it was when the network was read.

    Raises:
        InputError: they have another one.
    """
    if bool(condition) is not answer:
        raise InputError(
            "the network's forward asks for the size of its images, and takes another way with these than with the "
            f"{_SIZE} x {_SIZE} that layer masking reads it for, or refuses them; give images of another size, such as "
            "a multiple of 32."
        )


class _UnreadableError(Exception):
    """What cannot be read, and the remedy, as the end of a sentence."""


class _Proxy(fx.Proxy):
    """Stands for a tensor; from a change in place on for what the change makes of it."""


def _in_place(function: Callable[[Any, Any], Any], plain: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def change(self: fx.Proxy, other: Any) -> fx.Proxy:
        target = plain if _is_number(self.node) else function
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return change


_CHANGES = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.imod: operator.mod,
    operator.ipow: operator.pow, operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor,
}  # fmt: skip
for _function, _plain in _CHANGES.items():
    setattr(_Proxy, f"__{_function.__name__.strip('_')}__", _in_place(_function, _plain))

_FACTORIES = {
    "arange", "as_tensor", "asarray", "bartlett_window", "blackman_window", "empty", "empty_strided", "eye", "fftfreq",
    "from_numpy", "full", "hamming_window", "hann_window", "kaiser_window", "linspace", "logspace", "normal", "ones",
    "rand", "randint", "randn", "randperm", "range", "rfftfreq", "scalar_tensor", "tensor", "tril_indices",
    "triu_indices", "zeros",
}  # fmt: skip
_PARTS = {"chunk", "split", "tensor_split", "unbind", "unsafe_chunk", "unsafe_split", "hsplit", "vsplit", "dsplit"}
_VIEWS = _PARTS | {
    "T", "alpha_dropout", "as_strided", "bfloat16", "broadcast_to", "contiguous", "cpu", "cuda", "data", "detach",
    "diagonal", "double", "drop_path", "dropout", "dropout2d", "expand", "expand_as", "feature_alpha_dropout",
    "flatten", "float", "getitem", "half", "imag", "mT", "moveaxis", "movedim", "narrow", "permute", "ravel", "real",
    "reshape", "reshape_as", "same", "select", "squeeze", "stochastic_depth", "swapaxes", "swapdims", "t", "to",
    "transpose", "type", "type_as", "unflatten", "unfold", "unsqueeze", "view", "view_as",
}  # fmt: skip


class _Recorder(TorchFunctionMode):
    """Makes nodes of what `forward` does with tensors that do not come from the images."""

    def __init__(self, tracer: "_Tracer") -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, function: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if self.tracer.evaluates:
            return function(*args, **kwargs)
        given = tree_leaves((args, kwargs))
        if any(isinstance(each, fx.Proxy) for each in given):
            return function(*args, **kwargs)  # the proxy makes the node
        attribute = getattr(getattr(function, "__self__", None), "__name__", "") if name == "__get__" else None
        is_question = (attribute or name) in {*NO_TENSORS, *QUESTIONS, "__len__", "__repr__", "__hash__"}
        reads_tensors = any(isinstance(each, Tensor) for each in given) and not is_question
        if not reads_tensors and name not in _FACTORIES:
            result = function(*args, **kwargs)
            if isinstance(result, Tensor):
                raise _UnreadableError(
                    f"forward makes a tensor with {name}, which would be the same one in each pass; use another "
                    "function of torch, or give the module a rule of its own with masking_rule"
                )
            return result
        if attribute is not None:
            return self.tracer.create_proxy("call_function", getattr, (args[0], attribute), {})
        if is_tensor_method_or_property(function):
            return self.tracer.create_proxy("call_method", name, args, kwargs)
        return self.tracer.create_proxy("call_function", function, args, kwargs)


class _Tracer(fx.Tracer):
    """Keeps every module whole that has a rule, and those that would change their buffers while they are read."""

    proxy_buffer_attributes = True

    def __init__(self, network: nn.Module, twins: dict[nn.Module, nn.Module], *, separates_calls: bool) -> None:
        super().__init__()
        self.failed_at = ""
        self.calls: list[Call] = []
        paths = {module: path for path, module in network.named_modules()}
        # A list or a closure of the network's own may still lead to a module rather than to its twin.
        self._paths = paths | {twins[module]: path for module, path in paths.items()}
        self._separates_calls = separates_calls
        self._thread = threading.get_ident()
        self._modes = modes()
        self._steps = 0
        self.evaluates = False
        self._sized: dict[fx.Node, Any] = {}
        self._changes: dict[str, list[fx.Node]] = {}  # of memory that is no view, by the node that made it
        self._open = self.calls

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_called(m)

    def path_of_module(self, mod: nn.Module) -> str:
        """Of a module of the network, or of its twin."""
        if mod not in self._paths:
            raise _UnreadableError(f"it calls a {type(mod).__name__} that is no submodule; make it an attribute")
        path: str = self._paths[mod]
        return path

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The answer to a question of sizes."""
        if not _is_number(obj.node):
            return super().to_bool(obj)
        self.evaluates = True
        try:
            with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
                answer = bool(self._evaluate(obj.node))
        finally:
            self.evaluates = False
        self.create_proxy("call_function", expect, (obj, answer), {})
        return answer

    def _evaluate(self, node: fx.Node) -> Any:
        """What a node is for images of 256 x 256, without computing features; each is evaluated once."""
        if node not in self._sized:
            for each in node.all_input_nodes:
                self._evaluate(each)
            args, kwargs = fx.map_arg((node.args, node.kwargs), self._sized.__getitem__)
            self._sized[node] = self._sized_result(node, args, kwargs)
        return self._sized[node]

    def _sized_result(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "placeholder":
            channels = (getattr(module, "in_channels", None) for module in self.root.modules())
            return torch.empty(2, next((each for each in channels if isinstance(each, int)), 3), _SIZE, _SIZE)
        if callable(node.target):
            return node.target(*args, **kwargs)
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self.root)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return self.root.get_submodule(node.target).forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Other threads read attributes as ever."""
        if threading.get_ident() != self._thread or self.evaluates:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """A network whose instance has a forward of its own is read by that; other arguments keep their defaults."""
        others = [*inspect.signature(self.root.forward).parameters.values()][1:]
        are_optional = all(each.default is not each.empty or each.kind in _COLLECTING for each in others)
        own = "forward" in vars(self.root) or are_optional
        return super().create_args_for_root(_own_forward if own else root_fn, is_module, concrete_args)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Does what fx does, and remembers the call, or the innermost layer that cannot be read."""
        if threading.get_ident() != self._thread or self.evaluates:
            return forward(*args, **kwargs)
        taken: list[tuple[fx.Proxy, fx.Proxy]] = []
        if self._separates_calls:
            args, kwargs = tree_map_only(fx.Proxy, lambda proxy: self._separated(proxy, taken), (args, kwargs))
        path, start, siblings, self._open = self.path_of_module(m), self._steps, self._open, []
        given = _nodes_of(args), _nodes_of(kwargs)
        try:
            result = super().call_module(m, m.forward, args, kwargs)
        except Exception:
            self.failed_at = self.failed_at or f" at layer '{path}'"
            raise
        if self._separates_calls:
            result = tree_map_only(fx.Proxy, lambda proxy: self._new(proxy, start), result)
            for outer, inner in taken:
                if inner.node.meta.get("writes") and type(outer) is _Proxy:
                    outer.node = inner.node  # changed in place within
        siblings.append(Call(path, start, self._steps, *given, _nodes_of(result), tuple(self._open)))
        self._open = siblings
        return result

    def _separated(self, proxy: fx.Proxy, taken: list[tuple[fx.Proxy, fx.Proxy]]) -> fx.Proxy:
        inner = self.create_proxy("call_function", same, (proxy,), {})
        taken.append((proxy, inner))
        return inner

    def _new(self, proxy: fx.Proxy, start: int) -> fx.Proxy:
        is_new = proxy.node.meta["order"] > start
        return proxy if is_new else self.create_proxy("call_function", same, (proxy,), {})

    def create_arg(self, a: Any) -> Any:
        """A tensor that is no attribute, such as a global one, stays the one that it is."""
        attributes = (*self.root.parameters(), *self.root.buffers()) if isinstance(a, Tensor) else ()
        is_attribute = any(a is each for each in attributes)
        return a if isinstance(a, Tensor) and not is_attribute else super().create_arg(a)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> fx.Proxy:
        """A new proxy; or the first argument, which stands for the result from now on, where that is changed."""
        if isinstance(kwargs.get("out"), fx.Proxy):
            raise _UnreadableError("forward writes a result into out=; assign the result instead")
        changes = bool(args) and isinstance(args[0], fx.Proxy) and self._changes_first(kind, target, args, kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        if not changes:
            return proxy
        changed, node = args[0], proxy.node
        node.meta.update(writes=True, memory=changed.node.meta["memory"])
        self._changes.setdefault(node.meta["memory"][0], []).append(node)
        if type(changed) is not _Proxy:  # an attribute, such as data
            return proxy
        changed.node = node
        return changed

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> fx.Node:
        """A node with the modes in which it is called; what it reads must not have been changed by another name."""
        node = super().create_node(kind, _itself(target), args, kwargs, *rest, **options)
        self._steps += kind not in ("placeholder", "output")
        now = modes()
        shared = self._shares_first(kind, target, args)
        memory = args[0].meta["memory"] if shared else (node.name,)
        if shared and target is operator.getitem and isinstance(args[1], int) and _is_in_parts(args[0]):
            memory = (*memory, args[0].name, args[1])
        node.meta.update(order=self._steps, modes=None if now == self._modes else now, memory=memory)
        if not _is_question(node):
            for argument in node.all_input_nodes:
                self._refuse_stale(argument)
        return node

    def _refuse_stale(self, node: fx.Node) -> None:
        memory = node.meta["memory"]
        for change in self._changes.get(memory[0], ()):
            other = change.meta["memory"]
            overlaps = memory[: len(other)] == other[: len(memory)]
            if overlaps and change.meta["order"] > node.meta["order"]:
                raise _UnreadableError(
                    f"'{node.name}' is used after '{change.name}' has changed the same memory in place through another "
                    "name; compute the change out of place"
                )

    def _changes_first(self, kind: str, target: Any, args: Any, kwargs: Any) -> bool:
        if kind == "call_module":
            return bool(getattr(self.root.get_submodule(target), "inplace", False))
        if kind not in ("call_function", "call_method"):
            return False
        name = _name_of(target)
        if target in _CHANGES:
            return True
        if name.endswith("_") and not name.endswith("__"):
            return getattr(target, "__module__", "") != "_operator"  # such as and_
        if not inspect.isfunction(target) or "inplace" not in inspect.signature(target).parameters:
            return False
        return bool(inspect.signature(target).bind(*args, **kwargs).arguments.get("inplace", False))

    def _shares_first(self, kind: str, target: Any, args: Any) -> bool:
        """Whether a result may be a view of the first argument, or that argument itself."""
        if not args or not isinstance(args[0], fx.Node):
            return False
        if kind == "call_module":
            module = self.root.get_submodule(target)
            drops = module.training and bool(getattr(module, "p", getattr(module, "drop_prob", 1.0)))
            is_dropout = "Drop" in type(module).__name__ and not drops
            return is_dropout or isinstance(module, nn.Identity | nn.Flatten | nn.Unflatten)
        if target is getattr:
            return args[1] in _VIEWS
        return kind in ("call_function", "call_method") and _name_of(target) in _VIEWS


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _own_forward(self: nn.Module, images: Any) -> Any:
    return self.forward(images)


def _name_of(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def _is_in_parts(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and _name_of(node.target) in _PARTS


def _is_question(node: fx.Node) -> bool:
    """Whether a node asks for a shape, a device and the like."""
    if node.op == "call_method":
        return node.target in QUESTIONS
    return node.target is getattr and node.args[1] in NO_TENSORS


_COUNTING = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
    operator.neg, operator.getitem, int, float, round, min, max, operator.eq, operator.ne, operator.lt, operator.le,
    operator.gt, operator.ge, operator.not_,
}  # fmt: skip


def _is_number(node: fx.Node) -> bool:
    """Whether a node stands for numbers, which cannot be changed in place."""
    if _is_question(node) or (node.op == "call_method" and node.target in ("item", "tolist")):
        return True
    counts = node.op == "call_function" and (node.target in _COUNTING or _name_of(node.target) in _OF_MATH)
    return counts and bool(node.all_input_nodes) and all(map(_is_number, node.all_input_nodes))


_OF_MATH = {"ceil", "floor", "sqrt", "log", "log2", "prod", "gcd"}


def _refuse_assignments(
    network: nn.Module, twins: dict[nn.Module, nn.Module], before: dict[nn.Module, dict[str, Any]]
) -> None:
    for path, module in network.named_modules():
        own, earlier = vars(twins[module]), before[twins[module]]
        changed = next((name for name in own if own[name] is not earlier.get(name, own)), None)
        if changed is not None:
            raise _UnreadableError(
                f"forward sets the attribute '{changed}' of layer '{path}', which a masked pass cannot do; return the "
                "value, or take it with a forward hook"
            )


def _nodes_of(argument: Any) -> Any:
    return tree_map_only(fx.Proxy, lambda proxy: proxy.node, argument)


def _itself(target: Any) -> Any:
    """A function itself, where `torch.export` reads around us with `fx`, which has wrapped it meanwhile."""
    while getattr(getattr(target, "__code__", None), "co_filename", None) == _FX and hasattr(target, "__wrapped__"):
        target = target.__wrapped__
    return target
