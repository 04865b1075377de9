"""Read files for predictions: the picture that a network's training would have shown, and what is visible of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from maskrobust.augment import Batch
from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.train.data.files.file_data import images_below
from maskrobust.train.data.files.image_files import id_of
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.loading import collate
from maskrobust.train.data.pipelines import Geometry, View


class PictureFile(NamedTuple):
    """A file to predict.

    Attributes:
        path: the file.
        name: its path below the folder that was named, or its own name; by that its visible pixels are known.
    """

    path: Path
    name: Path


class ReadPictures(NamedTuple):
    """Files that belong together.

    Attributes:
        batch: pictures of those that can be read, as uint8; None where there is none.
        errors: for each file why it cannot be read; empty where it can.
    """

    batch: Batch | None
    errors: Sequence[str]


def list_pictures(given: Iterable[Path]) -> list[PictureFile]:
    """The files that are named, and the images at any depth of the folders that are, each once.

    Raises:
        MissingFileError: a file is missing, or a folder holds no image.
    """
    found: dict[Path, PictureFile] = {}
    for path in given:
        if not path.is_dir():
            if not path.is_file():
                raise MissingFileError(
                    f"'{path}' must be an image or a folder with images, but does not exist; check the path."
                )
            found[path] = PictureFile(path, Path(path.name))
            continue
        images = images_below(path, path, None, 0)
        found |= {each.image: PictureFile(each.image, each.image.relative_to(path)) for each in images}
    return [*found.values()]


class Pictures(Dataset[Batch]):
    """Files as a network sees them.

    Args:
        files: the files.
        reading: how files are read.
        shown: how the network wants to be shown them; its size must be known.
    """

    def __init__(self, files: Sequence[PictureFile], reading: Reading, shown: Preprocessing) -> None:
        assert shown.size is not None
        self.files, self.reading, self.side = files, reading, max(shown.size)
        self.view = Geometry(v2.Resize(round(self.side / shown.crop)), v2.CenterCrop(self.side))  # as in evaluation

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        """One picture: a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: it cannot be read, or no pixel in the square at its centre is visible.
        """
        file = self.files[index]
        image, known = self.reading.read(file.path, file.name.as_posix())
        view = View(image, torch.zeros_like(image[:1], dtype=torch.bool), known)
        image, nothing, visible, _ = self.view(view)
        if visible is not None and not visible.any():
            raise InputError(f"no pixel of '{file.path}' is visible in the square at its centre; leave it out.")
        return Batch(torch.tensor(id_of(file.name)), image, nothing, torch.tensor(-1), visible)

    def __getitems__(self, indices: Sequence[int]) -> ReadPictures:
        """Several files; `DataLoader` calls this in place of one call for each."""
        read, errors = list[Batch](), list[str]()
        for index in indices:
            try:
                read.append(self[index])
                errors.append("")
            except InputError as error:
                errors.append(str(error))
        return ReadPictures(collate(read) if read else None, errors)
