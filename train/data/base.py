"""Base classes of data modules."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maskrobust.augment.batch import Batch, first_images, first_objects, in_unit_range
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.train.data.files.objects import ObjectNames
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.loading import (
    EpochSampler,
    Position,
    TrainingLoader,
    collate,
    loading_options,
    rank_and_number,
    training_position,
)
from maskrobust.train.data.transforms import Transform
from maskrobust.train.data_options import Split

ALL_SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPLITS_OF_STAGE: dict[str | None, tuple[Split, ...]] = {
    None: ALL_SPLITS,
    "fit": ("train", "val"),
    "train": ("train",),
    "validate": ("val",),
    "test": ("test",),
    "predict": (),
}


Colour = tuple[float, ...]
"""A number for each band, such as red, green and blue, in [0, 1]."""


class InMemoryDataset(Dataset[Batch]):
    """Samples as a map-style data set, fetched a whole batch at once.

    Args:
        samples: returns all of them.
        count: their number.
        transform: makes the views of a training; None for samples as they are.
        seed: decides the views, with id and epoch: index i + n x count is the i-th sample in epoch n.
    """

    def __init__(
        self, samples: Callable[[], Batch], count: int, transform: Transform | None = None, seed: int = 0
    ) -> None:
        self.samples, self.count, self.transform, self.seed = samples, count, transform, seed

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples at `indices`, of any epoch, as one `Batch`; `DataLoader` calls this in place of one a sample."""
        batch = self.samples().select(torch.as_tensor(indices, dtype=torch.int64) % len(self))
        if self.transform is None:
            return batch
        epochs = (index // len(self) for index in indices)
        return collate(self.transform.of_sample(batch.select(at), self.seed, epoch) for at, epoch in enumerate(epochs))


class AnnotatedDataModule(LightningDataModule, ABC):
    """A Lightning data module of `Batch` that tells its classes and pixel statistics; every data module here is one.

    Its loaders yield images as uint8: a quarter of the bytes go through shared memory and to a GPU, and `Batch.to`
    converts them there.

    Attributes:
        num_classes: number of classes.
        class_names: one name for each class, in label order.
        mean: mean of the training split's pixels, in [0, 1], for red, green and blue.
        std: standard deviation of the training pixels, in the same unit.
        order_seed: decides the order of the training samples, and nothing else.
        batch_size: samples per batch of one process.
        crop_fraction: fraction in (0, 1] of a photograph's shorter side that the pictures show; networks crop no more.
        objects: names the object of each picture; None where that is not known.
        reading: how image files are read; None of data without files.
        labels_pixels: whether labels are (B, H, W), a class for each pixel; data then say `ignore_index`, the label of
            pixels without one.
        training_stage: the stage for which `setup` makes the training split: "train" where it can make that alone, else
            Lightning's "fit", which needs the validation split, too.
    """

    training_stage: Literal["train", "fit"] = "fit"
    transform: Transform | None = None
    """Makes the views of a training; None for images as they are."""
    crop_fraction: float = 0.875
    objects: ObjectNames | None = None
    reading: Reading | None = None
    labels_pixels: bool = False
    ignore_index: int

    num_classes: int
    class_names: tuple[str, ...]
    mean: Colour
    std: Colour
    order_seed: int
    batch_size: int

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have images; all three unless a subclass says otherwise."""
        return ALL_SPLITS

    @property
    def bands(self) -> int:
        """How many bands images have."""
        return 3

    @property
    def show_bands(self) -> Sequence[int] | None:
        """Numbers, from 1, of the bands that pictures show as red, green and blue; None for the first ones."""
        return None if self.reading is None else self.reading.show_bands

    @property
    def read_as(self) -> dict[str, Any]:
        """How files are read, as plain values that a checkpoint keeps."""
        return {} if self.reading is None else self.reading.as_dict()

    @abstractmethod
    def whole_split(self, split: Split) -> Iterable[Batch]:
        """Every image of a split once on each process, without augmentation, in the same batches at each call.

        The data must be set up for it.
        """

    def val_dataloader(self) -> Any:
        """Batches of the validation split."""
        return self.whole_split("val")

    def test_dataloader(self) -> Any:
        """Batches of the test split."""
        return self.whole_split("test")

    def _set_loading(self, batch_size: int, num_workers: int, seed: int) -> None:
        """Take what `_loader` and `_training_loader` need, once it is checked."""
        check_at_least("batch_size", batch_size, 1)
        check_at_least("num_workers", num_workers, 0)
        check_at_least("seed", seed, 0)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed = self.order_seed = seed

    def _loader(self, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        """Batches of a data set, in its order."""
        return DataLoader(dataset, batch_size=self.batch_size, **loading_options(self.num_workers))

    def _training_loader(self, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        """Batches of a map-style data set in an order that depends on (order_seed, epoch) alone; see `EpochSampler`."""
        number = len(dataset)  # type: ignore[arg-type]  # map-style
        sampler = EpochSampler(number, self.order_seed, self.batch_size, self.position)
        options = {"batch_size": self.batch_size, **loading_options(self.num_workers)}
        return TrainingLoader(dataset, sampler=sampler, **options)

    def take_colours(self, mean: Colour, std: Colour, source: str) -> None:
        """Take the mean and standard deviation that weights were trained with, where nothing says the data's own.

        Nothing happens unless a subclass would have to measure its own, and images have as many bands.

        Args:
            mean: mean of red, green and blue, in [0, 1].
            std: likewise.
            source: whose they are, for a line that says so.
        """

    def setup_split(self, split: Split) -> None:
        """Make what one split needs, by `setup` for the stage that trains on it, validates or tests."""
        stages: dict[Split, str] = {"train": self.training_stage, "val": "validate", "test": "test"}
        self.setup(stages[split])

    def annotated_batches(self, split: Split) -> Iterable[Batch]:
        """Batches that hold every object mask of a split, on each process: a source of silhouettes.

        The data must be set up for the split. Images without a mask may be left out, where a subclass knows them before
        it reads them; here it is the whole split.
        """
        return self.whole_split(split)

    def some_images(self, split: Split, count: int) -> Iterable[Batch]:
        """Batches of up to `count` images of a split, at least 1, that stand for all of it, on each process.

        The first ones unless a subclass sorts them. The data must be set up for it.
        """
        return first_images(self.whole_split(split), count)

    def some_objects(self, split: Split, count: int) -> Iterable[Batch]:
        """As `some_images`, of batches that hold `count` objects, or a few more, where the split has as many."""
        return first_objects(self.annotated_batches(split), count)

    def position(self) -> Position | None:
        """Which batch of which epoch the trainer needs next; None without a trainer."""
        return None if self.trainer is None else training_position(self.trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: position, samples in a batch of all processes together, file of the transform."""
        position = self.position()
        if position is None:
            return {}
        transform = None if self.transform is None else self.transform.content
        return {**position._asdict(), "batch_size": self._total_batch_size(), "transform": transform}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, at the position that the trainer restores.

        Raises:
            InputError: it was saved within an epoch, with batches of another size, or the file of its transform has
                changed.
        """
        if self.transform is not None and state_dict.get("transform") not in (None, self.transform.content):
            raise InputError(
                f"the checkpoint was trained with another content of '{self.transform.given}'; restore the file, or "
                "start a new training from the weights (--model.weights)."
            )
        size = state_dict["batch_size"]
        if state_dict["batches"] > 0 and size != self._total_batch_size():
            raise InputError(
                f"the checkpoint was saved within an epoch with {size} images in a batch of all processes together, "
                f"but there are {self._total_batch_size()} now; go on with as many, or from the end of an epoch."
            )

    def _total_batch_size(self) -> int:
        return self.batch_size * rank_and_number()[1]

    def object_of(self, ids: Tensor) -> Tensor:
        """Which object each sample shows, so that pictures of one object can be counted together.

        Args:
            ids: (N,) int64 sample ids.

        Returns:
            (N,) int64, equal for samples of the same object; the ids themselves unless `objects` or a subclass knows.

        Raises:
            InputError: `objects` does not name the object of a sample.
        """
        if self.objects is None:
            return ids
        for split in self.splits:
            if not self._named.keys() >= {*ids.tolist()}:
                self._named.update((sample, of) for sample, of in self._named_samples(split))
        return torch.tensor([self.objects.number(*self._named[each]) for each in ids.tolist()], dtype=torch.int64)

    @cached_property
    def _named(self) -> dict[int, tuple[str, object]]:
        """Name and class of each sample by its id, of the splits that were asked about."""
        return {}

    def _named_samples(self, split: Split) -> Iterable[tuple[int, tuple[str, object]]]:
        """Id, name and class of each sample of a split, of a data module that takes `objects`."""
        raise NotImplementedError

    @property
    def names_objects(self) -> bool:
        """Whether it is known which pictures show one object; where it is not, an evaluation says so."""
        return self.objects is not None or type(self).object_of is not AnnotatedDataModule.object_of

    def empty_scenes(self, split: Split, count: int) -> EmptyScenes | None:
        """Empty scenes of a split: pictures without an object, such as backgrounds drawn like those of its samples.

        Args:
            split: whose backgrounds.
            count: how many; a larger count adds to a smaller one.

        Returns:
            So many (3, H, W) float32, the same at each call; None where the data have none.
        """
        return None

    def labels(self, split: Split) -> Tensor | None:
        """(N,) int64 labels of the images of a split, where they are known without reading the images; else None."""
        return None

    def sample_name(self, split: Split, sample_id: int) -> str:
        """The name of a sample in pages and messages: its id, or its file where a subclass knows it."""
        return f"image {sample_id}"

    def without_object(self, split: Split, ids: Tensor) -> Tensor | None:
        """The very backgrounds of some samples, as their pictures were before the objects were laid over them.

        Args:
            split: split of the samples.
            ids: (N,) int64 sample ids.

        Returns:
            (N, 3, H, W) float32 in [0, 1]; None where the data are no composites.
        """
        return None


class ColouredDataModule(AnnotatedDataModule):
    """A data module whose mean and standard deviation are given, those of weights, or else found when needed first.

    Args:
        mean: mean of the training pixels, in [0, 1]; None to find it.
        std: their standard deviation; likewise.
    """

    def __init__(self, mean: Colour | None, std: Colour | None) -> None:
        super().__init__()
        self._mean, self._std = mean, std

    @property
    def mean(self) -> Colour:
        """Mean of the training pixels, in [0, 1], for red, green and blue."""
        return self._mean or self._measured_colours[0]

    @mean.setter
    def mean(self, colour: Colour) -> None:
        self._mean = colour

    @property
    def std(self) -> Colour:
        """Their standard deviation, in the same unit."""
        return self._std or self._measured_colours[1]

    @std.setter
    def std(self, deviation: Colour) -> None:
        self._std = deviation

    @property
    @abstractmethod
    def _measured_colours(self) -> tuple[Colour, Colour]:
        """Mean and standard deviation where neither was given."""

    def take_colours(self, mean: Colour, std: Colour, source: str) -> None:
        """Take these for what was not given, and say so; see `AnnotatedDataModule`."""
        if len(mean) != self.bands:
            return
        if self._mean is None or self._std is None:
            rank_zero_info(f"mean colour and standard deviation are those of {source}")
        self._mean, self._std = self._mean or mean, self._std or std


class InMemoryDataModule(AnnotatedDataModule):
    """A data module whose splits fit into memory; a subclass says how samples are made.

    Args:
        batch_size: samples per batch, at least 1; the last batch of an epoch may be smaller.
        num_workers: loader processes, at least 0.
        seed: at least 0; decides whatever the subclass draws, and the training order unless `order_seed` is set to
            another number afterwards.
        transform: makes the views of training; None for the samples as they are made.

    Raises:
        InputError: an argument is below its minimum.
    """

    def __init__(self, batch_size: int, num_workers: int, seed: int, transform: Transform | None = None) -> None:
        super().__init__()
        self._set_loading(batch_size, num_workers, seed)
        self.transform = transform
        self._made: dict[Split, Batch] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets, as in a loader process that is no fork."""
        return {**vars(self), "trainer": None, "_made": {}}

    @abstractmethod
    def ids(self, split: Split) -> Tensor:
        """(N,) int64 ids of the samples of `split`, in their order."""

    @abstractmethod
    def make_samples(self, split: Split, ids: Tensor) -> Batch:
        """Make the samples of `split` with these ids (B,), in their order, images as uint8.

        A sample's bytes follow from its id alone.
        """

    def samples(self, split: Split) -> Batch:
        """All samples of `split`, in the order of `ids`; they are made when they are first asked for, and kept."""
        if split not in self._made:
            self._made[split] = self.make_samples(split, self.ids(split))
        return self._made[split]

    def setup(self, stage: str | None = None) -> None:
        """Find the ids of the splits that `stage` needs, and build the transform of a training.

        A file that lists ids, and a transform that does not work, are refused before a training begins.
        """
        for split in SPLITS_OF_STAGE[stage]:
            if split in self.splits:
                self.ids(split)
        if stage == "fit" and self.transform is not None:
            assert self.transform.pipeline

    def labels(self, split: Split) -> Tensor:
        """(N,) int64 labels of the samples of a split."""
        return self.samples(split).labels

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the training split, in an order that depends on (order_seed, epoch) alone."""
        plain = self._dataset("train")
        return self._training_loader(InMemoryDataset(plain.samples, plain.count, self.transform, self.order_seed))

    def whole_split(self, split: Split) -> DataLoader[Batch]:
        """Batches of a split, in order of ids."""
        return self._loader(self._dataset(split))

    def _dataset(self, split: Split) -> InMemoryDataset:
        if self.num_workers > 0:  # loader processes then share what this one has made
            self.samples(split)
        return InMemoryDataset(partial(self.samples, split), len(self.ids(split)))


def check_labelled(data: AnnotatedDataModule, user: str, *, per_pixel: bool = False) -> None:
    """Refuse images without labels, and those with labels of the other kind.

    Args:
        data: whose labels are used.
        user: what would use them, for the message.
        per_pixel: whether it needs a class for each pixel, and not for each image.

    Raises:
        InputError: there are none, or of the other kind.
    """
    if data.num_classes == 0:
        raise InputError(
            f"{user} needs images with labels, but these have none; sort them into folders by class, give "
            "ImagesWithMasks a CSV file of labels, or pre-train on them (maskrobust pretrain)."
        )
    if isinstance(data, AnnotatedDataModule) and data.labels_pixels != per_pixel:
        kinds = ("image", "pixel") if data.labels_pixels else ("pixel", "image")
        remedy = "train on them by maskrobust segment" if data.labels_pixels else "give Tiles"
        name = type(data).__name__
        raise InputError(f"{user} needs a class for each {kinds[0]}, but {name} has one for each {kinds[1]}; {remedy}.")


def drawn_batch(ids: Tensor, images: NDArray[np.uint8], object_mask: NDArray[np.bool_], labels: Tensor) -> Batch:
    """A batch of N images as they are drawn: (N, H, W, 3), and masks (N, H, W); ids and labels are (N,)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Batch(ids, pixels, torch.from_numpy(object_mask).unsqueeze(1), labels)


def as_float_images(images: NDArray[np.uint8]) -> Tensor:
    """Images (N, H, W, 3) uint8, as they are drawn, as (N, 3, H, W) float32 in [0, 1]."""
    return in_unit_range(torch.from_numpy(images).permute(0, 3, 1, 2))


def photographs(images: NDArray[np.uint8]) -> EmptyScenes:
    """Photographs (S, H, W, 3) uint8 that show no object."""
    return EmptyScenes(as_float_images(images), ("photographs",) * len(images))
