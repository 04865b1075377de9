"""Writing shards in parallel, so that each is there whole or not at all, and a killed run goes on."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.manifest import Manifest
from maskrobust.train.data.shard_format import ShardRecord, holds_samples, sha256_of, shard_name, write_shard
from maskrobust.train.data.shard_objects import ObjectTable
from maskrobust.train.data.stored import StoredSample
from maskrobust.train.shards.config import ShardsConfig
from maskrobust.train.shards.journal import Journal
from maskrobust.train.shards.processes import call_in_processes
from maskrobust.train.shards.shrinking import shrink
from maskrobust.train.types import Split

Item = TypeVar("Item")


def write_shards(config: ShardsConfig, progress: Progress) -> Manifest:
    """Write every sample of the splits once, and the manifest when all are there.

    Shards that an earlier run wrote, and that still have their checksum, stay as they are; they must hold what the data
    have in their place, for other shards would otherwise repeat or miss samples. The same configuration gives the same
    bytes, whatever the number of processes.

    Args:
        config: what to write.
        progress: told about every shard.

    Raises:
        InputError: the folder holds shards of something else, or of samples that are no longer those of the data; or a
            sample cannot be encoded.
    """
    data = config.data
    data.prepare_data()
    nothing: dict[Split, tuple[ShardRecord, ...]] = {split: () for split in config.splits}
    settings = Manifest(
        data.class_names, data.mean, data.std, config.source, config.samples_per_shard, nothing, config.resize
    )
    journal = Journal(config.out, settings)
    _remove_leftovers(config.out)
    objects: list[tuple[Tensor, Tensor]] = []
    calls = chain.from_iterable(_calls(config, split, journal, objects, progress) for split in config.splits)
    records: dict[Split, list[ShardRecord]] = {split: [] for split in config.splits}
    with closing(call_in_processes(write_or_keep, calls, config.workers)) as written:  # stopped, it begins no more
        for split, task, record in written:
            journal.note(record)
            records[split].append(record)
            progress.advance(task, record.samples)
    empty = [split for split in config.splits if not records[split]]
    if empty:
        raise InputError(f"the split '{empty[0]}' must hold samples, but holds none; leave it out of --splits.")
    for split in config.splits:
        behind = config.out / shard_name(split, len(records[split]))
        if journal.known(behind.name) is not None:
            raise _changed(behind)
    return journal.finish({split: tuple(records[split]) for split in config.splits}, ObjectTable.of(objects))


def _calls(
    config: ShardsConfig, split: Split, journal: Journal, objects: list[tuple[Tensor, Tensor]], progress: Progress
) -> Iterator[tuple[Any, ...]]:
    """The arguments of `write_or_keep` for each shard of a split; ids and objects of its samples join `objects`."""
    config.data.setup_split(split)
    samples = config.data.stored_samples(split)
    task = progress.add_task(f"writing {split}", total=length_hint(samples) or None)
    for number, chunk in enumerate(in_chunks(samples, config.samples_per_shard)):
        ids = torch.tensor([sample.id for sample in chunk])
        objects.append((ids, config.data.object_of(ids)))
        path = config.out / shard_name(split, number)
        yield split, task, path, chunk, journal.known(path.name), config.resize


def write_or_keep(
    split: Split,
    task: TaskID,
    path: Path,
    samples: list[StoredSample],
    known: ShardRecord | None,
    shorter_side: int | None,
) -> tuple[Split, TaskID, ShardRecord]:
    """Write a shard, unless it is there with the checksum that it is known to have.

    Args:
        split: handed back with the result.
        task: handed back, too.
        path: of the shard.
        samples: to encode.
        known: what was written there earlier; None for nothing.
        shorter_side: that larger images are reduced to, in pixels; None to store them as they are.

    Raises:
        InputError: a sample cannot be encoded, an id comes twice, or the shard holds other samples.
    """
    if known is not None and path.is_file() and sha256_of(path) == known.sha256:
        if not holds_samples(path, samples):
            raise _changed(path)
        return split, task, known
    encoded = (
        sample.encode() if shorter_side is None else shrink(sample.encode(), shorter_side, sample.name)
        for sample in samples
    )
    return split, task, write_shard(path, encoded)


def _changed(path: Path) -> InputError:
    return InputError(
        f"'{path}' must hold the samples that the data have in its place, but images were added, removed or given "
        f"another class since it was written; put them back, or delete '{path.parent}' to write all shards anew."
    )


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed run had not finished; see `files.atomic_path`."""
    for path in folder.glob(".*.tar.*"):
        path.unlink(missing_ok=True)
