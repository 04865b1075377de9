"""Image folders with a parallel tree of object masks: ImageNet with ImageNet-S, or one's own images."""

from pathlib import Path

from augment.policy import IMAGENET_MEAN
from lm_modules.classifier import IMAGENET_STD
from train.data.base import Split
from train.data.file_data import FileDataModule
from train.data.image_files import ImageFile, MaskCode, list_classes, list_images


class Folder(FileDataModule):
    """Images in root/{train,val,test}/class/, masks in mask_root/{train,val,test}/class/ under the same names, as PNG.

    Where there is no test folder (as in ImageNet), val is the test split, and a share `holdout` of the training images,
    decided by their ids, is the validation split. Images without a mask have an empty object mask; `setup` says how
    many have one. Views are those of torchvision's reference training: a random crop of 8 to 100 % of the area and a
    flip for training; for evaluation the shorter side resized to 256/224 of `image_size`, and the centre. Masks are
    resized to the nearest pixel.

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
        super().__init__(mask_code, image_size, holdout, batch_size, num_workers, seed, mean, std)
        self.root, self.mask_root = Path(root), None if mask_root is None else Path(mask_root)
        if self.mask_root is not None and not self.mask_root.is_dir():
            raise FileNotFoundError(f"mask_root must be a folder of masks, got '{mask_root}', which is none; check it.")
        self.class_names = list_classes(self.root / "train")
        self.num_classes = len(self.class_names)
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
        chosen = self.hold_out(training)[split == "val"]
        if not chosen:
            raise ValueError(
                f"holdout {self.holdout} of {len(training)} training images leaves none for the split '{split}'; "
                f"choose another share, or make a folder '{self.root / 'test'}'."
            )
        return chosen

    def _listed(self, folder: str) -> list[ImageFile]:
        if folder not in self._files:
            labels = {name: label for label, name in enumerate(self.class_names)}
            self._files[folder] = list_images(self.root, folder, self.mask_root, labels)
        return self._files[folder]
