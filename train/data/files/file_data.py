"""`FileDataModule`, the base of data modules of image files: reading image and mask, loaders."""

import pickle
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maskrobust.augment.batch import Batch, in_colours, in_unit_range
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.augment.random import draw_uniform
from maskrobust.errors import Faults, InputError, MissingFileError, UnreadableError, check_at_least
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.train.data.base import SPLITS_OF_STAGE, Colour, ColouredDataModule
from maskrobust.train.data.files.headers import header_faults
from maskrobust.train.data.files.image_files import (
    IMAGE_SUFFIXES,
    ImageFile,
    MaskCode,
    check_size,
    decode_mask,
    list_folder,
    read_file,
)
from maskrobust.train.data.files.objects import ObjectNames
from maskrobust.train.data.files.reading import Reading, place_of
from maskrobust.train.data.loading import collate, rank_and_number
from maskrobust.train.data.transforms import GivenTransform, Transform
from maskrobust.train.data_options import GivenVisible, OnBad, Split
from maskrobust.train.storage.files import printable

_SMALLEST_IMAGE = 32
_COLOUR_IMAGES, _LEAST_DEVIATION, _LEAST_OF_FLOATS = 500, 1 / 255, 1e-4


class FileTable:
    """Image files pickled into one array, which loader processes share.

    Of a list, each process would come to have its own copy: reading a Python object counts a reference to it, and
    writes to its page.
    """

    def __init__(self, files: Sequence[ImageFile]) -> None:
        pickled = [pickle.dumps(file) for file in files]
        self._content = np.frombuffer(b"".join(pickled), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, pickled)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> ImageFile:
        """The file at a position from 0."""
        file: ImageFile = pickle.loads(self._content[self._ends[place] : self._ends[place + 1]].tobytes())
        return file


class FileDataset(Dataset[Batch]):
    """Image files as a map-style data set; image and object mask go through the same geometry.

    Args:
        files: what to read.
        mask_code: how mask files are to be read.
        image_size: side of the square images.
        augmentation_seed: None for the view of evaluation. Otherwise the view of training: index i + n x len(self) is
            the i-th image as seen in epoch n, a function of (augmentation_seed, id, epoch) alone.
        reading: how files are read; None for all of them visible.
        root: folder that the images lie below, by which `reading` knows their paths.
        transform: makes the views of training; None for the recipe "crop_flip".
        on_bad: "stop" to raise where a sample cannot be read; "skip" to leave it out of its batch.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        mask_code: MaskCode,
        image_size: int,
        augmentation_seed: int | None = None,
        reading: Reading | None = None,
        root: Path = Path(),
        transform: Transform | None = None,
        on_bad: OnBad = "stop",
    ) -> None:
        self.files = FileTable(files)
        self.on_bad: OnBad = on_bad
        self.mask_code = mask_code
        self.augmentation_seed, self.reading, self.root = augmentation_seed, reading or Reading(), root
        if augmentation_seed is None:
            transform = Transform("none", image_size)
        self.transform = transform or Transform("crop_flip", image_size)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        """One sample: a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: a file cannot be read, a mask has another size than its image, or no pixel of the image, or of
                its view without augmentation, may be seen.
        """
        epoch, position = divmod(index, len(self.files))
        file = self.files[position]
        place = place_of(file, self.root) if self.reading.beside else ""
        image, visible = self.reading.read(file.image, place)
        size = (image.shape[1], image.shape[2])
        object_mask = read_mask_of(file, self.mask_code, size)
        if object_mask is None:
            object_mask = torch.zeros(1, *size, dtype=torch.bool)
        label = torch.tensor(file.label, dtype=torch.int64)
        sample = Batch(torch.tensor(file.id), image, object_mask, label, visible)
        return self.transform.of_sample(sample, self.augmentation_seed or 0, epoch, str(file.image))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several samples as one `Batch`; `DataLoader` calls this in place of one call per sample.

        Raises:
            UnreadableError: one cannot be read, or where such samples are left out, none can.
        """
        faults, samples = Faults(), list[Batch]()
        for index in indices:
            with faults.noted():
                samples.append(self[index])
            if faults and (self.on_bad == "stop" or len(faults) == len(indices)):
                raise UnreadableError(str(faults[-1]))
        return collate(samples)


