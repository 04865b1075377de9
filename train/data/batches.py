"""Some of the batches of a split."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from maskrobust.augment import Batch
from maskrobust.train.data.shard_streams import WholeStream

Item = TypeVar("Item")


def numbered_batches(batches: Iterable[Batch], numbers: range) -> Iterator[tuple[int, Batch]]:
    """Some of the batches of a split, each with its number and as it is among all of them.

    A `DataLoader` with a map-style data set does not read the others. Of shards they are read, but not decoded.

    Args:
        batches: batches as `AnnotatedDataModule.whole_split` returns them.
        numbers: numbers of the batches that are wanted, ascending from 0, as far as there are any.
    """
    if not isinstance(batches, DataLoader):
        return at_numbers(batches, numbers)
    kept = ("num_workers", "collate_fn", "pin_memory", "worker_init_fn")
    options: dict[str, Any] = {name: getattr(batches, name) for name in kept}
    if isinstance(batches.dataset, WholeStream):
        return iter(DataLoader(replace(batches.dataset, numbers=numbers), batch_size=None, **options))
    if batches.batch_sampler is None:
        return at_numbers(batches, numbers)
    wanted = [*at_numbers(batches.batch_sampler, numbers)]
    found, indices = [number for number, _ in wanted], [entry for _, entry in wanted]
    return zip(found, DataLoader(batches.dataset, batch_sampler=indices, **options), strict=True)


def at_numbers(entries: Iterable[Item], numbers: range) -> Iterator[tuple[int, Item]]:
    """Pairs of wanted numbers and the entries at them."""
    return ((number, entry) for number, entry in enumerate(islice(entries, numbers.stop)) if number in numbers)
