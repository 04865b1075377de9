"""Forward passes that keep in step, so that batch norm in one of them can take the statistics of all."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from maskrobust.lm_modules.masking.table import UnsupportedNetworkError

_REMEDY = "give the images of each size to the network in a batch of their own, or set its batch norm to eval()."


class _CalledOff(BaseException):
    """Ends a pass, because another one has failed."""


class Step(threading.Thread):
    """One of several passes, of which one at a time computes, always in the same order.

    Each has a thread of its own: nothing else in Python holds the forward of a network in the middle.

    Attributes:
        is_over: whether it has returned, or failed.
        output: what it has returned.
        error: that it has raised; None for none.
    """

    def __init__(self, compute: Callable[["Step"], Any]) -> None:
        super().__init__(daemon=True)
        self._compute, self._modes = compute, _modes()
        self._turn, self._pause = threading.Semaphore(0), threading.Semaphore(0)
        self._all: list[Step] = []
        self._value: Any = None
        self.is_over, self.is_called_off = False, False
        self.output: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """The pass, in its own thread."""
        self._turn.acquire()
        try:
            if not self.is_called_off:
                with _in_modes(*self._modes):
                    self.output = self._compute(self)
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._pause.release()

    def go_on(self) -> None:
        """Compute up to the next meeting, or to the end."""
        self._turn.release()
        self._pause.acquire()

    def meet(self, given: Any, join: Callable[[list[Any]], Sequence[Any]]) -> Any:
        """Wait for what the other passes give, and take this one's of what is computed from all that they give.

        Raises:
            NotImplementedError: the passes are not computed in step.
        """
        if threading.current_thread() is not self:
            raise NotImplementedError(
                "layer masking takes the statistics of batches of several sizes in training mode alone, and not where "
                f"a checkpoint computes the images of one size again; {_REMEDY}"
            )
        self._value = given
        self._pause.release()
        self._turn.acquire()
        if self.is_called_off:
            raise _CalledOff
        if self is self._all[0]:
            for each, value in zip(self._all, join([each._value for each in self._all]), strict=True):
                each._value = value
        value, self._value = self._value, None
        return value


def in_step(passes: Sequence[Callable[[Step], Any]]) -> list[Any]:
    """What several passes return that meet each other equally often.

    Raises:
        UnsupportedNetworkError: one is over when others meet.
    """
    steps = [Step(each) for each in passes]
    for each in steps:
        each._all = steps
        each.start()
    try:
        while not all(each.is_over for each in steps):
            for each in steps:
                each.go_on()
                if each.error is not None:
                    raise each.error
            if len({each.is_over for each in steps}) > 1:
                raise UnsupportedNetworkError(
                    "layer masking needs networks that call batch norm equally often for images of all sizes, but this "
                    f"one does not; {_REMEDY}"
                )
        return [each.output for each in steps]
    finally:
        for each in steps:
            each._all = []
            if not each.is_over:
                each.is_called_off = True
                each.go_on()


def _modes() -> tuple[Any, ...]:
    """What a new thread does not take over from the one that starts it."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    casts = {kind: torch.get_autocast_dtype(kind) for kind in kinds}
    stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), casts, stream


@contextmanager
def _in_modes(inference: bool, records: bool, casts: dict[str, torch.dtype], stream: Any) -> Iterator[None]:
    with ExitStack() as stack:
        if stream is not None:
            stack.enter_context(torch.cuda.stream(stream))
        for kind, dtype in casts.items():
            stack.enter_context(torch.autocast(kind, dtype))
        stack.enter_context(torch.inference_mode(inference))
        stack.enter_context(torch.set_grad_enabled(records))
        yield
