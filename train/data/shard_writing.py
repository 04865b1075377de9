"""Write WebDataset's tar files from image files."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from webdataset.writer import TarWriter

from maskrobust.augment.random import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.files.file_data import FileDataModule, read_mask_of
from maskrobust.train.data.files.image_files import ImageFile, read_file
from maskrobust.train.data.files.reading import place_of
from maskrobust.train.data_options import Split
from maskrobust.train.storage.files import atomic_path, read_json, write_json, write_text
from maskrobust.train.storage.provenance import fingerprint

_VISIBLE = "visible.png"
"""Suffix of the masks that files beside the images say; what pixels say themselves is read again."""


def write_shards(
    data: FileDataModule, out: Path, samples_per_shard: int, source: Mapping[str, Any], progress: Progress
) -> dict[Split, int]:
    """Write every sample of all splits once, in an order that follows from their ids, and shards.yaml to read them.

    Image files are kept as they are. A second call writes the shards that are missing; none has its name before it is
    whole.

    Args:
        data: whose files are written.
        out: folder of the shards.
        samples_per_shard: samples in a shard, but for the last of a split.
        source: what the data are made from, as plain values.
        progress: told about every shard.

    Returns:
        The number of samples in each split.

    Raises:
        InputError: the folder holds shards of something else, or a file cannot be read.
    """
    data.prepare_data()
    files: dict[Split, list[ImageFile]] = {}
    for split in data.splits:
        data.setup_split(split)
        found = data.files(split)
        order = sample_keys(0, torch.tensor([file.id for file in found])).argsort()
        files[split] = [found[place] for place in order.tolist()]
    ids = {split: fingerprint([file.id for file in of_split]) for split, of_split in files.items()}
    settings = json.loads(json.dumps({**source, "samples_per_shard": samples_per_shard, "ids": ids}, default=str))
    record = out / "settings.json"
    if (read_json(record) if record.exists() else settings if not any(out.glob("*.tar")) else None) != settings:
        raise InputError(f"'{out}' holds shards of other files or settings; choose another --out, or delete them.")
    write_json(record, settings)
    for unfinished in out.glob(".*.tar.*"):  # of a call that was killed
        unfinished.unlink()
    described: dict[str, Any] = {"train_samples": len(files["train"])} if "train" in files else {}
    for split, of_split in files.items():
        shards = math.ceil(len(of_split) / samples_per_shard)
        for number in progress.track(range(shards), description=f"writing shards of {split}"):
            path, first = out / f"{split}-{number:06d}.tar", number * samples_per_shard
            if not path.exists():
                _write(path, of_split[first : first + samples_per_shard], data)
        described[split] = f"{out}/{split}-{{000000..{shards - 1:06d}}}.tar"
    described |= {"classes": [*data.class_names], "mean": [*data.mean], "std": [*data.std], **data.read_as}
    if data.reading.beside_files:
        described["visible"] = _VISIBLE
    content = {"data": {"class_path": "Shards", "init_args": described}}
    write_text(out / "shards.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return {split: len(of_split) for split, of_split in files.items()}


def _write(path: Path, files: Sequence[ImageFile], data: FileDataModule) -> None:
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as stream,
        TarWriter(stream, encoder=False, user="", group="", mtime=0) as tar,  # the same bytes at any time
    ):
        for file in files:
            tar.write(_parts(file, data))


def _parts(file: ImageFile, data: FileDataModule) -> dict[str, Any]:
    """The files of a sample by their suffix, and its key."""
    content = read_file(file.image)
    *_, height, width = data.reading.check(file.image, place_of(file, data.root))
    about = {"id": file.id, "height": height, "width": width}
    parts = {"__key__": f"{file.id:019d}", file.image.suffix.lower()[1:]: content, "json": json.dumps(about).encode()}
    if file.label >= 0:
        parts["cls"] = f"{file.label}".encode()
    if (object_mask := read_mask_of(file, data.mask_code, (height, width))) is not None:
        parts["mask.png"] = _as_png(object_mask)
    if data.reading.beside_files:
        (beside,) = data.reading.beside
        parts[_VISIBLE] = _as_png(beside.visible(place_of(file, data.root), (height, width)))
    return parts


def _as_png(mask: Tensor) -> bytes:
    """A mask (1, H, W) bool, white where True."""
    encoded = io.BytesIO()
    Image.fromarray(mask[0].numpy()).save(encoded, "png")
    return encoded.getvalue()
