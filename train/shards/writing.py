"""Write shards: several processes encode samples, which WebDataset's writer stores in random order."""

import json
import math
import os
from collections.abc import Iterable
from operator import methodcaller
from typing import Any

import torch
import yaml
from rich.progress import Progress
from webdataset.writer import ShardWriter

from maskrobust.augment.random import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.base import EncodedSample, StoredSample
from maskrobust.train.data.files.image_files import size_of
from maskrobust.train.data.loading import call_in_processes
from maskrobust.train.shards import ShardsConfig
from maskrobust.train.storage.files import read_json, write_json, write_text
from maskrobust.train.storage.provenance import fingerprint
from maskrobust.train.types import Split

DESCRIPTION, _UNFINISHED, _PART = "shards.yaml", ".unfinished.json", ".part"


def write_shards(config: ShardsConfig, progress: Progress) -> dict[str, int]:
    """Write every sample of the splits once, in random order, and shards.yaml when all are there.

    The same configuration gives the same bytes, whatever the number of processes. A call that was killed is gone on
    with; no shard has its name before it is whole.

    Args:
        config: what to write.
        progress: told about every sample.

    Returns:
        The number of samples in each split.

    Raises:
        InputError: the folder holds other shards, a split is empty, or a sample cannot be encoded.
    """
    data, out = config.data, config.out
    settings = json.loads(json.dumps({**config.source, "samples_per_shard": config.samples_per_shard}, default=str))
    unfinished = out / _UNFINISHED
    noted = read_json(unfinished) if unfinished.exists() else {"settings": settings}
    others = InputError(f"'{out}' holds shards; choose another --out, or delete them to write them anew.")
    if (any(out.glob("*.tar")) and not unfinished.exists()) or noted["settings"] != settings:
        raise others
    data.prepare_data()
    counts: dict[str, int] = {}
    described: dict[str, Any] = {}
    for split in config.splits or data.splits:
        data.setup_split(split)
        samples = in_random_order(data.stored_samples(split))
        if not samples:
            raise InputError(f"the split '{split}' must hold samples, but holds none; leave it out of --splits.")
        ids = fingerprint([sample.id for sample in samples])
        if noted.setdefault(split, ids) != ids:
            raise others
        write_json(unfinished, noted)
        written = len([*out.glob(f"{split}-*.tar")])
        left = samples[written * config.samples_per_shard :]
        encoded = call_in_processes(methodcaller("encode"), ((sample,) for sample in left), config.workers)
        _write(config, split, written, progress.track(encoded, total=len(left), description=f"writing {split}"))
        last = math.ceil(len(samples) / config.samples_per_shard) - 1
        counts[split], described[split] = len(samples), f"{out}/{split}-{{000000..{last:06d}}}.tar"
    if "train" in counts:
        described["train_samples"] = counts["train"]
    described |= {"classes": [*data.class_names], "mean": [*data.mean], "std": [*data.std]}
    content = {"data": {"class_path": "Shards", "init_args": described}}
    write_text(out / DESCRIPTION, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    unfinished.unlink()
    return counts


def in_random_order(samples: Iterable[StoredSample]) -> list[StoredSample]:
    """Samples in an order that follows from their ids alone, so that each shard holds all classes."""
    found = [*samples]
    order = sample_keys(0, torch.tensor([sample.id for sample in found], dtype=torch.int64)).argsort()
    return [found[place] for place in order.tolist()]


def files_of(sample: EncodedSample) -> dict[str, Any]:
    """The files of a sample by their suffix, and its key, as WebDataset's writers take them."""
    height, width = size_of(sample.image, f"image {sample.id}")
    about = {"id": sample.id, "height": height, "width": width}
    files = {"__key__": f"{sample.id:019d}", sample.suffix: sample.image, "json": json.dumps(about).encode()}
    label = {} if sample.label < 0 else {"cls": f"{sample.label}".encode()}
    return files | label | ({} if sample.object_mask is None else {"mask.png": sample.object_mask})


def _write(config: ShardsConfig, split: Split, first: int, samples: Iterable[EncodedSample]) -> None:
    """Write shards from number `first` on, each under another name until it is whole."""
    writer = None
    for sample in samples:
        writer = writer or ShardWriter(
            f"{str(config.out).replace('%', '%%')}/{split}-%06d.tar{_PART}",
            config.samples_per_shard,
            maxsize=math.inf,
            start_shard=first,
            post=lambda path: os.replace(path, path.removesuffix(_PART)),
            verbose=0,
            encoder=False,
            user="",
            group="",
            mtime=0,  # the same bytes at any time
        )
        writer.write(files_of(sample))
    if writer is not None:
        writer.close()
