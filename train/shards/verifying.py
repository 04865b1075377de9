"""Checking shards: sizes, checksums, counts, and that every sample can be read."""

import os
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from maskrobust.errors import InputError
from maskrobust.train.data.loading import call_in_processes
from maskrobust.train.data.shards.format import ShardRecord, sha256_of
from maskrobust.train.data.shards.manifest import Manifest, read_manifest, read_objects
from maskrobust.train.data.shards.reader import ShardReader


def verify_shards(folder: Path, progress: Progress) -> tuple[Manifest, list[str]]:
    """Compare the shards of a folder with its manifest, and read every sample.

    Args:
        folder: of the shards.
        progress: told about every shard.

    Returns:
        The manifest, and a sentence on what is wrong, for each place where something is.

    Raises:
        InputError: the manifest cannot be read.
    """
    manifest = read_manifest(str(folder))
    shards = [*chain.from_iterable(record.shards for record in manifest.splits.values())]
    task = progress.add_task("verifying", total=manifest.samples)
    calls = ((folder, record, len(manifest.class_names)) for record in shards)
    found = call_in_processes(verify_shard, calls, min(os.cpu_count() or 1, len(shards)))
    problems, ids = [], []
    for record, (problem, its_ids) in zip(shards, found, strict=True):
        problems += [problem] if problem else []
        ids.append(its_ids)
        progress.advance(task, record.samples)
    try:
        read_objects(str(folder), manifest.objects, manifest.samples)
    except InputError as error:
        problems.append(str(error))
    known, times = np.unique(np.concatenate(ids), return_counts=True)
    if (times > 1).any():
        problems.append(f"{(times > 1).sum()} ids come more than once, {known[times > 1][0]} among them")
    return manifest, problems


def verify_shard(folder: Path, record: ShardRecord, num_classes: int) -> tuple[str | None, NDArray[np.int64]]:
    """The first thing that is wrong with a shard, None for nothing, and the ids (N,) of the samples before it.

    Args:
        folder: of the shard.
        record: what the manifest says of it.
        num_classes: labels must lie in [0, num_classes).
    """
    reader, path = ShardReader(str(folder), num_classes), folder / record.name
    ids, masks, problem = [], 0, None
    try:
        for encoded in reader.encoded(record):
            ids.append(int(reader.decode(record, encoded).ids))
            masks += encoded.mask_file is not None
        if (masks, path.stat().st_size, sha256_of(path)) != (record.masks, record.bytes, record.sha256):
            problem = f"'{record.name}' must have {record.masks} masks, {record.bytes} bytes and the checksum of the "
            problem += "manifest, but has not"
    except InputError as error:
        problem = str(error)
    return problem, np.array(ids, dtype=np.int64)
