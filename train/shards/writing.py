"""Writing shards in parallel, each with an index, and checking them.

A shard with its index is done, the others are written again. Checked are sizes, checksums, counts, and that every
sample can be read.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from pytorch_lightning.utilities import rank_zero_warn
from rich.progress import Progress
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.base import EncodedSample, StoredSample, encode_png
from maskrobust.train.data.files.image_files import decode_image, decode_mask, shrinking_view, size_of
from maskrobust.train.data.loading import call_in_processes
from maskrobust.train.data.shards.format import (
    MANIFEST,
    SHUFFLE_SEED,
    Manifest,
    ObjectTable,
    ShardRecord,
    SplitRecord,
    order_keys,
    read_manifest,
    read_objects,
    sha256_of,
    shard_name,
    write_shard,
)
from maskrobust.train.data.shards.reader import ShardReader
from maskrobust.train.shards import ShardsConfig
from maskrobust.train.storage.files import write_json, write_text
from maskrobust.train.types import AnnotatedDataModule, Split

Item = TypeVar("Item")

SETTINGS = "settings.json"
"""The file that says what decides the shards of a folder."""

JPEG_QUALITY = 95
"""Of the images that were JPEG files, in Pillow's scale of 0 to 100, colours at half the resolution (4:2:0)."""

_JPEG_START = b"\xff\xd8"


class ShardIndex(ShardRecord):
    """What lies beside a shard, under its name with the suffix "json".

    Attributes:
        made_from: SHA-256 of the samples' states (`StoredSample.state`) when they were written.
    """

    made_from: str


