"""Counting how often Python waits for an accelerator, for which tensors on "meta" stand."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_COPIES = ("to", "cuda", "copy_")
_MADE_ON_THE_HOST = ("tensor", "as_tensor", "new_tensor")
_ANSWERS = {"__bool__": False, "is_nonzero": False, "item": 0, "__int__": 0, "__float__": 0.0, "tolist": []}


class Waits(TorchFunctionMode):
    """Notes, as "function that asks: operation", each wait that can be answered; any other one is an error of torch's.

    Copies from the host are waits unless they are `non_blocking`; a copy to it holds ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, options = getattr(func, "__name__", ""), dict(kwargs or {})
        asked = isinstance(args[0], Tensor) and args[0].is_meta if args else False
        if asked and name in _ANSWERS:
            self._note(name)
            return _ANSWERS[name]
        if asked and name == "cpu":
            self._note(name)
            return torch.ones_like(args[0], device="cpu")
        result = func(*args, **options)
        if isinstance(result, Tensor) and result.is_meta:
            is_copy = name in _COPIES and not asked and not options.get("non_blocking")
            if is_copy or name in _MADE_ON_THE_HOST:
                self._note(name)
        return result

    def _note(self, name: str) -> None:
        frame = sys._getframe(2)
        while "site-packages" in frame.f_code.co_filename and frame.f_back is not None:
            frame = frame.f_back
        self.found.append(f"{frame.f_code.co_name}: {name}")