class FileDataModule(ColouredDataModule):
    """A data module of image files; a subclass says which files belong to a split, and sets the classes.

    The view of evaluation is the centre of the image with its shorter side resized to 256/224 of `image_size`.

    Args:
        mask_code: "binary" (not black is the object), "imagenet_s" or "trimap"; see `image_files.decode_mask`.
        image_size: side of the square images, at least 32.
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        seed: at least 0; decides training order and views, unless `order_seed` is set to another number afterwards.
        mean: mean of the training pixels, in [0, 1]; None to measure it on up to 500 training images when it is needed
            first, unless `take_colours` has said another before. ImageNet's where there are no training images.
        std: standard deviation of the training pixels; likewise.
        on_bad: "stop" to end at a file that cannot be read, with a checkpoint where a training was under way; "skip" to
            leave it out of its batch, after a warning that counts those whose headers are broken.
        transform: views of training: "crop_flip" (a random crop and a flip), "cut", "none", "light", a file that
            `albumentations.save` wrote, or the path of a function that makes one; see `transforms.Transform`.
        visible: which pixels may be seen: alpha, nan, a no-data value, a folder of masks, a CSV file of boxes, or
            {hidden_box: [left, top, right, bottom]}; see `reading.Reading`.
        value_range: the numbers in a file that become 0 and 1, such as [0, 10000]; see `reading.Reading`.
        show_bands: numbers from 1 of the three bands that pictures show as red, green and blue; the first ones by
            default.

    Raises:
        MissingFileError: a file or folder that `visible` names is missing.
        InputError: an argument leaves its range.
    """

    training_stage = "train"
    reading: Reading
    root: Path = Path()
    """The folder that images lie below, and by which `objects` and `visible` know their paths."""

    def __init__(
        self,
        *,
        mask_code: MaskCode = "binary",
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
        seed: int = 0,
        mean: Colour | None = None,
        std: Colour | None = None,
        transform: GivenTransform = "crop_flip",
        visible: GivenVisible | None = None,
        value_range: tuple[float, float] | None = None,
        show_bands: tuple[int, int, int] | None = None,
        on_bad: OnBad = "stop",
    ) -> None:
        super().__init__(mean, std)
        self.reading = Reading(visible, value_range, show_bands)
        check_at_least("image_size", image_size, _SMALLEST_IMAGE)
        self.transform = Transform(transform, image_size)
        self._set_loading(batch_size, num_workers, seed)
        self.mask_code: MaskCode = mask_code
        self.image_size = image_size
        self.on_bad: OnBad = on_bad

    @abstractmethod
    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, in a fixed order."""

    @cached_property
    def bands(self) -> int:
        """How many bands the first image has, by its header; 3 where there is no image yet."""
        try:
            first, *_ = self.files(self.splits[0])
        except MissingFileError:  # as of what is not downloaded yet
            return 3
        return self.reading.check(first.image, place_of(first, self.root)).bands

    @cached_property
    def _measured_colours(self) -> tuple[Colour, Colour]:
        if "train" not in self.splits and self.bands == len(IMAGENET_MEAN):
            return IMAGENET_MEAN, IMAGENET_STD
        some = _spread(self.files(self.splits[0]), _COLOUR_IMAGES)
        mean, std = measured_colours(some, self.image_size, self.reading, self.root, self.on_bad)
        kind = "training" if "train" in self.splits else self.splits[0]
        rank_zero_info(f"mean colour {mean} and standard deviation {std}, measured on {len(some)} {kind} images")
        return mean, std

    def setup(self, stage: str | None = None) -> None:
        """List the files of the splits that `stage` needs, and tell how many have a mask; those of a fit are looked at.

        Raises:
            InputError: files cannot be listed, or files of a fit cannot be used, all of which are named.
        """
        splits = SPLITS_OF_STAGE[stage]
        if stage == "fit":
            self.check_fit()
        else:  # at once: a folder of masks is listed each time
            self.reading.check_listed(place_of(file, self.root) for split in splits for file in self.files(split))
        for split in splits:
            files = self.files(split)
            annotated = sum(file.mask is not None for file in files)
            kind = "a label map" if self.labels_pixels else "an object mask"
            rank_zero_info(f"{split}: {len(files)} images, {annotated} with {kind}")

    def check_fit(self) -> None:
        """Look at what a training reads: lists of files, headers, and one sample for its transform.

        Every process must ask, and looks at a part.

        Raises:
            InputError: all that is wrong.
        """
        faults, files = Faults(), list[ImageFile]()
        for split in SPLITS_OF_STAGE["fit"]:
            with faults.noted():
                files += self.files(split)
        with faults.noted():
            self.reading.check_listed(place_of(file, self.root) for file in files)
        faults.refuse()
        bad = header_faults(files, self.reading, self.root)
        if bad and self.on_bad == "skip":
            rank_zero_warn(f"{len(bad)} of {len(files)} files cannot be used and are skipped, the first one: {bad[0]}")
        elif bad:
            faults += map(InputError, bad)
        faults.refuse()
        in_colours(torch.empty(self.bands, 1, 1), self.show_bands)  # which refuses bands that there are not
        if rank_and_number()[0] == 0:
            some = range(min(8, len(self.files("train"))))
            self._training_dataset().__getitems__(some)  # a transform that does not work ends no epoch

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of transformed images, a function of (order_seed, epoch) alone."""
        return self._training_loader(self._training_dataset())

    def _training_dataset(self) -> FileDataset:
        return self._dataset(self.files("train"), self.order_seed)

    def whole_split(self, split: Split) -> DataLoader[Batch]:
        """Batches of a split in the order of `files`, in the view of evaluation."""
        return self._loader_of(self.files(split))

    def annotated_batches(self, split: Split) -> DataLoader[Batch]:
        """The images that have a mask file, or where there is none the first image; the others are not read."""
        return self._loader_of(self._annotated_files(split))

    def some_images(self, split: Split, count: int) -> DataLoader[Batch]:
        """Images evenly spread over `files`, which are sorted by class in many a folder."""
        return self._loader_of(_spread(self.files(split), count))

    def some_objects(self, split: Split, count: int) -> DataLoader[Batch]:
        """So many images with a mask file, or all, evenly spread over `files`."""
        return self._loader_of(_spread(self._annotated_files(split), count))

    def _annotated_files(self, split: Split) -> list[ImageFile]:
        files = self.files(split)
        return [file for file in files if file.mask is not None] or files[:1]

    def _take_objects(self, objects: str | None) -> None:
        """Take how objects are named, by the path of an image below `root`; None for not at all."""
        self.objects = None if objects is None else ObjectNames(objects)

    def _named_samples(self, split: Split) -> Iterable[tuple[int, tuple[str, object]]]:
        for file in self.files(split):
            yield file.id, (place_of(file, self.root), file.label)

    def labels(self, split: Split) -> Tensor | None:
        """(N,) int64 labels of the images of a split; None where these are of pixels."""
        return (
            None if self.labels_pixels else torch.tensor([file.label for file in self.files(split)], dtype=torch.int64)
        )

    def sample_name(self, split: Split, sample_id: int) -> str:
        """The name of a sample's image file."""
        return next(file.image.name for file in self.files(split) if file.id == sample_id)

    def _loader_of(self, files: Sequence[ImageFile]) -> DataLoader[Batch]:
        return self._loader(self._dataset(files))

    def _dataset(self, files: Sequence[ImageFile], seed: int | None = None) -> FileDataset:
        """The files in the view of training that `seed` decides; None for that of evaluation."""
        return FileDataset(
            files, self.mask_code, self.image_size, seed, self.reading, self.root, self.transform, self.on_bad
        )


