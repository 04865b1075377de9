"""`Shards`: WebDataset's tar files, on a disk, in a bucket or behind a command."""

import warnings
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from maskrobust.augment.batch import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.train.data.base import Colour, ColouredDataModule
from maskrobust.train.data.files.objects import ObjectNames
from maskrobust.train.data.files.reading import ALL, Reading, is_beside_images
from maskrobust.train.data.loading import Position, TrainingLoader, loading_options, rank_and_number
from maskrobust.train.data.shard_streams import (
    EvenLoader,
    PartStream,
    SampleReader,
    TrainingStream,
    WholeStream,
    read_shard,
    shard_urls,
)
from maskrobust.train.data.transforms import GivenTransform, Transform
from maskrobust.train.data_options import GivenVisible, OnBad, Split


class Shards(ColouredDataModule):
    """WebDataset's shards: for each sample an image, its label in `cls` or `json`, and an object mask in `mask.png`.

    A split names paths, folders, URLs (https:, s3:, gs:, hf:, ...) or "pipe:COMMAND", with brace lists as in
    'data/train-{000000..000146}.tar', joined by "::" or as a list. An epoch of training has a fixed number of steps,
    and reads each sample once where shards hold equally many; see `shard_streams.TrainingStream`. Evaluation reads each
    sample once over all processes. A sample's id, which its holes depend on, is a hash of split, shard and key. The
    environment variables WDS_CACHE and WDS_CACHE_SIZE name a folder that keeps what was downloaded. Views are those of
    `Folder`.

    Args:
        train: shards to train on; None where there are none.
        val: shards of the validation split.
        test: shards of the test split.
        train_samples: number of training images, which an epoch has as many of; needed to train.
        classes: number of classes or their names, in label order; 0 for images without labels; None to find them by
            reading the first shard.
        label_field: field of `json` that holds the label; None to read `cls`. A label is a number, or one of `classes`.
        mask: suffix of object masks, in which what is not black is the object.
        visible: which pixels may be seen: alpha, a no-data value, or {hidden_box: [left, top, right, bottom]}, as of
            `Folder`; or the suffix of a mask in each sample, white where visible, such as visible.png.
        value_range: the numbers in a file that become 0 and 1, as of `Folder`.
        show_bands: the bands that pictures show, as of `Folder`.
        objects: which samples show one object: a CSV file whose first line is `image,object`, by the keys of samples,
            or a regular expression, whose first group in the key names the object. Shards are then read once more. None
            where every sample shows another one.
        on_bad: "stop" to end at a sample that cannot be read; "skip" to leave it out, and say how many were. A shard
            that breaks off always ends the run.
        image_size: side of the square images, at least 32.
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        shuffle_buffer: encoded samples that each loader process keeps to shuffle, at least 1; at 100 kB each, 1000
            take 100 MB.
        seed: at least 0; decides the training stream, unless `order_seed` is set to another number afterwards.
        mean: mean of the training pixels, in [0, 1]; None for that of weights that are trained further, or ImageNet's.
        std: standard deviation of the training pixels; likewise.
        transform: views of training, as of `Folder`.

    Raises:
        InputError: no shards are named, those named cannot be read, or an argument is below its minimum.
    """

    training_stage = "train"
    transform: Transform
    reading: Reading

    def __init__(
        self,
        train: str | list[str] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        *,
        train_samples: int | None = None,
        classes: int | list[str] | None = None,
        label_field: str | None = None,
        mask: str = "mask.png",
        visible: GivenVisible | None = None,
        value_range: tuple[float, float] | None = None,
        show_bands: tuple[int, int, int] | None = None,
        objects: str | None = None,
        on_bad: OnBad = "stop",
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
        shuffle_buffer: int = 1000,
        seed: int = 0,
        mean: Colour | None = None,
        std: Colour | None = None,
        transform: GivenTransform = "crop_flip",
    ) -> None:
        super().__init__(mean, std)
        self._set_loading(batch_size, num_workers, seed)
        check_at_least("image_size", image_size, 32)
        check_at_least("shuffle_buffer", shuffle_buffer, 1)
        given: dict[Split, str | list[str] | None] = {"train": train, "val": val, "test": test}
        self.urls = {split: shard_urls(urls) for split, urls in given.items() if urls}
        if not self.urls:
            raise InputError("Shards must be told of shards, got none; name them, as --data.train 'data/{00..99}.tar'.")
        self.train_samples, self.label_field, self.mask, self.on_bad = train_samples, label_field, mask, on_bad
        self.visible = visible if is_beside_images(visible) else None
        self.reading = Reading(visible if self.visible is None else ALL, value_range, show_bands)
        self.objects = None if objects is None else ObjectNames(objects)
        self.image_size, self.shuffle_buffer = image_size, shuffle_buffer
        self.transform = Transform(transform, image_size)
        self.class_names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes or ())
        if classes is None:
            self.class_names = self._found_classes()
        self.num_classes = len(self.class_names)

    def _found_classes(self) -> tuple[str, ...]:
        split, (url, *others) = next(iter(self.urls.items()))
        labels = sorted({*map(self._reader(split).label, read_shard(url))} - {""})
        if labels and all(map(str.isdecimal, labels)):
            labels = [*map(str, range(max(map(int, labels)) + 1))]
        rank_zero_info(f"{len(labels)} classes in the shard '{url}'{f', of {len(others) + 1}' if others else ''}")
        return tuple(labels)

    @cached_property
    def _measured_colours(self) -> tuple[Colour, Colour]:
        rank_zero_info("mean colour and standard deviation are taken to be ImageNet's; give mean and std for others")
        return IMAGENET_MEAN, IMAGENET_STD

    @property
    def bands(self) -> int:
        """As many as `mean` says."""
        return len(self._mean or IMAGENET_MEAN)

    @property
    def read_as(self) -> dict[str, Any]:
        """How images are read, or the suffix of what says which of their pixels are visible."""
        return super().read_as | ({} if self.visible is None else {"visible": self.visible})

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have shards."""
        return tuple(self.urls)

    def setup(self, stage: str | None = None) -> None:
        """Build the views of a training: a transform that does not work is refused before it begins."""
        if stage == "fit":
            assert self.transform.pipeline

    def shards(self, split: Split) -> list[str]:
        """The shards of a split, in order.

        Raises:
            InputError: none were named.
        """
        if split not in self.urls:
            raise InputError(
                f"the split '{split}' needs shards, got those of {', '.join(self.urls)}; give data.{split}."
            )
        return self.urls[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """The stream of this rank, from the trainer's position on where there is a trainer.

        Raises:
            InputError: `train_samples` was not given.
        """
        urls, (rank, ranks) = self.shards("train"), rank_and_number()
        if (samples := self.train_samples) is None:
            raise InputError("a training on shards needs the number of its images, got none; give data.train_samples.")
        check_at_least("train_samples", samples, 1)
        steps, buffer = max(1, samples // (self.batch_size * ranks)), self.shuffle_buffer
        reader = self._reader("train", training=True)
        stream = TrainingStream(urls, reader, self.batch_size, steps, self.order_seed, rank, ranks, buffer)

        def begin() -> None:
            stream.position = self.position() or Position(stream.position.epoch + 1, 0)

        # Lightning suspects that every loader process yields all of it.
        warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__` defined")
        options = loading_options(self.num_workers) | {"persistent_workers": False}  # each epoch tells its position
        return TrainingLoader(stream, begin, batch_size=None, **options)

    def val_dataloader(self) -> DataLoader[Any]:
        """This rank's part of the validation split."""
        return self._part_of("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """This rank's part of the test split."""
        return self._part_of("test")

    def whole_split(self, split: Split) -> DataLoader[Any]:
        """All of a split, in the view of evaluation, on every rank."""
        return self._whole(split)

    def annotated_batches(self, split: Split) -> DataLoader[Any]:
        """The samples that have an object mask, or where there is none the first; all shards are read."""
        return self._whole(split, masks_only=True)

    def _named_samples(self, split: Split) -> Iterable[tuple[int, tuple[str, object]]]:
        reader = self._reader(split)
        for url in self.shards(split):
            for sample in read_shard(url):
                yield reader.id(sample), (sample["__key__"], reader.label(sample))

    def _part_of(self, split: Split) -> DataLoader[Any]:
        stream = PartStream(self.shards(split), self._reader(split), self.batch_size, *rank_and_number())
        options = loading_options(self.num_workers)
        return EvenLoader(stream, lambda: next(iter(self._whole(split))), batch_size=None, **options)

    def _whole(self, split: Split, masks_only: bool = False) -> DataLoader[Any]:
        stream = WholeStream(self.shards(split), self._reader(split), self.batch_size, masks_only)
        return DataLoader(stream, batch_size=None, **loading_options(self.num_workers))

    def _reader(self, split: Split, training: bool = False) -> SampleReader:
        folders = {url.rpartition("/")[0] for url in self.shards(split)}
        place = f"{folders.pop()}/" if len(folders) == 1 else ""
        classes = {name: number for number, name in enumerate(self.class_names)}
        view = self.transform if training else Transform("none", self.image_size)
        skip = self.on_bad == "skip"
        about = split, place, classes, self.label_field, self.mask, self.visible, self.reading
        return SampleReader(*about, view, self.order_seed, skip)
