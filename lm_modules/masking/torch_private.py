"""All of torch that layer masking uses and torch does not document, in one place, each with its reason.

Tried with torch 2.13. Not here: `torch._C.DisableTorchFunctionSubclass`, which torch's notes on extending it name, and
the dictionaries of a `torch.nn.Module`, which `LayerMasking` shares with its network.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._device import _device_constructors

are_aliases: Callable[[Tensor, Tensor], bool] = torch._C._is_alias_of  # type: ignore[attr-defined]
"""Whether two tensors share their memory, also without values, where `data_ptr` is 0."""

makers_of_tensors: Callable[[], set[Any]] = _device_constructors
"""The functions that make tensors on the device that is asked for."""

hands_on: Callable[[], bool] = torch._C._is_torch_function_enabled
"""Whether torch hands functions on to `__torch_function__`, as it does not within a rule."""


def in_backward() -> bool:
    """Whether a backward pass is at work in this thread, for which autograd has no public question."""
    return torch._C._current_graph_task_id() != -1


def is_view(tensor: Tensor) -> bool:
    """Whether autograd takes a tensor for a view of another one."""
    return bool(tensor._is_view())


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is at work, or derivatives in forward mode."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_traced() -> bool:
    """Whether `torch.compile` traces what runs later, and neither `torch.export` nor a transform does."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting() and not is_transformed()


def within_compiled(module: nn.Module) -> nn.Module | None:
    """The module that `torch.compile` was given for this one; None for one that it has not returned."""
    return module._modules.get("_orig_mod")


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled by itself, by `torch.compile(module)` or by `module.compile()`."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


def without_compiling(module: nn.Module) -> None:
    """Forget that a module has been compiled by `module.compile()`."""
    module.__dict__["_compiled_call_impl"] = None


def as_constant(function: Any) -> Any:
    """As `torch.compiler.assume_constant_result`, which imports the compiler, and that takes seconds."""
    function._dynamo_marked_constant = True
    return function


def teach_compiler(functions: Sequence[Any]) -> None:
    """Have Dynamo hand these functions to `__torch_function__`, and look for tensor subclasses in tuples, too.

    It has a list of its own of what may be overridden, and looks into lists alone, so that `torch.cat((a, b), 1)` would
    be computed without a mask.
    """
    from torch._dynamo.variables import torch_function
    from torch._dynamo.variables.torch import get_overridable_functions

    get_overridable_functions().update(functions)
    torch_function._get_all_args = _arguments_and_those_in_tuples


def _arguments_and_those_in_tuples(args: Any, kwargs: Any) -> list[Any]:
    from torch._dynamo.variables.lists import TupleVariable
    from torch._dynamo.variables.torch_function import _flatten_vts
    from torch.utils._pytree import arg_tree_leaves

    found = _flatten_vts(arg_tree_leaves(*args, **kwargs))
    return [part for each in found for part in (each.items if isinstance(each, TupleVariable) else [each])]
