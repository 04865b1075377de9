"""`Shards`: WebDataset tar files, as `maskrobust shards` writes them, from disk or over the network."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, check_at_least
from maskrobust.train.data.base import SPLITS_OF_STAGE, AnnotatedDataModule, Colour
from maskrobust.train.data.files.image_files import evaluation_view, training_view
from maskrobust.train.data.loading import (
    Loader,
    PresentAhead,
    TrainingLoader,
    loading_options,
    rank_and_number,
)
from maskrobust.train.data.shards.format import ShardRecord, read_manifest
from maskrobust.train.data.shards.reader import EvaluationStream, ShardReader, TrainingStream
from maskrobust.train.types import Split

ShardView = Literal["crop", "as_is"]


class Shards(AnnotatedDataModule):
    """Shards with images, object masks, labels and ids, as `maskrobust shards` writes them from any data module.

    Training reads a resampled stream: each loader process of each rank draws shards with replacement and shuffles
    samples in a buffer, and an epoch has a fixed number of steps, so that no rank runs dry before the others. What an
    epoch reads is a function of (order_seed, rank, loader process, epoch); a run that resumes within an epoch reads
    from its start. Evaluation reads each sample once over all ranks, in the order of the shards.

    A shard that breaks off or cannot be opened, an image or mask that cannot be read, a mask that is missing though one
    was written, a label out of range, and a key that comes twice in a shard are faults, which are named in an
    `InputError`.

    Args:
        root: folder with manifest.json and the shards, or an address: what WebDataset takes (https:, pipe:, gs:, hf:,
            ...) or else fsspec (s3:, ...), where "{}" stands for a file's name, as in "pipe:aws s3 cp s3://mine/{} -".
        view: "crop": random crops for training and the centre for evaluation, as `Folder` does; "as_is": images that
            have already `image_size`, without any augmentation.
        image_size: side of the square images, at least 1.
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        shuffle_buffer: encoded samples that each loader process keeps to shuffle, at least 1; at 100 kB each, 1000
            take 100 MB.
        steps_per_epoch: training batches for each rank and epoch, at least 1; None for as many as there are samples.
        seed: at least 0; decides the training stream, unless `order_seed` is set to another number afterwards.

    Raises:
        InputError: the manifest cannot be read, or an argument is below its minimum.
    """

    training_stage = "train"

    def __init__(
        self,
        root: str,
        *,
        view: ShardView = "crop",
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
        shuffle_buffer: int = 1000,
        steps_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._set_loading(batch_size, num_workers, seed)
        check_at_least("image_size", image_size, 1)
        check_at_least("shuffle_buffer", shuffle_buffer, 1)
        if steps_per_epoch is not None:
            check_at_least("steps_per_epoch", steps_per_epoch, 1)
        self.root = root
        self.manifest = read_manifest(root)
        self.class_names, self.num_classes = self.manifest.class_names, len(self.manifest.class_names)
        self.mean, self.std = self.manifest.mean, self.manifest.std
        self.view: ShardView = view
        self.image_size, self.shuffle_buffer, self.steps_per_epoch = image_size, shuffle_buffer, steps_per_epoch

    def take_colours(self, mean: Colour, std: Colour, source: str) -> None:
        """Take these in place of the manifest's, which are those of the data that the shards were written from."""
        rank_zero_info(f"mean colour and standard deviation are those of {source}")
        self.mean, self.std = mean, std

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that were written."""
        return tuple(split for split in get_args(Split) if split in self.manifest.splits)

    def object_of(self, ids: Tensor) -> Tensor:
        """What the data said that the shards were written from; see `AnnotatedDataModule`."""
        objects = self.manifest.objects
        return torch.tensor([objects.get(each, each) for each in ids.tolist()], device=ids.device) if objects else ids

    def records(self, split: Split) -> tuple[ShardRecord, ...]:
        """The shards of a split, in order.

        Raises:
            InputError: none were written.
        """
        if split not in self.manifest.splits:
            written = ", ".join(self.manifest.splits)
            raise InputError(f"'{self.root}' must hold the split '{split}', but holds {written}; write it, too.")
        return self.manifest.splits[split]

    def listed(self, split: Split) -> dict[str, Any]:
        """The manifest, which says how many samples each shard has."""
        return self.manifest.model_dump(mode="json")

    def setup(self, stage: str | None = None) -> None:
        """Tell what the splits hold that `stage` needs."""
        for split in SPLITS_OF_STAGE[stage]:
            shards = len(self.records(split))
            samples, masks = self.manifest.count(split)
            rank_zero_info(f"{split}: {samples} images, {masks} with an object mask; shards: {shards}")

    def train_dataloader(self) -> DataLoader[Batch]:
        """The resampled stream of this rank, from the trainer's position on where there is a trainer."""
        records = self.records("train")
        rank, ranks = rank_and_number()
        stream = TrainingStream(
            self._reader(),
            records,
            training_view(self.image_size) if self.view == "crop" else None,
            self.batch_size,
            self.steps_per_epoch or max(1, self.manifest.count("train")[0] // (self.batch_size * ranks)),
            self.order_seed,
            rank,
            self.shuffle_buffer,
        )

        def begin() -> PresentAhead | None:
            stream.begin(self.position())
            return self.presenter()

        return TrainingLoader(stream, begin, **self._loader_options())

    def val_dataloader(self) -> DataLoader[Batch]:
        """This rank's batches of the validation split."""
        return self._loader_of(self.records("val"), *rank_and_number())

    def test_dataloader(self) -> DataLoader[Batch]:
        """This rank's batches of the test split."""
        return self._loader_of(self.records("test"), *rank_and_number())

    def whole_split(self, split: Split) -> DataLoader[Batch]:
        """All of a split in order, in the view of evaluation, on every rank."""
        return self._loader_of(self.records(split))

    def annotated_batches(self, split: Split) -> DataLoader[Batch]:
        """The shards that hold a mask, or where there is none the first shard; the others are not read."""
        records = self.records(split)
        return self._loader_of([each for each in records if each.masks] or records[:1])

    def _loader_of(self, records: Sequence[ShardRecord], rank: int = 0, ranks: int = 1) -> DataLoader[Batch]:
        view = evaluation_view(self.image_size) if self.view == "crop" else None
        stream = EvaluationStream(self._reader(), records, view, self.batch_size, rank, ranks)
        return Loader(stream, **self._loader_options())

    def _reader(self) -> ShardReader:
        return ShardReader(self.root, self.num_classes, self.image_size if self.view == "as_is" else None)

    def _loader_options(self) -> dict[str, Any]:
        # Lightning suspects that every loader process yields all of it.
        warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__` defined")
        return {"batch_size": None, **loading_options(self.num_workers)}