def write_shards(config: ShardsConfig, progress: Progress) -> Manifest:
    """Write every sample of the splits once, in random order, and the manifest when all are there.

    A shard stays as it is where it has the checksum of its index, and its samples have the state that they were made
    from; the others are written again. The same configuration gives the same bytes, whatever the number of processes.

    The order is that of `format.order_keys`. Samples that the data yield one by one, not as a sequence, keep the order
    in which they come, with a warning and without `Manifest.shuffle_seed` where it is another one.

    Args:
        config: what to write.
        progress: told about every shard.

    Raises:
        InputError: the folder holds shards of other data or settings, a split is empty, or a sample cannot be encoded.
    """
    data = config.data
    data.prepare_data()
    settings = {
        "class_names": data.class_names,
        **{name: getattr(config, name) for name in ("source", "samples_per_shard", "resize")},
    }
    _prepare(config.out, json.dumps(settings | {"splits": config.splits}))
    ids: dict[Split, list[Tensor]] = {split: [] for split in config.splits}
    records: dict[Split, list[ShardRecord]] = {split: [] for split in config.splits}
    tasks = {split: progress.add_task(f"writing {split}", total=None) for split in config.splits}

    def calls() -> Iterator[tuple[Any, ...]]:
        for split in config.splits:
            data.setup_split(split)
            samples = data.stored_samples(split)
            progress.update(tasks[split], total=length_hint(samples) or None)
            for number, chunk in enumerate(in_chunks(shuffled(samples), config.samples_per_shard)):
                ids[split].append(torch.tensor([sample.id for sample in chunk]))
                yield split, config.out / shard_name(split, number), chunk, config.resize

    for split, record in call_in_processes(write_or_keep, calls(), config.workers):
        records[split].append(record)
        progress.advance(tasks[split], record.samples)
    empty = [split for split in config.splits if not records[split]]
    if empty:
        raise InputError(f"the split '{empty[0]}' must hold samples, but holds none; leave it out of --splits.")
    by_split = [torch.cat(parts) for parts in ids.values()]
    manifest = Manifest(
        **settings,
        mean=data.mean,
        std=data.std,
        splits={split: SplitRecord(shards=tuple(shards)) for split, shards in records.items()},
        objects=ObjectTable.of((each, data.object_of(each)) for each in by_split).write(config.out),
        shuffle_seed=_shuffle_seed(data, by_split),
    )
    for path in {*config.out.glob("*.tar")} - {config.out / each.name for each in chain(*records.values())}:
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
    write_json(config.out / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _shuffle_seed(data: AnnotatedDataModule, by_split: Sequence[Tensor]) -> int | None:
    """That of the order in which the ids of each split were written; None, with a warning, for another order."""
    if all(bool((order_keys(each).diff() >= 0).all()) for each in by_split):
        return SHUFFLE_SEED
    rank_zero_warn(
        f"the stored_samples of {type(data).__name__} must return a sequence to be written in random order, but it "
        "yields them one by one, so the shards keep their order; change it, and write the shards again."
    )
    return None


def shuffled(samples: Iterable[StoredSample]) -> Iterable[StoredSample]:
    """A sequence of samples in the order of `order_keys`; anything else as it is."""
    if not isinstance(samples, Sequence):
        return samples
    order = order_keys(torch.tensor([sample.id for sample in samples], dtype=torch.int64)).argsort()
    return (samples[place] for place in order.tolist())


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in lists of `size`; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def write_or_keep(
    split: Split, path: Path, samples: list[StoredSample], shorter_side: int | None
) -> tuple[Split, ShardRecord]:
    """Write a shard and its index, unless both are there, and made from the same samples.

    Args:
        split: handed back with the record.
        path: of the shard.
        samples: to encode, in order.
        shorter_side: that larger images are reduced to, in pixels; None to store them as they are.

    Raises:
        InputError: a sample cannot be read or encoded, or an id comes twice.
    """
    states = hashlib.sha256()
    for sample in samples:
        states.update(hashlib.sha256(sample.state()).digest())
    made_from, index = states.hexdigest(), path.with_suffix(".json")
    try:
        known = ShardIndex.model_validate_json(index.read_bytes())
        if known.made_from == made_from and known.sha256 == sha256_of(path):
            return split, known
    except (FileNotFoundError, ValidationError):
        pass  # nothing that is done
    encoded = (
        sample.encode() if shorter_side is None else shrink(sample.encode(), shorter_side, sample.name)
        for sample in samples
    )
    record = write_shard(path, encoded)
    write_json(index, record.model_dump() | {"made_from": made_from})
    return split, record


def _prepare(folder: Path, settings: str) -> None:
    """Note the settings, and delete what a killed run had not finished, and the manifest until all shards are there.

    Raises:
        InputError: the folder holds shards of other settings, or that somebody else has written.
    """
    path = folder / SETTINGS
    if any(folder.glob("*.tar")) and not (path.is_file() and path.read_text(encoding="utf-8") == settings):
        raise InputError(
            f"'{folder}' holds shards of other data or settings; choose another --out, or delete it to write them anew."
        )
    write_text(path, settings)
    for leftover in (folder / MANIFEST, *folder.glob(".*.tar.*"), *folder.glob(".*.json.*")):
        leftover.unlink(missing_ok=True)


def shrink(sample: EncodedSample, shorter_side: int, name: str) -> EncodedSample:
    """A sample whose image and object mask have `shorter_side` pixels on their shorter side.

    Images are resized by the antialiased bilinear filter of `image_files.evaluation_view`, masks to the nearest pixel;
    an object of which no pixel is left has no mask. A JPEG becomes one of `JPEG_QUALITY`, anything else a PNG of 8 bits
    for each colour, and both are turned as their EXIF orientation said.

    Args:
        sample: to be reduced; one that is no larger is returned as it is.
        shorter_side: in pixels, at least 1.
        name: of the image, for messages.

    Raises:
        InputError: the image is none that can be read whole.
    """
    if min(size_of(sample.image, name)) <= shorter_side:
        return sample
    image = decode_image(sample.image, name)
    stored_mask = sample.object_mask
    nothing = torch.zeros_like(image[:1], dtype=torch.bool)
    small, small_mask = shrinking_view(shorter_side)(
        image, nothing if stored_mask is None else decode_mask(stored_mask, "binary", name)
    )
    is_jpeg = sample.image.startswith(_JPEG_START)
    return sample._replace(
        image=_encode_jpeg(small) if is_jpeg else encode_png(small.permute(1, 2, 0).numpy()),
        suffix="jpg" if is_jpeg else "png",
        object_mask=encode_png(small_mask[0].numpy()) if small_mask.any() else None,
    )


def _encode_jpeg(image: Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "jpeg", quality=JPEG_QUALITY)
    return stream.getvalue()


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