def measured_colours(
    files: Sequence[ImageFile], image_size: int, reading: Reading, root: Path, on_bad: OnBad = "stop"
) -> tuple[Colour, Colour]:
    """Mean and standard deviation of pixels as a training sees them: of one crop of each image, in [0, 1].

    Args:
        files: at least one image.
        image_size: side of the crops in pixels.
        reading: how files are read; pixels that are hidden do not count.
        root: folder that the images lie below.
        on_bad: "skip" to leave out images that cannot be read, unless none can.

    Returns:
        Mean and standard deviation for each band, of bytes with four decimals and a deviation of at least 1 / 255,
        else with six and of at least 0.0001.

    Raises:
        InputError: images cannot be read, all of which are named.
    """
    dataset = FileDataset([file._replace(mask=None) for file in files], "binary", image_size, 0, reading, root)
    faults, found, decimals, least = Faults(), list[Tensor](), 4, _LEAST_DEVIATION
    for place in range(len(files)):
        with faults.noted():
            sample = dataset[place]
            if sample.images.is_floating_point():
                decimals, least = 6, _LEAST_OF_FLOATS
            shown = in_unit_range(sample.images).double()[:, sample.known[0]]
            if found and len(shown) != (bands := found[0].shape[1]):
                raise InputError(
                    f"'{files[place].image}' has {len(shown)} bands of {sample.images.dtype}, but '{files[0].image}' "
                    f"has {bands} of {dataset[0].images.dtype}; give the images one number and type of bands."
                )
            found += [torch.stack([shown.mean(1), shown.square().mean(1)])] * (shown.numel() > 0)
    if on_bad == "stop" or not found:
        faults.refuse()
    mean, square = torch.stack(found).mean(dim=0)
    std = (square - mean.square()).clamp(min=0).sqrt().clamp(min=least)
    return _rounded(mean, decimals), _rounded(std, decimals)


