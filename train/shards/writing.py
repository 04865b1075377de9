"""Write shards: several processes encode samples, which WebDataset's writer stores in random order."""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from webdataset.writer import ShardWriter

from maskrobust.augment.random import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.base import EncodedSample, StoredSample, encode_png
from maskrobust.train.data.files.image_files import decode_image, decode_mask, shrinking_view, size_of
from maskrobust.train.data.loading import call_in_processes
from maskrobust.train.data.shards.format import KEY_DIGITS, LABEL_SUFFIX, MANIFEST, MASK_SUFFIX, Manifest, ShardRecord
from maskrobust.train.shards import ShardsConfig
from maskrobust.train.storage.files import write_json
from maskrobust.train.types import Split

JPEG_QUALITY = 95
"""Quality of reduced JPEG images, from 0 to 100 as in Pillow, with colours at half the resolution (4:2:0)."""

_JPEG_START = b"\xff\xd8"
_MOST_OBJECTS = 500_000  # whose numbers the manifest holds, which is read up to 32 MiB


def write_shards(config: ShardsConfig, progress: Progress) -> Manifest:
    """Write every sample of the splits once, in random order, and the manifest when all are there.

    The same configuration gives the same bytes, whatever the number of processes.

    Args:
        config: what to write.
        progress: told about every sample.

    Raises:
        InputError: the folder holds shards, a split is empty, an id comes twice, too many samples share an object, some
            samples alone have no label, or a sample cannot be encoded.
    """
    data = config.data
    if any(config.out.glob("*.tar")) or (config.out / MANIFEST).exists():
        raise InputError(f"'{config.out}' holds shards; choose another --out, or delete them to write them anew.")
    data.prepare_data()
    config.out.mkdir(parents=True, exist_ok=True)
    splits: dict[Split, tuple[ShardRecord, ...]] = {}
    objects: dict[int, int] = {}
    seen: set[int] = set()
    for split in config.splits:
        data.setup_split(split)
        samples = in_random_order(data.stored_samples(split))
        if not samples:
            raise InputError(f"the split '{split}' must hold samples, but holds none; leave it out of --splits.")
        ids = [sample.id for sample in samples]
        if len(seen | {*ids}) < len(seen) + len(ids):
            twice = next(each for each, times in Counter([*seen, *ids]).items() if times > 1)
            raise InputError(f"ids must be unique over all splits, got {twice} twice; correct the data.")
        seen.update(ids)
        shown = data.object_of(torch.tensor(ids)).tolist()
        objects |= {each: shows for each, shows in zip(ids, shown, strict=True) if each != shows}
        if len(objects) > _MOST_OBJECTS:
            raise InputError(
                f"shards may hold {_MOST_OBJECTS} samples that share an object with others, got {len(objects)}; write "
                "each split into an --out of its own."
            )
        calls = ((sample, config.resize) for sample in samples)
        encoded = progress.track(
            call_in_processes(encode, calls, config.workers), total=len(samples), description=f"writing {split}"
        )
        splits[split] = tuple(_write(config, split, encoded))
    manifest = Manifest(
        class_names=data.class_names,
        mean=data.mean,
        std=data.std,
        source={**config.source, "resize": config.resize},
        splits=splits,
        objects=objects,
    )
    write_json(config.out / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def in_random_order(samples: Iterable[StoredSample]) -> list[StoredSample]:
    """Samples in an order that follows from their ids alone, so that each shard holds all classes."""
    found = [*samples]
    order = sample_keys(0, torch.tensor([sample.id for sample in found], dtype=torch.int64)).argsort()
    return [found[place] for place in order.tolist()]


def encode(sample: StoredSample, shorter_side: int | None) -> EncodedSample:
    """A sample in the form of files, reduced to a shorter side in pixels; None to store them as they are."""
    return sample.encode() if shorter_side is None else shrink(sample.encode(), shorter_side, sample.name)


def files_of(sample: EncodedSample) -> dict[str, Any]:
    """The files of a sample by their suffix, and its key, as WebDataset's writers take them."""
    about = {"id": sample.id, "label": sample.label, "mask": sample.object_mask is not None}
    mask = {} if sample.object_mask is None else {MASK_SUFFIX: sample.object_mask}
    key = {"__key__": f"{sample.id:0{KEY_DIGITS}d}"}
    return {**key, LABEL_SUFFIX: json.dumps(about).encode(), sample.suffix: sample.image, **mask}


def _write(config: ShardsConfig, split: Split, samples: Iterable[EncodedSample]) -> Iterator[ShardRecord]:
    pattern = f"{str(config.out).replace('%', '%%')}/{split}-%06d.tar"
    of_nobody: dict[str, Any] = {"user": "", "group": "", "mtime": 0}  # the same bytes at any time
    counted: Counter[tuple[int, bool]] = Counter()
    with ShardWriter(
        pattern, config.samples_per_shard, maxsize=math.inf, verbose=0, encoder=False, **of_nobody
    ) as writer:
        for sample in samples:
            if config.data.class_names and sample.label < 0:
                raise InputError(
                    f"shards hold labels for all images or for none, but some of the split '{split}' have none; leave "
                    "it out of --splits."
                )
            writer.write(files_of(sample))
            counted[writer.shard - 1, sample.object_mask is not None] += 1
    for number in range(1 + max(place for place, _ in counted)):
        masks = counted[number, True]
        yield ShardRecord(name=f"{split}-{number:06d}.tar", samples=counted[number, False] + masks, masks=masks)


def shrink(sample: EncodedSample, shorter_side: int, name: str) -> EncodedSample:
    """A sample whose image and object mask have `shorter_side` pixels on their shorter side.

    Images are resized by the antialiased bilinear filter of `image_files.evaluation_view`, masks to the nearest pixel;
    an object of which no pixel is left has no mask. A JPEG becomes one of `JPEG_QUALITY`, anything else a PNG of 8 bits
    for each colour, and both are turned as their EXIF orientation said.

    Args:
        sample: the sample to be reduced; a sample that is no larger is returned as it is.
        shorter_side: length of the shorter side in pixels, at least 1.
        name: what messages call the image.

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
