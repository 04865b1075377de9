"""Fashion-MNIST's files: where they are found, and how they are read and checked."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from maskrobust.errors import InputError, MissingFileError

OfficialSplit = Literal["train", "test"]

GARMENT_SIDE = 28
"""Side of Fashion-MNIST's images in pixels."""

GARMENT_CLASSES = 10
"""Number of Fashion-MNIST's classes."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

_LARGEST_FILE = 128 * 2**20  # uncompressed; Fashion-MNIST's largest has 45 MiB

_FILE_NAMES: dict[OfficialSplit, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_LAYOUTS = (".", "FashionMNIST/raw", "usr/share/datasets/fashion-mnist")
_EXPECTED = (
    "the four files of Fashion-MNIST (train- and t10k-, images-idx3-ubyte and labels-idx1-ubyte, each plain or .gz) "
    "in the folder itself, in FashionMNIST/raw or in usr/share/datasets/fashion-mnist below it"
)


def find_given(root: str | Path) -> Path:
    """The folder at or below `root` that holds the four files.

    Args:
        root: the folder that holds the files, or one in which torchvision (FashionMNIST/raw) or an unpacked Debian
            package (usr/share/datasets/fashion-mnist) laid them.

    Raises:
        MissingFileError: `root` does not exist, or does not hold all four files.
    """
    folder = _find_below(Path(root)) if str(root) else None
    if folder is None:
        raise MissingFileError(
            f"root must hold {_EXPECTED}, but {str(root)!r} does not; "
            "correct the path, or leave root out to search the usual places."
        )
    return folder


def find_or_download() -> Path:
    """The folder that holds the four files: Debian's, or a cache folder that torchvision fills on first use.

    The cache lies beside torch hub's, in `maskrobust` (normally below ~/.cache/torch).

    Raises:
        MissingFileError: neither is there, and the download failed.
    """
    cache = Path(torch.hub.get_dir()).parent / "maskrobust"
    folder = _find_below(DEBIAN_FOLDER) or _find_below(cache)
    if folder is None:
        _download(cache)
        folder = find_given(cache)
    return folder


def read_garments(folder: Path, split: OfficialSplit) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and labels of one of the two official splits.

    Args:
        folder: holds the files, as `find_given` and `find_or_download` return it.
        split: "train" or "test".

    Returns:
        Images (N, 28, 28) uint8, 0 for the empty ground, and labels (N,) int64 in [0, 10).

    Raises:
        InputError: a file is damaged, or is not what its name says; the message names the file.
    """
    images_path, labels_path = (_existing(folder / name) for name in _FILE_NAMES[split])
    if images_path is None or labels_path is None:
        raise MissingFileError(f"{folder} must hold {' and '.join(_FILE_NAMES[split])}, plain or .gz; put them there.")
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
    if images.shape[1:] != (GARMENT_SIDE, GARMENT_SIDE):
        raise InputError(
            f"{images_path} must hold images of {GARMENT_SIDE}x{GARMENT_SIDE} pixels, "
            f"but they are {images.shape[1]}x{images.shape[2]}; fetch the file again."
        )
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path} must hold one label for each of the {len(images)} images in {images_path.name}, "
            f"but holds {len(labels)}; fetch both files again."
        )
    if (labels >= GARMENT_CLASSES).any():
        raise InputError(
            f"{labels_path} must hold labels below {GARMENT_CLASSES}, but holds {labels.max()}; fetch the file again."
        )
    return images, labels.astype(np.int64)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes (the format of MNIST: http://yann.lecun.com/exdb/mnist), compressed where named .gz.

    Args:
        path: the file.
        dimensions: number of dimensions it must have.

    Returns:
        uint8 array of the shape that the file's header states.

    Raises:
        InputError: the file is damaged, truncated, or has another type or number of dimensions.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{path} must be a whole gzip file, but is damaged ({error}); fetch the file again."
        ) from error
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{path} must hold at most {_LARGEST_FILE >> 20} MiB, but holds more; fetch the file again.")
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(
            f"{path} must be an IDX file of bytes with {dimensions} dimension(s), "
            f"but begins with {content[:4].hex(' ') or 'nothing'}; fetch the file again."
        )
    shape = tuple(int(side) for side in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    if len(content) - header != math.prod(shape):
        raise InputError(
            f"{path} must hold {math.prod(shape)} bytes after its header, "
            f"but holds {len(content) - header}; fetch the file again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _find_below(root: Path) -> Path | None:
    names = [name for pair in _FILE_NAMES.values() for name in pair]
    for layout in _LAYOUTS:
        if all(_existing(root / layout / name) for name in names):
            return root / layout
    return None


def _existing(path: Path) -> Path | None:
    compressed = path.with_name(f"{path.name}.gz")
    return next((candidate for candidate in (path, compressed) if candidate.is_file()), None)


def _download(cache: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(cache), download=True)
    except (OSError, RuntimeError) as error:
        raise MissingFileError(
            "Fashion-MNIST was not found: give its folder as root, or install Debian's package dataset-fashion-mnist, "
            f"or let torchvision download it into {cache}, which failed just now ({error})."
        ) from error
