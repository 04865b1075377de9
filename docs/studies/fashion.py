"""`Fashion`: Fashion-MNIST garments pasted on photographs, with their real outlines.

A data module from outside, for the studies beside it. In this folder every command knows it: `--data fashion.Fashion`.
"""

import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.random import draw_uniform
from maskrobust.errors import InputError, MissingFileError, check_at_least, check_within
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.train.data.base import InMemoryDataModule, as_float_images, drawn_batch, photographs
from maskrobust.train.data.files.photographs import (
    CROP_NUMBERS,
    LIGHT_NUMBERS,
    CropSource,
    random_crops,
)
from maskrobust.train.data_options import Split

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
    images = _read_idx(folder / f"{_PREFIXES[split]}-{_IMAGES}", (28, 28))
    labels = _read_idx(folder / f"{_PREFIXES[split]}-{_LABELS}", ())
    if len(images) != len(labels) or (labels >= GARMENT_CLASSES).any():
        raise InputError(
            f"'{folder}' must hold a label below {GARMENT_CLASSES} for each of the {len(images)} images of the "
            f"official {split} split, got {len(labels)} labels up to {labels.max(initial=0)}; fetch the files again."
        )
    return images, labels.astype(np.int64)


_read_once = lru_cache(maxsize=2)(read_garments)


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The items (N, *shape) of a file of bytes (http://yann.lecun.com/exdb/mnist), plain or .gz."""
    found = _existing(path)
    if found is None:
        raise MissingFileError(f"'{path}' must exist, plain or as .gz; put it there.")
    try:
        with (gzip.open if found.suffix == ".gz" else open)(found, "rb") as file:
            content = file.read()
        items = np.frombuffer(content, dtype=np.uint8, offset=8 + 4 * len(shape))
        return items.reshape(int.from_bytes(content[4:8], "big"), *shape)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise InputError(
            f"{found} must be an IDX file of bytes with items of shape {shape}, but is not ({error}); fetch it again."
        ) from error


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


BACKGROUNDS = tuple(
    CropSource(file_name, (0.3, 0.9))
    for file_name in (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "grass.png",
        "gravel.png",
        "motorcycle_left.png",
        "rocket.jpg",
    )
)
"""The photographs behind the garments."""

_FIRST_ID: dict[Split, int] = {"train": 0, "val": 0, "test": 60_000}
_SMALLEST_IMAGE = 32

PLACE_NUMBERS = 6
"""Uniform numbers that placing one garment takes."""

_NOISE = 3
_SPECK_FRACTION = 0.1
_SMALL_HOLE = 16
_SCALES = (0.9, 1.3)
_MARGIN = 1


class Fashion(InMemoryDataModule):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747) on crops of scikit-image's photographs.

    The files come from `root` where it is given, else from Debian's package dataset-fashion-mnist, else from a cache
    folder that torchvision fills. The official test images are the test split; validation and training share the
    official training images, no garment in both. Ids are positions in the official files, plus 60,000
    for the test file. Which garments are chosen, and the background, place, scale and tint
    of each, depend on (seed, id) alone.

    Args:
        root: folder with the four files, plain or .gz, or one with FashionMNIST/raw (torchvision's layout) or
            usr/share/datasets/fashion-mnist (an unpacked Debian package) below it; None to search the usual places.
        train_images: garments in the training split; together with `val_images` at most 60,000.
        val_images: garments in the validation split.
        test_images: garments in the test split, at most 10,000.
        image_size: side of the images in pixels, at least 32.
        batch_size: samples per batch.
        num_workers: loader processes.
        seed: decides the choice of garments, the images and the training order.

    Raises:
        MissingFileError: `root` is given and does not hold the files.
        InputError: a number is out of its range.
    """

    num_classes = GARMENT_CLASSES
    class_names = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
    mean = (0.51, 0.46, 0.45)
    std = (0.21, 0.21, 0.21)

    def __init__(
        self,
        root: str | Path | None = None,
        train_images: int = 12_000,
        val_images: int = 1_000,
        test_images: int = 3_000,
        image_size: int = 48,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self.split_sizes: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}
        for split, size in self.split_sizes.items():
            check_within(f"[1, {OFFICIAL_SIZES['test' if split == 'test' else 'train']}]", f"{split}_images", size)
        check_at_least("image_size", image_size, _SMALLEST_IMAGE)
        check_within(f"[2, {OFFICIAL_SIZES['train']}]", "train_images + val_images", train_images + val_images)
        self.root = root
        if root is not None:
            find_files(root)
        self.image_size = image_size

    def prepare_data(self) -> None:
        """Find the files, or download them. Lightning calls it in one process per node."""
        find_files(self.root)

    def ids(self, split: Split) -> Tensor:
        """(N,) int64 ids of the garments of `split`.

        Raises:
            InputError: a file is damaged, or holds fewer garments than asked for.
        """
        available = torch.arange(len(self._garments(split)[1])) + _FIRST_ID[split]
        return available[torch.from_numpy(self._choose(split, self._draw(available, "choice of garments")))]

    def make_samples(self, split: Split, ids: Tensor) -> Batch:
        """Render garments of `split`."""
        garments, labels = self._garments(split)
        rows = (ids - _FIRST_ID[split]).numpy()
        backgrounds = self._backgrounds(split, ids, "")
        images, object_mask = place_garments(garments[rows], backgrounds, self._draw(ids, "place", PLACE_NUMBERS))
        return drawn_batch(ids, images, object_mask, torch.from_numpy(labels[rows]))

    def empty_scenes(self, split: Split, count: int) -> EmptyScenes:
        """Backgrounds without a garment, other crops than those of the samples; see `AnnotatedDataModule`."""
        return photographs(self._backgrounds(split, torch.arange(count), f"empty {split} scene "))

    def without_object(self, split: Split, ids: Tensor) -> Tensor:
        """The samples' backgrounds; see `AnnotatedDataModule`."""
        return as_float_images(self._backgrounds(split, ids, ""))

    def _garments(self, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return _read_once(find_files(self.root), "test" if split == "test" else "train")

    def _backgrounds(self, split: Split, ids: Tensor, stream: str) -> NDArray[np.uint8]:
        numbers = self._draw(ids, f"{stream}choice of background")
        choice = (numbers * len(BACKGROUNDS)).astype(np.int64)
        crop_numbers = self._draw(ids, f"{stream}crop", CROP_NUMBERS)
        light_numbers = self._draw(ids, f"{stream}light", LIGHT_NUMBERS)
        return random_crops(BACKGROUNDS, choice, self.image_size, crop_numbers, light_numbers)

    def _choose(self, split: Split, numbers: NDArray[np.float32]) -> NDArray[np.int64]:
        """Ascending positions in the official file whose `numbers` rank first, validation before training."""
        first = self.split_sizes["val"] if split == "train" else 0
        needed = first + self.split_sizes[split]
        if needed > len(numbers):
            raise InputError(
                f"the files in {find_files(self.root)} must hold at least {needed} garments for the {split} split, but "
                f"hold {len(numbers)}; ask for fewer images or give the complete files."
            )
        return np.sort(np.argsort(numbers, kind="stable")[first:needed])

    def _draw(self, ids: Tensor, stream: str, *shape: int) -> NDArray[np.float32]:
        return draw_uniform(self.seed, ids, f"fashion {stream}", *shape)


def garment_masks(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels are the garment.

    Those brighter than the noise of the ground (3 of 255), without specks (connected parts smaller than a tenth of the
    largest), and with small holes (fewer than 16 pixels, not open to the border) filled. Where nothing is brighter than
    the noise, the brightest pixels count, so that no mask is empty.

    Args:
        images: (N, H, W) uint8, 0 for the empty ground.

    Returns:
        (N, H, W) bool, each with at least one True.
    """
    brightest = images.max(axis=(1, 2), keepdims=True).astype(np.int16)
    bright = images > np.minimum(_NOISE, brightest - 1)
    part_sizes = _component_sizes(bright, diagonal=True)
    largest = part_sizes.max(axis=(1, 2), keepdims=True)
    garment = part_sizes >= np.maximum(1, _SPECK_FRACTION * largest)
    framed = np.pad(~garment, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    gap_sizes = _component_sizes(framed, diagonal=False)[:, 1:-1, 1:-1]
    return np.asarray(garment | (gap_sizes < _SMALL_HOLE))


def place_garments(
    garments: NDArray[np.uint8], backgrounds: NDArray[np.uint8], numbers: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scale each garment, tint it, and put it at a random place of its background.

    A garment's 28 pixels become 0.9 to 1.3 times 28/48 of the image's side; image and mask are scaled to the same grid,
    the mask by nearest neighbour. Garments are at least 1 pixel away from the border. A garment's grey is multiplied by
    a tint of 0.8 to 1 in each channel; garments are brighter than their background in one image and darker in the next,
    as in photographs, so that a dark hole is not beyond what a network has seen of garments.

    Args:
        garments: (N, 28, 28) uint8.
        backgrounds: (N, S, S, 3) uint8.
        numbers: (N, PLACE_NUMBERS) uniform numbers in [0, 1).

    Returns:
        Images (N, S, S, 3) uint8, and object masks (N, S, S) bool.
    """
    image_size = backgrounds.shape[1]
    garment_side = garments.shape[1]
    fractions = (_SCALES[0] + (_SCALES[1] - _SCALES[0]) * numbers[:, 0].astype(np.float64)) * garment_side / 48
    sides = np.round(fractions * image_size).astype(np.int64)
    corners = _MARGIN + (numbers[:, 1:3] * (image_size - 2 * _MARGIN - sides + 1)[:, None]).astype(np.int64)
    tints = 0.8 + 0.2 * numbers[:, 3:]
    masks = garment_masks(garments)
    images = backgrounds.copy()
    object_mask = np.zeros(images.shape[:3], dtype=np.bool_)
    for row, (side, (top, left)) in enumerate(zip(sides.tolist(), corners.tolist(), strict=True)):
        grey = cv2.resize(garments[row], (side, side), interpolation=cv2.INTER_LINEAR)
        inside = cv2.resize(masks[row].view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT) > 0
        colours = grey[inside][:, None] * tints[row]
        images[row, top : top + side, left : left + side][inside] = colours.astype(np.uint8)
        object_mask[row, top : top + side, left : left + side] = inside
    return images, object_mask


def _component_sizes(masks: NDArray[np.bool_], diagonal: bool) -> NDArray[np.int64]:
    """At each True pixel of (N, H, W) the size of its connected part within its own image, 0 at False ones."""
    structure = np.zeros((3, 3, 3), dtype=np.bool_)
    structure[1] = ndimage.generate_binary_structure(2, 2 if diagonal else 1)
    labels, _ = ndimage.label(masks, structure)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(sizes[labels])
