"""`Folder`: a user's own images in folders of classes, with optional object masks."""

from pathlib import Path
from typing import Any

from maskrobust.errors import InputError, MissingFileError, check_within
from maskrobust.lm_modules.networks.class_matching import first_few
from maskrobust.train.data.base import ALL_SPLITS
from maskrobust.train.data.files.file_data import FileDataModule, train_val_split, warn_of_skipped
from maskrobust.train.data.files.image_files import ImageFile, list_classes, list_images
from maskrobust.train.data_options import Split

_REMEDIES: dict[Split, str] = {
    "train": "check root, or add the training images",
    "val": "add it, or set val_fraction to validate on a fraction of the training images",
    "test": "add it, or choose the split val",
}


class Folder(FileDataModule):
    """Images in root/{train,val,test}/class/, masks in mask_root/{train,val,test}/class/ under the same names, as PNG.

    With `val_fraction` classes may also lie in root/class/, without splits. A split needs its folder only when it is
    used. With `val_fraction`, the validation split is that fraction of the training images instead, decided by their
    ids; where there is no test folder, val/ is then the test split (as is usual for ImageNet, whose test labels are not
    public). Images without a mask have an empty object mask; `setup` logs how many have one. Files with another suffix
    than `image_files.IMAGE_SUFFIXES` are skipped with a warning. Views are those of `FileDataModule`.

    Args:
        root: folder of the images.
        mask_root: folder of the masks; None where there are none.
        val_fraction: fraction of the training images that make the validation split, in (0, 1); None to validate on
            the images in val/.
        objects: which images show one object, such as the frames of a film: a CSV file whose first line is
            `image,object`, by the path of an image below root, with or without suffix; or a regular expression, whose
            first group in that path names the object. None where every image shows another one.
        options: mask_code, image_size, batch_size, num_workers, seed, mean, std, transform, visible,
            value_range, show_bands and on_bad; see `FileDataModule`. The seed decides the validation split of
            `val_fraction`, too.

    Raises:
        MissingFileError: the folders are missing or empty.
        InputError: an argument leaves its range, mask_root is not laid out as root is, or `val_fraction` is given
            although there are both val/ and test/.
    """

    def __init__(
        self,
        root: str,
        mask_root: str | None = None,
        *,
        val_fraction: float | None = None,
        objects: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root, self.mask_root = Path(root), None if mask_root is None else Path(mask_root)
        self.val_fraction = val_fraction
        self._take_objects(objects)
        self._folders = _folders_of_splits(self.root, val_fraction)
        split_names = (".",) if "." in self._folders.values() else ALL_SPLITS
        if self.mask_root is not None and not any((self.mask_root / each).is_dir() for each in split_names):
            raise MissingFileError(
                f"mask_root must hold {', '.join(ALL_SPLITS)} as root does, but '{mask_root}' holds none; check it."
            )
        first = next(iter(self._folders.values()))
        self.class_names = list_classes(self.root / first)
        self.num_classes = len(self.class_names)
        self._files: dict[str, list[ImageFile]] = {}

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits whose folders exist."""
        return tuple(self._folders)

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, sorted by path.

        Raises:
            MissingFileError, InputError: they cannot be listed; see `image_files.list_images`.
            InputError: `val_fraction` leaves a split empty; a class has no training image; or mask_root has a folder
                for the split, but no mask under the name of an image, or one mask for two images.
        """
        if split not in self._folders:
            raise MissingFileError(
                f"the split '{split}' needs the folder '{self.root / split}', which does not exist; {_REMEDIES[split]}."
            )
        files = self._listed(self._folders[split])
        if self.val_fraction is None or split == "test":
            return files
        return train_val_split(files, self.val_fraction, self.seed)[split == "val"]

    def _listed(self, folder: str) -> list[ImageFile]:
        if folder not in self._files:
            labels = {name: label for label, name in enumerate(self.class_names)}
            files, others = list_images(self.root, folder, self.mask_root, labels)
            self._check_files(files, folder)
            warn_of_skipped(folder, others)
            self._files[folder] = files
        return self._files[folder]

    def _check_files(self, files: list[ImageFile], folder: str) -> None:
        empty = set(range(self.num_classes)) - {file.label for file in files}
        if folder in ("train", ".") and empty:
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
        first: dict[object, ImageFile] = {}
        for file in files:
            if file.mask is not None and first.setdefault(file.mask, file) is not file:
                raise InputError(
                    f"every image must have a mask of its own, but '{first[file.mask].image}' and '{file.image}' both "
                    f"have '{file.mask}'; rename one of them."
                )


def _folders_of_splits(root: Path, val_fraction: float | None) -> dict[Split, str]:
    """The folder that each split is read from, of those that exist; "." where the classes lie in root itself."""
    if not root.is_dir():
        raise MissingFileError(f"root must be a folder of images, but '{root}' does not exist; check the path.")
    found: dict[Split, str] = {split: split for split in ALL_SPLITS if (root / split).is_dir()}
    if not found and val_fraction is not None and any(root.glob("[!.]*/")):
        check_within("(0, 1)", "val_fraction", val_fraction)
        return {"train": ".", "val": "."}
    if not found:
        inside = first_few(sorted(path.name for path in root.glob("[!.]*/")))
        raise MissingFileError(
            f"root must hold the folders {', '.join(ALL_SPLITS)}, or those in use, with a folder for each class, but "
            f"'{root}' holds {inside or 'none'}; give the folder above it, or if these are classes set val_fraction to "
            "0.2, say, to validate on a fraction of their images."
        )
    if val_fraction is None:
        return found
    check_within("(0, 1)", "val_fraction", val_fraction)
    if "val" in found and "test" in found:
        raise InputError(
            f"val_fraction {val_fraction} would leave the images in '{root / 'val'}' unused, as "
            f"'{root / 'test'}' is the test split; leave val_fraction out."
        )
    folders: dict[Split, str | None] = {"train": found.get("train"), "val": found.get("train")}
    folders["test"] = found.get("test", found.get("val"))
    return {split: folder for split, folder in folders.items() if folder is not None}
