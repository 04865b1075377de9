"""Checking shards: sizes, checksums, counts, and that every sample can be read."""

import os
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import ShardRecord, sha256_of
from maskrobust.train.data.shards.manifest import Manifest, read_manifest
from maskrobust.train.data.shards.objects import OBJECTS, read_objects
from maskrobust.train.data.shards.reader import Faults, ShardReader
from maskrobust.train.shards.processes import call_in_processes


def verify_shards(folder: Path, progress: Progress) -> tuple[Manifest, dict[str, str]]:
    """Compare the shards of a folder with its manifest, and read every sample.

    Args:
        folder: of the shards.
        progress: told about every shard.

    Returns:
        The manifest, and what is wrong, by place: the name of a shard, or of a shard and a sample's key.

    Raises:
        InputError: the manifest cannot be read.
    """
    manifest = read_manifest(str(folder))
    shards = [(split, record) for split, records in manifest.splits.items() for record in records]
    task = progress.add_task("verifying", total=sum(record.samples for _, record in shards))
    calls = ((folder, record, len(manifest.class_names)) for _, record in shards)
    problems: dict[str, str] = {}
    ids: dict[str, list[NDArray[np.int64]]] = {split: [] for split in manifest.splits}
    with closing(call_in_processes(verify_shard, calls, min(os.cpu_count() or 1, len(shards)))) as results:
        for (split, record), (found, its_ids) in zip(shards, results, strict=True):
            problems |= found
            ids[split].append(its_ids)
            progress.advance(task, record.samples)
    try:
        read_objects(str(folder), manifest.objects, manifest.samples)
    except InputError:
        problems[OBJECTS] = "must have the checksum of the manifest, but has not, or its ids do not ascend"
    for name, parts in ids.items():
        known, times = np.unique(np.concatenate(parts), return_counts=True)
        if (times > 1).any():
            problems[name] = f"holds {(times > 1).sum()} ids more than once, {known[times > 1][0]} among them"
    return manifest, problems


def verify_shard(folder: Path, record: ShardRecord, num_classes: int) -> tuple[dict[str, str], NDArray[np.int64]]:
    """What is wrong with a shard, by place, and the ids (N,) of the samples that can be read.

    Args:
        folder: of the shard.
        record: what the manifest says of it.
        num_classes: labels must lie in [0, num_classes).
    """
    faults = Faults(limit=None)
    reader = ShardReader(str(folder), num_classes, faults)
    ids, masks = [], 0
    for encoded in reader.encoded(record):
        sample = None if encoded is None else reader.decode(record, encoded)
        if sample is not None:
            ids.append(sample.id)
        masks += encoded is not None and encoded.mask_file is not None
    if record.name not in faults.found and masks != record.masks:
        faults.meet(record.name, f"holds {masks} object masks, where the manifest says {record.masks}")
    path = folder / record.name
    if record.name not in faults.found and (path.stat().st_size, sha256_of(path)) != (record.bytes, record.sha256):
        faults.meet(record.name, f"must have {record.bytes} bytes and the checksum of the manifest, but has not")
    return faults.found, np.array(ids, dtype=np.int64)
