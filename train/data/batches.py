"""Batches of one split, on a device, and its empty scenes."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from maskrobust.augment import Batch
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.loading import Loader
from maskrobust.train.data.shard_streams import EvaluationLoader
from maskrobust.train.types import Split

Item = TypeVar("Item")


def numbered_batches(batches: Iterable[Batch], numbers: Iterator[int]) -> Iterator[tuple[int, Batch]]:
    """Some of the batches of a split, each as it is among all of them; a `DataLoader` does not read the others.

    That is one with a map-style data set. Of shards the samples of other batches are read, but not decoded.

    Args:
        batches: batches as `AnnotatedDataModule.whole_split` returns them.
        numbers: numbers of the batches that are wanted, ascending from 0; may be endless.

    Returns:
        Each with its number, ascending.
    """
    if isinstance(batches, EvaluationLoader):
        return batches.numbered(numbers)
    if not isinstance(batches, DataLoader) or batches.batch_sampler is None:
        return at_numbers(batches, numbers)
    wanted = [*at_numbers(batches.batch_sampler, numbers)]
    found, indices = [number for number, _ in wanted], [entry for _, entry in wanted]
    kept = ("num_workers", "collate_fn", "pin_memory", "worker_init_fn")
    options: dict[str, Any] = {name: getattr(batches, name) for name in kept}
    return zip(found, Loader(batches.dataset, batch_sampler=indices, **options), strict=True)


def at_numbers(entries: Iterable[Item], numbers: Iterator[int]) -> Iterator[tuple[int, Item]]:
    """Pairs of ascending numbers and the entries at them; entries after the last one are not read."""
    wanted = next(numbers, None)
    for number, entry in enumerate(entries if wanted is not None else ()):
        if number == wanted:
            yield number, entry
            wanted = next(numbers, None)
            if wanted is None:
                return


def batches_on(batches: Iterable[Batch], device: torch.device | str) -> Iterator[Batch]:
    """The batches, moved to a device, with images in [0, 1]; see `Batch.to`."""
    for batch in batches:
        yield batch.to(device)


def scenes_to_ask_about(
    data: AnnotatedDataModule, split: Split, plans: Iterable[ReliancePlan], device: torch.device
) -> EmptyScenes | None:
    """As many empty scenes as any plan asks about, on a device; None where no plan does or there are none.

    Args:
        data: whose scenes do not wait for `setup`.
        split: split of the images.
        plans: what networks are asked.
        device: the device that the networks are on.
    """
    count = max(plan.scenes for plan in plans)
    found = data.empty_scenes(split, count) if count else None
    return None if found is None else found._replace(images=found.images.to(device))
