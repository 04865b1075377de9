"""Image folders with a parallel tree of object masks: ImageNet with ImageNet-S, or one's own images."""

from pathlib import Path
from typing import get_args

from pytorch_lightning.utilities import rank_zero_warn

from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.classifier import IMAGENET_STD
from maskrobust.train.data.base import Split
from maskrobust.train.data.file_data import FileDataModule
from maskrobust.train.data.image_files import IMAGE_SUFFIXES, ImageFile, MaskCode, list_classes, list_images
from maskrobust.train.plain_text import printable

_SPLIT_FOLDERS: tuple[Split, ...] = get_args(Split)


class Folder(FileDataModule):
    """Images in root/{train,val,test}/class/, masks in mask_root/{train,val,test}/class/ under the same names, as PNG.

    Where there is no test folder (as in ImageNet), val is the test split, and a share `holdout` of the training images,
    decided by their ids, is the validation split. Images without a mask have an empty object mask; `setup` says how
    many have one. Views are those of torchvision's reference training: a random crop of 8 to 100 % of the area and a
    flip for training; for evaluation the shorter side resized to 256/224 of `image_size`, and the centre. Masks are
    resized to the nearest pixel. Files whose suffix is none of `image_files.IMAGE_SUFFIXES` are passed over with a
    warning.

    Args:
        root: folder of the images.
        mask_root: folder of the masks; None where there are none.
        mask_code: "binary" (not black is the object), "imagenet_s" or "trimap"; see `image_files.decode_mask`.
        image_size: side of the square images, at least 32.
        holdout: share of the training images held out for validation where there is no test folder, in (0, 1).
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.
        seed: at least 0; decides the hold-out and, unless `order_seed` is set to another number afterwards, training
            order and crops.
        mean: of the training pixels, in [0, 1].
        std: their standard deviation.

    Raises:
        MissingFileError: the folders are missing or empty.
        InputError: an argument leaves its range, or mask_root is not laid out as root is.
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
        super().__init__(mask_code, image_size, holdout, batch_size, num_workers, seed, mean, std)
        self.root, self.mask_root = Path(root), None if mask_root is None else Path(mask_root)
        self._check_masks()
        self.class_names = list_classes(self.root / "train")
        self.num_classes = len(self.class_names)
        self._files: dict[str, list[ImageFile]] = {}

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, sorted by path.

        Raises:
            MissingFileError, InputError: they cannot be listed; see `image_files.list_images`.
            InputError: the hold-out leaves no image for validation, or none for training; a class has no training
                image; or there are masks for the split, but none under the name of an image.
        """
        if (self.root / "test").is_dir():
            return self._listed(split)
        if split == "test":
            return self._listed("val")
        training = self._listed("train")
        chosen = self.hold_out(training)[split == "val"]
        if not chosen:
            raise InputError(
                f"holdout {self.holdout} of {len(training)} training images leaves none for the split '{split}'; "
                f"choose another share, or make a folder '{self.root / 'test'}'."
            )
        return chosen

    def _listed(self, folder: str) -> list[ImageFile]:
        if folder not in self._files:
            labels = {name: label for label, name in enumerate(self.class_names)}
            files, others = list_images(self.root, folder, self.mask_root, labels)
            self._check_files(files, folder)
            if others:
                count, first = f"{len(others)} file{'s' * (len(others) > 1)}", printable(str(others[0]))
                rank_zero_warn(
                    f"{folder}: passed over {count}, first '{first}', with a suffix that is none of "
                    f"{', '.join(IMAGE_SUFFIXES)}; convert what is an image, and remove the rest."
                )
            self._files[folder] = files
        return self._files[folder]

    def _check_masks(self) -> None:
        if self.mask_root is None:
            return
        if not self.mask_root.is_dir():
            raise MissingFileError(
                f"mask_root must be a folder of masks, got '{self.mask_root}', which is none; check it."
            )
        if not any((self.mask_root / split).is_dir() for split in _SPLIT_FOLDERS):
            raise InputError(
                f"mask_root must hold folders {', '.join(_SPLIT_FOLDERS)} as root does, but '{self.mask_root}' has "
                "none; lay the masks out as the images are."
            )

    def _check_files(self, files: list[ImageFile], folder: str) -> None:
        empty = set(range(self.num_classes)) - {file.label for file in files}
        if folder == "train" and empty:
            name = self.class_names[min(empty)]
            raise InputError(
                f"every class must have training images, but '{self.root / folder / name}' holds none; remove it, or "
                "add some."
            )
        if self.mask_root is None or not (self.mask_root / folder).is_dir():
            return
        if all(file.mask is None for file in files):
            example = (self.mask_root / files[0].image.relative_to(self.root)).with_suffix(".png")
            raise InputError(
                f"'{self.mask_root / folder}' must hold the mask of '{files[0].image}' as '{example}', but holds none "
                "under the name of an image; rename the masks."
            )
