"""Keep the mask of features that a user's hook replaces."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError


@contextmanager
def masks_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the context a plain tensor that a hook returns for masked features has their mask.

    So do masked features of another forward pass. Explainers such as Captum's layer attributions compute what they put
    into a network from what hooks have seen in an earlier pass.

    Args:
        modules: of the network; those that have hooks of the forward pass are given further ones.

    Raises:
        UnsupportedNetworkError: a hook returns a tensor of another shape.
    """
    thread, before = threading.get_ident(), list[Any]()

    def note(_module: nn.Module, *values: Any) -> None:
        if threading.get_ident() == thread:
            before.append(values[-1])

    def keep(_module: nn.Module, *values: Any) -> Any:
        return _kept(before.pop(), values[-1]) if threading.get_ident() == thread else None

    with ExitStack() as stack:
        for module in modules:
            if module._forward_hooks:
                stack.enter_context(module.register_forward_hook(note, prepend=True))
                stack.enter_context(module.register_forward_hook(keep))
            if module._forward_pre_hooks:
                stack.enter_context(module.register_forward_pre_hook(note, prepend=True))
                stack.enter_context(module.register_forward_pre_hook(keep))
        yield


def _kept(before: Any, after: Any) -> Any:
    """What a hook returned, with the masks of what stood there before."""
    if type(before) in (list, tuple) and type(after) is type(before) and len(after) == len(before):
        return type(before)(map(_kept, before, after))
    if type(before) is dict and type(after) is dict:
        return {name: _kept(before.get(name), each) for name, each in after.items()}
    if not isinstance(before, Masked) or not isinstance(after, Tensor):
        return after
    if isinstance(after, Masked) and after.run is before.run:
        return after
    if after.shape != before.shape:
        raise UnsupportedNetworkError(
            f"a hook returns a plain tensor of shape {tuple(after.shape)} for masked features of shape "
            f"{tuple(before.shape)}; return one of their shape, or masked features."
        )
    # a copy: the hook may keep its tensor, and padding writes into features where they are hidden
    return before.with_features(after.as_plain() if isinstance(after, Masked) else after.clone())
