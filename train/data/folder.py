"""Image folders with a parallel tree of object masks: ImageNet with ImageNet-S, or one's own images."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from augment.batch import Batch
from augment.policy import IMAGENET_MEAN
from augment.random import fold_in, sample_keys
from lm_modules.classifier import IMAGENET_STD
from train.data.base import SPLITS_OF_STAGE, AnnotatedDataModule, EpochSampler, Split, check_at_least, draw_uniform
from train.data.image_files import ImageFile, MaskCode, list_classes, list_images, read_image, read_mask

_GEOMETRY = zlib.crc32(b"geometry")
_RESIZED_OVER_CROPPED = 256 / 224


class FolderDataset(Dataset[Batch]):
    """Image files as a map-style data set; image and object mask go through the same geometry.

    Args:
        files: what to read.
        mask_code: how mask files are to be read.
        image_size: side of the square images.
        augmentation_seed: None for the view of evaluation. Otherwise the view of training: index i + n x len(self) is
            the i-th image as cropped and flipped in epoch n, a function of (augmentation_seed, id, epoch) alone.
    """

    def __init__(
        self, files: Sequence[ImageFile], mask_code: MaskCode, image_size: int, augmentation_seed: int | None = None
    ) -> None:
        self.files = files
        self.mask_code = mask_code
        self.augmentation_seed = augmentation_seed
        self.view = evaluation_view(image_size) if augmentation_seed is None else training_view(image_size)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        """One sample: a `Batch` whose tensors lack the leading dimension.

        Raises:
            ValueError: a file cannot be read, or a mask has another size than its image.
        """
        epoch, position = divmod(index, len(self.files))
        file = self.files[position]
        image = read_image(file.image)
        object_mask = self._object_mask(file, image)
        with torch.random.fork_rng(devices=[]):
            if self.augmentation_seed is not None:
                torch.manual_seed(_geometry_key(self.augmentation_seed, file.id, epoch))
            image, object_mask = self.view(tv_tensors.Image(image), tv_tensors.Mask(object_mask))
        pixels = image.as_subclass(Tensor).to(torch.float32).div_(255)
        return Batch(
            torch.tensor(file.id), pixels, object_mask.as_subclass(Tensor).to(torch.bool), torch.tensor(file.label)
        )

    def _object_mask(self, file: ImageFile, image: Tensor) -> Tensor:
        if file.mask is None:
            return torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
        object_mask = read_mask(file.mask, self.mask_code)
        if object_mask.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"'{file.mask}' must have the size of its image, {tuple(image.shape[1:])}, got "
                f"{tuple(object_mask.shape[1:])}; make it again from that image."
            )
        return object_mask.to(torch.uint8)


class AugmentedEpochSampler(EpochSampler):
    """The order of `EpochSampler`, telling a `FolderDataset` the epoch with each index."""

    def __iter__(self) -> Iterator[int]:
        offset = self.epoch * self.num_samples
        order = super().__iter__()
        return (offset + index for index in order)


class Folder(AnnotatedDataModule):
    """Images in root/{train,val,test}/class/, masks in mask_root/{train,val,test}/class/ under the same names, as PNG.

    Where there is no test folder (as in ImageNet), val is the test split, and a share `holdout` of the training images,
    decided by their ids, is the validation split. Images without a mask have an empty object mask; `setup` says how
    many have one. Views are those of torchvision's reference training: a random crop of 8 to 100 % of the area and a
    flip for training; for evaluation the shorter side resized to 256/224 of `image_size`, and the centre. Masks are
    resized to the nearest pixel.

    Args:
        root: folder of the images.
        mask_root: folder of the masks; None where there are none.
        mask_code: "binary" (not black is the object) or "imagenet_s"; see `image_files.read_mask`.
        image_size: side of the square images, at least 32.
        holdout: share of the training images held out for validation where there is no test folder, in (0, 1).
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        seed: at least 0; decides the hold-out and, unless `order_seed` is set to another number afterwards, training
            order and crops.
        mean: of the training pixels, in [0, 1].
        std: their standard deviation.

    Raises:
        FileNotFoundError: the folders are missing or empty.
        ValueError: an argument leaves its range.
    """

    def __init__(
        self,
        root: str,
        mask_root: str | None = None,
        *,
        mask_code: MaskCode = "binary",
        image_size: int = 224,
        holdout: float = 0.02,
        batch_size: int = 64,
        num_workers: int = 2,
        seed: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        check_at_least("image_size", image_size, 32)
        check_at_least("batch_size", batch_size, 1)
        check_at_least("num_workers", num_workers, 0)
        check_at_least("seed", seed, 0)
        if not 0.0 < holdout < 1.0:
            raise ValueError(f"holdout must lie in (0, 1), got {holdout}; 0.02 holds out one training image in fifty.")
        self.root, self.mask_root = Path(root), None if mask_root is None else Path(mask_root)
        if self.mask_root is not None and not self.mask_root.is_dir():
            raise FileNotFoundError(f"mask_root must be a folder of masks, got '{mask_root}', which is none; check it.")
        self.class_names = list_classes(self.root / "train")
        self.num_classes = len(self.class_names)
        self.mask_code: MaskCode = mask_code
        self.image_size, self.holdout = image_size, holdout
        self.batch_size, self.num_workers = batch_size, num_workers
        self.seed = self.order_seed = seed
        self.mean, self.std = mean, std
        self._files: dict[str, list[ImageFile]] = {}

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, sorted by path.

        Raises:
            FileNotFoundError, ValueError: they cannot be listed; see `image_files.list_images`.
            ValueError: the hold-out leaves no image for validation, or none for training.
        """
        if (self.root / "test").is_dir():
            return self._listed(split)
        if split == "test":
            return self._listed("val")
        training = self._listed("train")
        ids = torch.tensor([file.id for file in training])
        held_out = draw_uniform(self.seed, ids, "holdout") < self.holdout
        chosen = [file for file, is_held in zip(training, held_out, strict=True) if is_held == (split == "val")]
        if not chosen:
            raise ValueError(
                f"holdout {self.holdout} of {len(training)} training images leaves none for the split '{split}'; "
                f"choose another share, or make a folder '{self.root / 'test'}'."
            )
        return chosen

    def setup(self, stage: str | None = None) -> None:
        """List the files of the splits that `stage` needs, and tell how many of them have a mask."""
        for split in SPLITS_OF_STAGE[stage]:
            files = self.files(split)
            annotated = sum(file.mask is not None for file in files)
            rank_zero_info(f"{split}: {len(files)} images, {annotated} with an object mask")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, cropped and flipped batches, a function of (order_seed, epoch) alone."""
        dataset = FolderDataset(self.files("train"), self.mask_code, self.image_size, self.order_seed)
        return self._loader(dataset, AugmentedEpochSampler(len(dataset), self.order_seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation split, in order of paths."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test split, in order of paths."""
        return self._evaluation_loader("test")

    def training_batches(self) -> DataLoader[Batch]:
        """Batches of the training split in order of paths, in the view of evaluation."""
        return self._evaluation_loader("train")

    def _listed(self, folder: str) -> list[ImageFile]:
        if folder not in self._files:
            labels = {name: label for label, name in enumerate(self.class_names)}
            self._files[folder] = list_images(self.root, folder, self.mask_root, labels)
        return self._files[folder]

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        return self._loader(FolderDataset(self.files(split), self.mask_code, self.image_size))

    def _loader(self, dataset: FolderDataset, sampler: EpochSampler | None = None) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )


def training_view(image_size: int) -> v2.Transform:
    """A random crop of 8 to 100 % of the area, resized to `image_size`, and a flip in half of the cases."""
    return v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()])


def evaluation_view(image_size: int) -> v2.Transform:
    """The shorter side resized to 256/224 of `image_size`, then the square of that size at the centre."""
    return v2.Compose([v2.Resize(round(image_size * _RESIZED_OVER_CROPPED)), v2.CenterCrop(image_size)])


def _geometry_key(seed: int, sample_id: int, epoch: int) -> int:
    keys = fold_in(fold_in(sample_keys(seed, torch.tensor([sample_id])), _GEOMETRY), epoch)
    return int(keys)
