"""Writing shards in parallel, each atomically, so that a killed run resumes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning.utilities import rank_zero_warn
from rich.progress import Progress, TaskID
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import (
    SHUFFLE_SEED,
    ShardRecord,
    order_keys,
    sha256_of,
    shard_name,
    write_shard,
)
from maskrobust.train.data.shards.manifest import Manifest
from maskrobust.train.data.shards.objects import ObjectTable
from maskrobust.train.data.stored import StoredSample
from maskrobust.train.shards.config import ShardsConfig
from maskrobust.train.shards.journal import Journal
from maskrobust.train.shards.processes import call_in_processes
from maskrobust.train.shards.shrinking import shrink
from maskrobust.train.types import Split

Item = TypeVar("Item")


def write_shards(config: ShardsConfig, progress: Progress) -> Manifest:
    """Write every sample of the splits once, in random order, and the manifest when all are there.

    Shards that an earlier run wrote stay as they are where they have their checksum, and the samples that belong there
    have the state that they were made from; the others are written again. The same configuration gives the same bytes,
    whatever the number of processes.

    The order is that of `shard_format.order_keys`. Samples that the data yield one by one, not as a sequence, keep the
    order in which they come, with a warning and without `Manifest.shuffle_seed` where it is another one.

    Args:
        config: what to write.
        progress: told about every shard.

    Raises:
        InputError: the folder holds shards of other data or settings, a split is empty, or a sample cannot be encoded.
    """
    data = config.data
    data.prepare_data()
    nothing: dict[Split, tuple[ShardRecord, ...]] = {split: () for split in config.splits}
    settings = Manifest(
        data.class_names, data.mean, data.std, config.source, config.samples_per_shard, nothing, config.resize
    )
    journal = Journal(config.out, settings)
    _remove_leftovers(config.out)
    ids: dict[Split, list[Tensor]] = {split: [] for split in config.splits}
    calls = chain.from_iterable(_calls(config, split, journal, ids[split], progress) for split in config.splits)
    records: dict[Split, list[ShardRecord]] = {split: [] for split in config.splits}
    with closing(call_in_processes(write_or_keep, calls, config.workers)) as written:  # stopped, it begins no more
        for split, task, record in written:
            journal.note(record)
            records[split].append(record)
            progress.advance(task, record.samples)
    empty = [split for split in config.splits if not records[split]]
    if empty:
        raise InputError(f"the split '{empty[0]}' must hold samples, but holds none; leave it out of --splits.")
    by_split = [torch.cat(parts) for parts in ids.values()]
    is_shuffled = all(bool((order_keys(each).diff() >= 0).all()) for each in by_split)
    if not is_shuffled:
        rank_zero_warn(
            f"the stored_samples of {type(data).__name__} must return a sequence to be written in random order, but it "
            "yields them one by one, so the shards keep their order; change it, and write the shards again."
        )
    objects = ObjectTable.of((each, data.object_of(each)) for each in by_split)
    shards = {split: tuple(records[split]) for split in config.splits}
    return journal.finish(shards, objects, SHUFFLE_SEED if is_shuffled else None)


def _calls(
    config: ShardsConfig, split: Split, journal: Journal, ids: list[Tensor], progress: Progress
) -> Iterator[tuple[Any, ...]]:
    """The arguments of `write_or_keep` for each shard of a split; the ids of its samples join `ids`."""
    config.data.setup_split(split)
    samples = config.data.stored_samples(split)
    task = progress.add_task(f"writing {split}", total=length_hint(samples) or None)
    for number, chunk in enumerate(in_chunks(shuffled(samples), config.samples_per_shard)):
        ids.append(torch.tensor([sample.id for sample in chunk]))
        path = config.out / shard_name(split, number)
        yield split, task, path, chunk, journal.known(path.name), config.resize


def shuffled(samples: Iterable[StoredSample]) -> Iterable[StoredSample]:
    """A sequence of samples in the order of `order_keys`; anything else as it is."""
    if not isinstance(samples, Sequence):
        return samples
    order = order_keys(torch.tensor([sample.id for sample in samples], dtype=torch.int64)).argsort()
    return (samples[place] for place in order.tolist())


def write_or_keep(
    split: Split,
    task: TaskID,
    path: Path,
    samples: list[StoredSample],
    known: ShardRecord | None,
    shorter_side: int | None,
) -> tuple[Split, TaskID, ShardRecord]:
    """Write a shard, unless it is there as it is known to be, and made from the same samples.

    Args:
        split: handed back with the result.
        task: handed back, too.
        path: of the shard.
        samples: to encode.
        known: what was written there earlier; None for nothing.
        shorter_side: that larger images are reduced to, in pixels; None to store them as they are.

    Raises:
        InputError: a sample cannot be read or encoded, or an id comes twice.
    """
    states = hashlib.sha256()
    for sample in samples:
        states.update(hashlib.sha256(sample.state()).digest())
    made_from = states.hexdigest()
    if known is not None and known.made_from == made_from and path.is_file() and sha256_of(path) == known.sha256:
        return split, task, known
    encoded = (
        sample.encode() if shorter_side is None else shrink(sample.encode(), shorter_side, sample.name)
        for sample in samples
    )
    return split, task, write_shard(path, encoded)._replace(made_from=made_from)


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed run had not finished; see `files.atomic_path`."""
    for path in folder.glob(".*.tar.*"):
        path.unlink(missing_ok=True)
