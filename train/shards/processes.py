"""Calls in other processes, with a bounded number under way."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from torch.utils.data import Dataset

from maskrobust.train.data.base import as_fetched
from maskrobust.train.data.loading import Loader, loading_options

Result = TypeVar("Result")


class _Calls(Dataset[Result]):
    """The result of a function at each of its arguments."""

    def __init__(self, function: Callable[..., Result]) -> None:
        self.function = function

    def __getitem__(self, arguments: tuple[Any, ...]) -> Result:
        return self.function(*arguments)


def call_in_processes(
    function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Result]:
    """The results of calls, in the order of their arguments.

    Args:
        function: of a module, so that another process can import it.
        arguments: of each call; taken as calls finish, so that about 2 x `workers` are in memory.
        workers: processes, at least 1; a single one is this process.
    """
    options = loading_options(workers if workers > 1 else 0) | {"pin_memory": False}
    yield from Loader(_Calls(function), batch_size=None, sampler=arguments, collate_fn=as_fetched, **options)
