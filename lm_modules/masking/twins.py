"""Modules that share class, parameters, buffers and children with others, but for some attributes of their own."""

from typing import Any, TypeVar

from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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
