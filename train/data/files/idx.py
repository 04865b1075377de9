"""Fashion-MNIST's four files in MNIST's format IDX: where they are found, and how they are read and checked."""

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

GARMENT_CLASSES = 10
"""Number of Fashion-MNIST's classes."""

OFFICIAL_SIZES: dict[OfficialSplit, int] = {"train": 60_000, "test": 10_000}
"""Number of garments in the official files."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

_PREFIXES: dict[OfficialSplit, str] = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_LAYOUTS = (".", "FashionMNIST/raw", "usr/share/datasets/fashion-mnist")


def find_files(root: str | Path | None) -> Path:
    """The folder that holds the four files.

    Args:
        root: the folder itself, or one in which torchvision (FashionMNIST/raw) or an unpacked Debian package
            (usr/share/datasets/fashion-mnist) has put the files. None for Debian's folder, or else the cache folder
            `maskrobust` beside torch hub's (normally below ~/.cache/torch), which torchvision fills on first use.

    Raises:
        MissingFileError: `root` lacks one of the files; or they are in neither folder, and the download failed.
    """
    if root is None:
        cache = Path(torch.hub.get_dir()).parent / "maskrobust"
        return _find_below(DEBIAN_FOLDER) or _find_below(cache) or _download(cache)
    folder = _find_below(Path(root)) if str(root) else None
    if folder is None:
        raise MissingFileError(
            f"root must hold the four files of Fashion-MNIST (train- and t10k-, {_IMAGES} and {_LABELS}, each plain or "
            f".gz) in the folder itself or in {' or '.join(_LAYOUTS[1:])} below it, but {str(root)!r} does not; "
            "correct the path, or leave root out to search the usual places."
        )
    return folder


def read_garments(folder: Path, split: OfficialSplit) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images and labels of one of the two official splits.

    Args:
        folder: holds the files, as `find_files` returns it.
        split: "train" or "test".

    Returns:
        Images (N, 28, 28) uint8, 0 for the empty ground, and labels (N,) int64 in [0, 10).

    Raises:
        MissingFileError: a file is missing.
        InputError: a file is damaged, or does not hold what its name says.
    """
    images = _read_idx(folder / f"{_PREFIXES[split]}-{_IMAGES}", (28, 28), OFFICIAL_SIZES[split])
    labels = _read_idx(folder / f"{_PREFIXES[split]}-{_LABELS}", (), OFFICIAL_SIZES[split])
    if len(images) != len(labels) or (labels >= GARMENT_CLASSES).any():
        raise InputError(
            f"'{folder}' must hold a label below {GARMENT_CLASSES} for each of the {len(images)} images of the "
            f"official {split} split, got {len(labels)} labels up to {labels.max(initial=0)}; fetch the files again."
        )
    return images, labels.astype(np.int64)


def _read_idx(path: Path, shape: tuple[int, ...], most: int) -> NDArray[np.uint8]:
    """The items (N, *shape) of a file of bytes (http://yann.lecun.com/exdb/mnist), plain or .gz, with N <= `most`.

    No more than `most` items are taken into memory, whatever the header says or a .gz expands to.
    """
    found = _existing(path)
    if found is None:
        raise MissingFileError(f"'{path}' must exist, plain or as .gz; put it there.")
    kind, sides = bytes((0, 0, 8, 1 + len(shape))), np.array(shape, dtype=">u4").tobytes()
    start, item = 8 + len(sides), math.prod(shape)
    try:
        with (gzip.open if found.suffix == ".gz" else open)(found, "rb") as file:
            content = file.read(start + most * item + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{found} must be a whole gzip file, but is damaged ({error}); fetch the file again."
        ) from error
    count = int.from_bytes(content[4:8], "big")
    if content[:4] != kind or content[8:start] != sides or len(content) != start + count * item:
        raise InputError(
            f"{found} must be an IDX file of bytes that holds as many items of shape {shape} as its header states, "
            f"at most {most}, but is not; fetch the file again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(count, *shape)


def _find_below(root: Path) -> Path | None:
    names = [f"{prefix}-{kind}" for prefix in _PREFIXES.values() for kind in (_IMAGES, _LABELS)]
    folders = (root / layout for layout in _LAYOUTS)
    return next((folder for folder in folders if all(_existing(folder / name) for name in names)), None)


def _existing(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(f"{path.name}.gz")) if each.is_file()), None)


def _download(cache: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(cache), download=True)
    except (OSError, RuntimeError) as error:
        raise MissingFileError(
            f"Fashion-MNIST was not found, and torchvision could not download it into '{cache}' ({error}); give its "
            "folder as root, or install Debian's package dataset-fashion-mnist."
        ) from error
    return find_files(cache)
