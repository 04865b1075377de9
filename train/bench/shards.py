"""Images a second from shards with and without object masks, beside bare WebDataset and torchvision on the images."""

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor
from webdataset.compat import WebDataset

from maskrobust.augment.batch import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.lm_modules.preprocessing import IMAGENET_STD
from maskrobust.train.bench.timing import alternate, median_ratio
from maskrobust.train.data import Shards
from maskrobust.train.data.loading import Loader
from maskrobust.train.data.manifest import MANIFEST, Manifest
from maskrobust.train.data.shard_format import shard_name, write_shard
from maskrobust.train.data.stored import EncodedSample, encode_png
from maskrobust.train.files import write_json

BASELINE = "WebDataset and torchvision, images alone"
ALONE = "Shards, images alone"
OWN = "Shards, images and object masks"

_HEIGHT, _WIDTH = 375, 500  # the most frequent size in ImageNet
_IMAGE_SIZE = 224
_SHARDS = 4
_SHUFFLE_BUFFER = 100


def measure_shards(images: int, batch: int, workers: int, rounds: int) -> Iterator[dict[str, Any]]:
    """One row for each way to load batches of random crops from the same shards, in alternating runs.

    Args:
        images: in a run, at least `batch`; rounded down to whole batches.
        batch: images in a batch.
        workers: loader processes of each.
        rounds: alternating runs behind each number.

    Yields:
        method, images a second (median over rounds), and speed over the baseline's in the same round.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder, images)
        write_photographs(folder / "alone", images, masks=False)
        loaders = {
            BASELINE: bare_loader(folder, batch, workers, images // batch),
            ALONE: shards_loader(folder / "alone", batch, workers),
            OWN: shards_loader(folder, batch, workers),
        }
        runs = {name: partial(_load, loader, images // batch) for name, loader in loaders.items()}
        seconds = alternate(runs, rounds, torch.device("cpu"))
    loaded = images // batch * batch
    for name, times in seconds.items():
        speed = median_ratio(seconds[BASELINE], times)
        yield {"method": name, "images_per_second": loaded / median(times), "speed": speed}


def shards_loader(folder: Path, batch: int, workers: int) -> DataLoader[Batch]:
    """This project's training stream."""
    data = Shards(str(folder), batch_size=batch, num_workers=workers, shuffle_buffer=_SHUFFLE_BUFFER)
    return data.train_dataloader()


def bare_loader(folder: Path, batch: int, workers: int, batches: int) -> DataLoader[Tensor]:
    """WebDataset's own pipeline, torchvision's decoder, and the same crops: images alone.

    As `Shards` does, it reads in processes that stay, and an epoch ends after `batches` or a few more, so that none are
    loaded which nobody waits for.
    """
    urls = sorted(str(path) for path in folder.glob("train-*.tar"))
    view = v2.Compose([v2.RandomResizedCrop(_IMAGE_SIZE), v2.RandomHorizontalFlip()])
    stream = WebDataset(urls, resampled=True, shardshuffle=False).shuffle(_SHUFFLE_BUFFER)
    stream = stream.map(partial(_decode, view)).batched(batch, collation_fn=torch.stack)
    dataset = cast(WebDataset, stream).with_epoch(-(-batches // max(1, workers)))
    return Loader(cast(Dataset[Tensor], dataset), batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def write_photographs(folder: Path, images: int, *, masks: bool = True) -> None:
    """Shards of JPEG files of a common size and weight, each with an object mask unless there are to be none."""
    per_shard = max(1, images // _SHARDS)
    records = []
    for shard in range(_SHARDS):
        drawn = map(_draw, range(shard * per_shard, (shard + 1) * per_shard))
        samples = (sample if masks else sample._replace(object_mask=None) for sample in drawn)
        records.append(write_shard(folder / shard_name("train", shard), samples))
    manifest = Manifest(
        ("a", "b"), IMAGENET_MEAN, IMAGENET_STD, {}, per_shard, {"train": tuple(records)}, shuffle_seed=0
    )
    write_json(folder / MANIFEST, manifest.to_json())


def _draw(number: int) -> EncodedSample:
    """Smooth colours with fine noise, about 90 kB; the object is an ellipse."""
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels = np.clip(pixels + generator.normal(0, 12, (_HEIGHT, _WIDTH, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=88)
    down, across = np.mgrid[-1 : 1 : _HEIGHT * 1j, -1 : 1 : _WIDTH * 1j]
    inside = (down / generator.uniform(0.3, 0.9)) ** 2 + (across / generator.uniform(0.3, 0.9)) ** 2 < 1
    return EncodedSample(number, stream.getvalue(), "jpg", encode_png(inside), number % 2)


def _decode(view: Callable[[Tensor], Tensor], sample: dict[str, bytes]) -> Tensor:
    with Image.open(io.BytesIO(sample["jpg"])) as image:
        return view(pil_to_tensor(image))


def _load(loader: DataLoader[Any], batches: int) -> None:
    loaded = sum(1 for _ in islice(loader, batches))
    if loaded < batches:
        raise RuntimeError(f"{loaded} of {batches} batches were loaded, so the time of a run says nothing.")
