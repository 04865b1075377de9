"""What a network's forward pass may depend on beside tensors, the key under which a program is kept; twins of modules.

A twin shares class, parameters, buffers and children with another module, but for some attributes of its own.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Modes = tuple[bool, bool, torch.dtype, bool, torch.dtype]
"""Grad mode, then autocast on a CPU and its dtype, on CUDA and its dtype."""

_OF_TORCH = {*vars(nn.Module()), "_compiled_call_impl"} - {"training"}
_CONSTANT = (
    bool, int, float, str, NoneType, type, enum.Enum, torch.dtype, torch.device, torch.memory_format, FunctionType,
    BuiltinFunctionType, MethodType,
)  # fmt: skip

AnyModule = TypeVar("AnyModule", bound=nn.Module)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def modes() -> Modes:
    """The modes that hold now."""
    autocast = ((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))
    (cpu, cpu_dtype), (cuda, cuda_dtype) = autocast
    return torch.is_grad_enabled(), cpu, cpu_dtype, cuda, cuda_dtype


class _ModuleState(NamedTuple):
    """Of one module: its class, the number of its attributes, and what those hold that are no tensors."""

    kind: type
    size: int
    read: Callable[[dict[str, Any]], Any]
    values: Any


@dataclass(frozen=True)
class State:
    """What a forward pass may depend on: of each module its class, its mode and its attributes, and the ambient modes.

    Attributes are compared where they are numbers, strings, functions and the like, or collections of these. Floats of
    a module that is not read but called, such as a momentum, are left out.

    Attributes:
        modes: grad mode and autocast.
        modules: in the order in which `compare` meets them.
        trains: whether any module is in training mode.
        settings: of each of the network's `modules()` its mode and, where it is not called, its numbers and strings.
    """

    modes: Modes
    modules: tuple[_ModuleState, ...]
    trains: bool
    settings: tuple[tuple[tuple[str, Any], ...], ...]

    @classmethod
    def of(cls, network: nn.Module, is_called: Callable[[nn.Module], bool]) -> "State":
        """The present state.

        Args:
            network: any.
            is_called: whether a module is called as a whole, so that its own code reads its attributes in each pass.
        """
        modules = _with_children(network)
        states = tuple(_state_of(module, keeps_floats=module is None or not is_called(module)) for module in modules)
        trains = any(module.training for module in modules if module is not None)
        settings = tuple(
            tuple((name, getattr(module, name)) for name in _simple_names(module, is_called=is_called(module)))
            for module in network.modules()
        )
        return cls(modes(), states, trains, settings)

    def compare(self, network: nn.Module) -> tuple[bool, bool]:
        """Whether a network is in this state, and if so, whether one of its modules has a hook.

        Takes a fraction of a microsecond for each module.
        """
        if self.modes != modes():
            return False, False
        modules: list[nn.Module | None] = [network]
        is_hooked = False
        for (kind, size, read, values), module in zip(self.modules, modules, strict=False):  # grows on the way
            if type(module) is not kind:
                return False, False
            if module is None:
                continue
            own = module.__dict__
            try:
                if len(own) != size or read(own) != values:
                    return False, False
            except KeyError:  # an attribute was renamed
                return False, False
            if (
                own["_forward_hooks"]
                or own["_forward_pre_hooks"]
                or own["_backward_hooks"]
                or own["_backward_pre_hooks"]
            ):
                is_hooked = True
            if own["_modules"]:
                modules += own["_modules"].values()
        return len(modules) == len(self.modules), is_hooked

    def guard(self, network: nn.Module) -> None:
        """Read all modes, and the numbers and strings of modules that are not called, for `torch.compile` to see.

        It compiles anew where one of these has changed.
        """
        for module, settings in zip(network.modules(), self.settings, strict=True):
            for name, value in settings:
                assert getattr(module, name) == value


def _with_children(network: nn.Module) -> list[nn.Module | None]:
    modules: list[nn.Module | None] = [network]
    for module in modules:
        modules += [] if module is None else module._modules.values()
    return modules


def _state_of(module: nn.Module | None, *, keeps_floats: bool) -> _ModuleState:
    if module is None:
        return _ModuleState(NoneType, 0, dict, {})
    own = vars(module)
    names = [name for name in _names(module) if keeps_floats or not isinstance(own[name], float)]
    read = itemgetter(*names)
    values = read(own)
    return _ModuleState(type(module), len(own), read, _copied(values))


def _names(module: nn.Module) -> list[str]:
    """Attributes that are no tensors, modules or objects of other classes; "training" among them."""
    return [name for name, value in vars(module).items() if name not in _OF_TORCH and _is_constant(value)]


def _simple_names(module: nn.Module, *, is_called: bool) -> list[str]:
    names = ["training"] if is_called else _names(module)
    return [name for name in names if isinstance(vars(module)[name], bool | int | float | str | NoneType)]


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_constant, value))
    if isinstance(value, dict):
        return all(map(_is_constant, value.values()))
    return isinstance(value, _CONSTANT)


def _copied(value: Any) -> Any:
    """The same, without lists and the like that may change."""
    if type(value) in (tuple, list):
        return type(value)(map(_copied, value))
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return value.copy() if isinstance(value, set) else value


def is_hooked(module: nn.Module) -> bool:
    """Whether anybody has registered a hook on a module, forward or backward, `pre` or not."""
    return any(vars(module)[name] for name in HOOKS)


def twin(module: AnyModule, **attributes: Any) -> AnyModule:
    """A module that shares everything with another one but for the attributes that are given.

    It is made anew for each use: what is registered on the other module later may be missing here.
    """
    other = object.__new__(type(module))
    other.__dict__.update(vars(module), **attributes)
    return other


def without_hooks(module: AnyModule, **attributes: Any) -> AnyModule:
    """A twin that computes what the module does between its hooks."""
    hooks: dict[str, Any] = {name: {} for name in HOOKS}
    if "_compiled_call_impl" in vars(module):
        hooks["_compiled_call_impl"] = None  # it calls the module with its hooks
    return twin(module, **hooks, **attributes)


def twin_of_tree(network: nn.Module) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """A network to try things with: parameters and buffers are those of the network, modules and attributes are not.

    Args:
        network: left as it is.

    Returns:
        The twin without hooks, and the twin of each module.
    """
    twins = {module: without_hooks(module) for module in network.modules()}
    for module, other in twins.items():
        children = {name: None if child is None else twins[child] for name, child in module._modules.items()}
        own = {name: dict(vars(module)[name]) for name in ("_parameters", "_buffers")}
        other.__dict__.update(own, _modules=children)
    return twins[network], twins


def take_tensors_for_buffers(module: nn.Module) -> None:
    """Make buffers of the tensors that are plain attributes of a twin, so that reading one can be noticed."""
    for name, value in [*vars(module).items()]:
        if isinstance(value, Tensor):
            module._buffers[name] = vars(module).pop(name)
