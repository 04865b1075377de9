"""`Pets`: Oxford-IIIT Pet, 37 breeds of cats and dogs, with the animal as the object."""

import re
from pathlib import Path
from typing import Any, Literal

from torchvision.datasets import OxfordIIITPet

from maskrobust.errors import InputError, MissingFileError, check_within
from maskrobust.train.data.files.file_data import FileDataModule, train_val_split
from maskrobust.train.data.files.image_files import ImageFile, id_of
from maskrobust.train.data_options import Split

_FOLDER = "oxford-iiit-pet"
"""Folder of torchvision's layout, below its root."""


class Pets(FileDataModule):
    """Oxford-IIIT Pet (Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", CVPR 2012) in torchvision's layout.

    The official test images are the test split. The official trainval images are divided by their ids into the training
    split and the validation split. A trimap's 1 (the animal) and 3 (its border) are the object: the border holds the
    outline and fur, which a hole along the outline must not leave visible. Views are those of `FileDataModule`.

    Args:
        root: folder with oxford-iiit-pet/images and oxford-iiit-pet/annotations below it.
        download: fetch what is missing through torchvision, about 800 MB.
        val_fraction: fraction of the trainval images that make the validation split, in (0, 1).
        options: image_size, batch_size, num_workers, seed, mean, std and visible; see `FileDataModule`. The seed
            decides the validation split, too.

    Raises:
        InputError: an argument leaves its range.
    """

    num_classes = 37
    class_names = (
        "Abyssinian", "American Bulldog", "American Pit Bull Terrier", "Basset Hound", "Beagle", "Bengal", "Birman",
        "Bombay", "Boxer", "British Shorthair", "Chihuahua", "Egyptian Mau", "English Cocker Spaniel",
        "English Setter", "German Shorthaired", "Great Pyrenees", "Havanese", "Japanese Chin", "Keeshond",
        "Leonberger", "Maine Coon", "Miniature Pinscher", "Newfoundland", "Persian", "Pomeranian", "Pug", "Ragdoll",
        "Russian Blue", "Saint Bernard", "Samoyed", "Scottish Terrier", "Shiba Inu", "Siamese", "Sphynx",
        "Staffordshire Bull Terrier", "Wheaten Terrier", "Yorkshire Terrier",
    )  # fmt: skip

    def __init__(self, root: str, *, download: bool = False, val_fraction: float = 0.1, **options: Any) -> None:
        super().__init__(mask_code="trimap", **options)
        check_within("(0, 1)", "val_fraction", val_fraction)
        self.root, self.download, self.val_fraction = Path(root), download, val_fraction
        self._files: dict[str, list[ImageFile]] = {}

    def prepare_data(self) -> None:
        """Download what is missing, where asked to. Lightning calls it in one process per node."""
        if self.download:
            OxfordIIITPet(self.root, download=True)

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, in the official order.

        Raises:
            MissingFileError: the files are missing.
            InputError: an official list cannot be read, or `val_fraction` leaves a split empty.
        """
        if split == "test":
            return self._listed("test")
        train, val = train_val_split(self._listed("trainval"), self.val_fraction, self.seed)
        return train if split == "train" else val

    def _listed(self, official: Literal["trainval", "test"]) -> list[ImageFile]:
        if official not in self._files:
            self._files[official] = _read_list(self.root / _FOLDER, official)
        return self._files[official]


def _read_list(folder: Path, official: str) -> list[ImageFile]:
    """The images of an official list, whose lines are: name, class from 1 on, species, breed."""
    path = folder / "annotations" / f"{official}.txt"
    if not path.is_file():
        raise MissingFileError(
            f"'{path}' must exist, but does not; set root to the folder that holds {_FOLDER}, or download to true."
        )
    files = []
    for line in path.read_text(encoding="utf-8", errors="backslashreplace").splitlines():
        name, label, *_ = [*line.split(), "", ""]
        if not (re.fullmatch("[0-9]{1,9}", label) and 1 <= int(label) <= Pets.num_classes):
            raise InputError(
                f"'{path}' must give each image a class from 1 to {Pets.num_classes}, got '{line}'; download it again."
            )
        if not re.fullmatch(r"[\w-]{1,200}", name, re.ASCII):
            raise InputError(f"'{path}' must name files by letters and digits, got '{name}'; download it again.")
        image, trimap = folder / "images" / f"{name}.jpg", folder / "annotations" / "trimaps" / f"{name}.png"
        for each in (image, trimap):
            if not each.is_file():
                raise MissingFileError(f"'{each}' must exist, for '{path}' lists it; unpack both archives again.")
        files.append(ImageFile(id_of(image.relative_to(folder)), image, trimap, int(label) - 1))
    return files
