"""Read files for predictions: the picture that a network's training would have shown, and what is visible of it."""

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from maskrobust.augment import Batch
from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.train.data.files.file_data import warn_of_skipped
from maskrobust.train.data.files.image_files import (
    IMAGE_SUFFIXES,
    NoData,
    decode_image,
    decode_mask,
    decode_visible,
    id_of,
    list_folder,
    read_file,
)
from maskrobust.train.data.loading import collate, loading_options
from maskrobust.train.data.pipelines import Geometry, View

VisibleSource = NoData | Path
"""Which pixels may be seen: all but those of a no-data value, or fully transparent ones, or those of a mask's file."""


class PictureFile(NamedTuple):
    """A file to predict.

    Attributes:
        path: the file.
        name: its path below the folder that was named, or its own name; the path of its mask below the folder of masks
            is the same but for the suffix.
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
        images, others = list_folder(path, path, None, 0)
        warn_of_skipped(str(path), others)
        if not images:
            raise MissingFileError(
                f"'{path}' must hold images ({', '.join(IMAGE_SUFFIXES)}), but holds none; check the path."
            )
        found |= {each.image: PictureFile(each.image, each.image.relative_to(path)) for each in images}
    return [*found.values()]


def visible_source(given: str | float | Path | None) -> VisibleSource | None:
    """Where `visible` comes from, as a user names it: "alpha", a no-data value, or a folder of masks; None for all.

    Raises:
        MissingFileError, InputError: it is none of these.
    """
    if given is None or given == "alpha":
        return None if given is None else "alpha"
    try:
        value = float(given)  # type: ignore[arg-type]  # a path is no number
    except (TypeError, ValueError):
        folder = Path(str(given))
        if not folder.is_dir():
            raise MissingFileError(
                f"visible must be alpha, a no-data value such as 0, or a folder of masks, got '{given}'; name one."
            ) from None
        return folder
    if not 0 <= value < inf:
        raise InputError(f"visible must be a value of pixels, at least 0, got {given}; correct it.")
    return value


def read_picture(file: PictureFile, source: VisibleSource | None) -> tuple[Tensor, Tensor | None]:
    """A whole picture (3, H, W) uint8, and what is visible of it, (1, H, W) bool; None where all is.

    Raises:
        InputError: the file or its mask cannot be read, has no visible pixel, or the two differ in size.
    """
    content = read_file(file.path)
    image = decode_image(content, str(file.path))
    if source is None:
        return image, None
    if not isinstance(source, Path):
        return image, decode_visible(content, source, str(file.path))
    path = (source / file.name).with_suffix(".png")
    visible = decode_mask(read_file(path), "binary", str(path))
    if visible.shape[1:] != image.shape[1:]:
        raise InputError(
            f"'{path}' must have the size of its image, {tuple(image.shape[1:])} (height, width), got "
            f"{tuple(visible.shape[1:])}; make it again from that image."
        )
    return image, visible


class Pictures(Dataset[Batch]):
    """Files as a network sees them.

    Args:
        files: the files.
        source: where `visible` comes from; None where everything is.
        shown: how the network wants to be shown them; its size must be known.
    """

    def __init__(self, files: Sequence[PictureFile], source: VisibleSource | None, shown: Preprocessing) -> None:
        assert shown.size is not None
        self.files, self.source, self.side = files, source, max(shown.size)
        self.view = Geometry(v2.Resize(round(self.side / shown.crop)), v2.CenterCrop(self.side))  # as in evaluation

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Batch:
        """One picture: a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: it cannot be read, or no pixel in the square at its centre is visible.
        """
        file = self.files[index]
        image, known = read_picture(file, self.source)
        image, nothing, visible = self.view(View(image, torch.zeros_like(image[:1], dtype=torch.bool), known))
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


def read_batches(pictures: Pictures, batches: Iterable[Sequence[int]], num_workers: int) -> Iterable[ReadPictures]:
    """Batches of places among the files, read by so many processes; 0 reads in this one."""
    return DataLoader(pictures, batch_sampler=map(list, batches), **loading_options(num_workers))
