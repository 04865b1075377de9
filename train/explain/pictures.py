"""Read the images to explain, from files or from data, and cut them into segments."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import in_unit_range
from maskrobust.augment.families.superpixels import SegmentationMethod
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.files.image_files import id_of
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.pipelines import View
from maskrobust.train.data.transforms import Transform
from maskrobust.train.data_options import Split
from maskrobust.train.explain.config import QUICK_PATCHES, ExplainConfig, Segmentation
from maskrobust.train.predict.pictures import list_pictures as list_files

_LONGEST_NAME = 100
"""Bytes of a name, to which files add what they are."""


class Picture(NamedTuple):
    """An image that is explained.

    Attributes:
        name: name of its file (without the suffix) or of its sample; no two of a call have the same.
        image: (3, H, W) float32 in [0, 1]; of a file the square at its centre.
        id: int64, decides queries and random fills together with the seed.
        whole_size: (height, width) of the file's image.
        label: class of the data, -1 for a file.
        object_mask: (H, W) bool, True on the object; all False where there is none.
        known: (1, H, W) bool, what may be seen of it; None for all.
        show_bands: bands that pictures of it show; see `in_colours`.
    """

    name: str
    image: Tensor
    id: int
    whole_size: tuple[int, int]
    label: int
    object_mask: NDArray[np.bool_]
    known: Tensor | None = None
    show_bands: Sequence[int] | None = None


def list_pictures(given: Sequence[Path]) -> dict[str, Path]:
    """The image files that are named, and those at any depth of the folders that are, by their name without suffix.

    Raises:
        MissingFileError: a file is missing, or a folder holds no image.
        InputError: two images have the same name.
    """
    found: dict[str, Path] = {}
    for path, name in list_files(given):
        if name.stem in found:
            raise InputError(
                f"images must have different names, got '{found[name.stem]}' and '{path}'; rename one of them."
            )
        found[name.stem] = path
    return found


def read_picture(name: str, path: Path, image_size: int, reading: Reading) -> Picture:
    """Read an image, turned as its EXIF orientation says, and cut out its centre; see `Transform`.

    Raises:
        InputError: the file cannot be read, or no pixel is visible.
    """
    found = square_picture(name, *reading.read(path, path.name), image_size, id_of(Path(path.name)))
    return found._replace(show_bands=reading.show_bands)


def square_picture(name: str, whole: Tensor, known: Tensor | None, image_size: int, identity: int = 0) -> Picture:
    """The square at the centre of an image (3, H, W) uint8, as the recipe "none" of `Transform` sees it.

    Raises:
        InputError: no pixel of the square is visible, by `known`, (1, H, W) bool.
    """
    view = View(whole, torch.zeros_like(whole[:1], dtype=torch.bool), known)
    seen, _, known, _ = Transform("none", image_size)(view)
    if known is not None and not known.any():
        raise InputError(f"no pixel of '{name}' is visible in the square at its centre; choose another picture.")
    nothing = np.zeros(seen.shape[1:], dtype=np.bool_)
    return Picture(name, in_unit_range(seen), identity, (whole.shape[1], whole.shape[2]), -1, nothing, known)


def pictures_of(data: AnnotatedDataModule, split: Split, count: int) -> Iterator[Picture]:
    """The first pictures of a split, for which the data are set up, under their samples' names as `file_name` has them.

    A sample whose name another has had before it has its id behind it.
    """
    found, taken = 0, set[str]()
    for batch in (each.to("cpu") for each in data.whole_split(split)):
        for place, identity in enumerate(batch.ids.tolist()[: count - found]):
            image, label, inside = batch.images[place], int(batch.labels[place]), batch.object_mask[place, 0].numpy()
            name = file_name(data.sample_name(split, identity))
            name = f"{name}-{identity}" if name in taken else name
            taken.add(name)
            known = None if batch.visible is None else batch.visible[place]
            size = (image.shape[1], image.shape[2])
            yield Picture(name, image, identity, size, label, inside, known, data.show_bands)
        found += len(batch.ids)
        if found >= count:
            return


def file_name(name: str) -> str:
    """The end of a name as that of a file: a run of characters but letters, digits, "_" and "." becomes "-"."""
    return re.sub(r"[^\w.]+", "-", name).encode()[-_LONGEST_NAME:].decode(errors="ignore")


def segment(picture: Picture, name: Segmentation, config: ExplainConfig) -> Segments:
    """One segmentation of a picture.

    Args:
        picture: the picture to segment.
        name: name of the segmentation, one of `config.segments`.
        config: says the size of patches, and whether superpixels are the paper's.

    Raises:
        InputError: there are less than two segments.
    """
    images = picture.image.unsqueeze(0)
    if name == "patches":
        side = config.patch_size or -(-max(picture.image.shape[1:]) // QUICK_PATCHES)
        return Segments.patches(images, side)
    of_paper: dict[Segmentation, SegmentationMethod] = {"slic": "paper_slic", "quickshift": "paper_quickshift"}
    return Segments.superpixels(images, of_paper[name] if config.plan.design == "paper" else name)
