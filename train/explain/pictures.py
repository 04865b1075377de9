"""Image files as the squares that are explained, and their segments."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.train.data.image_files import IMAGE_SUFFIXES, decode_image, decode_label_map, read_file
from maskrobust.train.data.views import evaluation_geometry
from maskrobust.train.explain.config import ExplainConfig


class Picture(NamedTuple):
    """An image that is explained.

    Attributes:
        name: of its file, without the suffix.
        pixels: (3, S, S) uint8, the square at its centre.
        size: (H, W) of the whole image.
    """

    name: str
    pixels: Tensor
    size: tuple[int, int]


def list_pictures(given: Sequence[Path]) -> dict[str, Path]:
    """The image files that are named, and those that lie in the folders that are, by their name without suffix.

    Raises:
        MissingFileError: a file is missing, or a folder holds no image.
        InputError: two images have the same name.
    """
    found: dict[str, Path] = {}
    for path in given:
        files = [path] if path.is_file() else sorted(_images_in(path)) if path.is_dir() else []
        if not files:
            what = "holds none" if path.is_dir() else "does not exist"
            raise MissingFileError(f"'{path}' must be an image or a folder with images, but it {what}; check --images.")
        for file in files:
            if file.stem in found:
                raise InputError(
                    f"images must have different names, got '{found[file.stem]}' and '{file}'; rename one of them."
                )
            found[file.stem] = file
    return found


def _images_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]


def read_picture(name: str, path: Path, image_size: int) -> Picture:
    """Read an image, turned as its EXIF orientation says, and cut out its centre; see `views.evaluation_view`.

    Raises:
        InputError: the file cannot be read.
    """
    whole = decode_image(read_file(path), str(path))
    seen: Tensor = evaluation_geometry(image_size)(tv_tensors.Image(whole)).as_subclass(Tensor)
    return Picture(name, seen, (whole.shape[1], whole.shape[2]))


def segment(picture: Picture, name: str, config: ExplainConfig) -> Segments:
    """One segmentation of a picture.

    Args:
        picture: to segment.
        name: one of `config.segments`.
        config: says the size of patches, and whether superpixels are the paper's.

    Raises:
        InputError: a label map is unreadable, is none, or has another size than the image; or there are less than two
            segments.
    """
    images = picture.pixels.unsqueeze(0)
    if name == "patches":
        return Segments.patches(images, config.patch_size)
    if name in ("slic", "quickshift"):
        make = Segments.paper_superpixels if config.design == "paper" else Segments.superpixels
        return make(images, name)  # type: ignore[arg-type]
    labels = read_label_map(Path(name))
    if labels.shape != picture.size:
        raise InputError(
            f"the label map '{name}' must have the size of the image '{picture.name}', {picture.size}, got "
            f"{tuple(labels.shape)}; make it again from that image."
        )
    seen = evaluation_geometry(config.image_size)(tv_tensors.Mask(labels.unsqueeze(0))).as_subclass(Tensor)
    return Segments(seen.unique(return_inverse=True)[1])


@cache
def read_label_map(path: Path) -> Tensor:
    """A label map (H, W) int64 from a PNG or an npy file; the segments of the whole image are checked.

    Raises:
        InputError: it is no label map, or its numbers are not those from 0 on without a gap.
    """
    if path.suffix == ".npy":
        try:
            numbers = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"'{path}' cannot be read as a label map ({error}); save it with numpy.save.") from error
        if numbers.dtype.kind not in "iu" or numbers.ndim != 2:
            raise InputError(
                f"a label map must hold integers (H, W), got {numbers.dtype} {numbers.shape} in '{path}'; convert it."
            )
        labels = torch.from_numpy(numbers.astype(np.int64))
    else:
        labels = decode_label_map(read_file(path), "palette", str(path)).long()
    try:
        return Segments(labels.unsqueeze(0)).labels[0]
    except InputError as error:
        raise InputError(f"'{path}' is no label map: {error}") from error