def _spread(files: Sequence[ImageFile], count: int) -> list[ImageFile]:
    """So many files, or all, evenly spread over their list."""
    return [files[round(place)] for place in np.linspace(0, len(files) - 1, min(len(files), count))]


def _rounded(numbers: Tensor, decimals: int) -> Colour:
    return tuple(round(each, decimals) for each in numbers.tolist())


def images_below(root: Path, folder: Path, mask_root: Path | None, label: int) -> list[ImageFile]:
    """The images at any depth of a folder, as `list_folder` finds them; a warning names what else lies there.

    Raises:
        MissingFileError: there are none.
    """
    found, others = list_folder(root, folder, mask_root, label)
    if not found:
        given = "holds none" if folder.is_dir() else "does not exist"
        raise MissingFileError(f"'{folder}' must hold images ({', '.join(IMAGE_SUFFIXES)}), but {given}; check it.")
    warn_of_skipped(str(folder), others)
    return found


def warn_of_skipped(where: str, others: Sequence[Path]) -> None:
    """Warn of files that were not read as images, if any; `where` says where they lie."""
    if others:
        count, first = f"{len(others)} file{'s' * (len(others) > 1)}", printable(str(others[0]))
        rank_zero_warn(
            f"{where}: skipped {count}, first '{first}', with another suffix than {', '.join(IMAGE_SUFFIXES)}; convert "
            "what is an image, and remove the rest."
        )


def train_val_split(
    files: Sequence[ImageFile], val_fraction: float, seed: int
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Training and validation images, each image assigned by (seed, id) alone.

    Args:
        files: the files to split.
        val_fraction: expected fraction of validation images, in (0, 1).
        seed: seed for the assignment.

    Raises:
        InputError: one of the two is empty.
    """
    numbers = draw_uniform(seed, torch.tensor([file.id for file in files]), "holdout")
    split: tuple[list[ImageFile], list[ImageFile]] = ([], [])
    for file, number in zip(files, numbers, strict=True):
        split[int(number < val_fraction)].append(file)
    if not all(split):
        raise InputError(
            f"val_fraction {val_fraction} of {len(files)} images must leave some for training and some for validation, "
            f"got {len(split[0])} and {len(split[1])}; choose another fraction."
        )
    return split


def read_mask_of(file: ImageFile, code: MaskCode, size: tuple[int, int]) -> Tensor | None:
    """The mask of a file, (1, H, W) bool; None where it has none."""
    if file.mask is None:
        return None
    if isinstance(file.mask, Path):
        object_mask = decode_mask(read_file(file.mask), code, str(file.mask))
    else:
        object_mask = file.mask.read()
    check_size(file.mask, tuple(object_mask.shape[1:]), size)
    return object_mask


class EvaluationImages(FileDataModule):
    """A data module of annotated image files for evaluation alone: they are the validation split, the only one.

    The view is that of evaluation; see `FileDataModule`.

    Args:
        class_names: one name for each class, in label order.
        files: the files, every image once.
        image_size: side of the square images, at least 32.
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        options: visible, value_range and show_bands; see `FileDataModule`.

    Raises:
        InputError: an argument leaves its range, there is no image, or an image comes twice.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        files: Sequence[ImageFile],
        *,
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(image_size=image_size, batch_size=batch_size, num_workers=num_workers, **options)
        self.class_names, self.num_classes, self._files = tuple(class_names), len(class_names), [*files]
        if not files:
            raise InputError("there must be at least one annotated image to evaluate on, got none; check the folders.")
        if len({file.id for file in files}) < len(files):
            raise InputError("every image must be listed once, but one comes twice; leave it out.")

    @property
    def splits(self) -> tuple[Split, ...]:
        """The validation split alone."""
        return ("val",)

    def files(self, split: Split) -> list[ImageFile]:
        """The image files.

        Raises:
            MissingFileError: another split than val is asked for.
        """
        if split != "val":
            raise MissingFileError(
                f"{type(self).__name__} holds images for evaluation alone, which are its split 'val', got '{split}'; "
                "use them with evaluate, or train on other data."
            )
        return self._files


def check_folders(*folders: Path) -> None:
    """Raise a `MissingFileError` that names the first folder that does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise MissingFileError(f"'{folder}' must be a folder, but does not exist; check the path.")
