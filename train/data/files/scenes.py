"""Backgrounds without an object: parts of scikit-image's photographs, images of one's own, or plain colours."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES, decode_image, id_of, read_file
from maskrobust.train.data.files.photographs import (
    CROP_NUMBERS,
    LIGHT_NUMBERS,
    random_crop,
    read_photograph,
    shift_light,
    shrink,
)
from maskrobust.train.types import Split

SCENE_NUMBERS = CROP_NUMBERS + LIGHT_NUMBERS
"""Uniform numbers that one scene takes."""


class PhotographPart(NamedTuple):
    """A part of one of scikit-image's photographs that shows none of ImageNet's objects.

    Attributes:
        file_name: as `read_photograph` takes it.
        rows: first, and the one after the last; likewise `columns`.
    """

    file_name: str
    rows: tuple[int, int]
    columns: tuple[int, int]


Scene = PhotographPart | Path

PHOTOGRAPH_PARTS: dict[Split, tuple[PhotographPart, ...]] = {
    "train": (
        PhotographPart("gravel.png", (0, 512), (0, 512)),
        PhotographPart("ihc.png", (0, 512), (0, 512)),
        PhotographPart("cell.png", (0, 660), (0, 330)),
        PhotographPart("astronaut.png", (0, 180), (0, 150)),
    ),
    "val": (
        PhotographPart("hubble_deep_field.jpg", (0, 872), (0, 1000)),
        PhotographPart("retina.jpg", (300, 1111), (300, 1111)),
    ),
    "test": (
        PhotographPart("brick.png", (0, 512), (0, 512)),
        PhotographPart("coffee.png", (0, 400), (480, 600)),
        PhotographPart("grass.png", (0, 512), (0, 512)),
        PhotographPart("moon.png", (0, 512), (0, 512)),
        PhotographPart("motorcycle_left.png", (0, 130), (30, 260)),
        PhotographPart("rocket.jpg", (0, 250), (60, 300)),
    ),
}
"""The scenes of each split; no photograph is in two."""

DEBIAN_SHARE = Path("/usr/share")
"""Where Debian's packages put their pictures."""

INSTALLED_PHOTOGRAPHS = (
    *(
        f"backgrounds/mate/nature/{name}.jpg"
        for name in ("Blinds", "Dune", "GreenMeadow", "RainDrops", "Storm", "Wood")
    ),
    *(f"wallpapers/{name}/contents/images/2560x1600.jpg" for name in ("BytheWater", "FallenLeaf", "Grey", "Path")),
    *(f"wallpapers/{name}/contents/images/5120x2880.jpg" for name in ("OneStandsOut", "Volna")),
)
"""Photographs without ImageNet's objects in Debian's mate-backgrounds and plasma-workspace-wallpapers."""

NOISE_SPECTRA = (0.0, 0.5, 1.0, 1.5)
"""Exponents of noise: the amplitude at a frequency f is proportional to f to the minus this."""

_NOISE_STD = 0.15
_WIDTHS = (0.6, 1.0)
_UPRIGHT = [3, 5]
_STRAIGHT = 0.75
_BLUR = 1 / 16
_FEWEST_IMAGES = 3


def list_scenes(with_background: str | Path, split: Split) -> tuple[Scene, ...]:
    """The scenes of a split, shared with no other; none for "empty".

    Args:
        with_background: "photographs" or "blurred" for `PHOTOGRAPH_PARTS`, "empty", or a folder of at least three
            images at any depth. In order of a hash of their paths, the first half of them, rounded up, is of the test
            split, a third of the rest, rounded up, of validation, and what remains of training.
        split: whose scenes.

    Raises:
        MissingFileError: there is no such folder.
        InputError: the folder holds fewer than three images.
    """
    if with_background in ("photographs", "blurred"):
        return PHOTOGRAPH_PARTS[split]
    if with_background == "empty":
        return ()
    folder = Path(with_background)
    if not folder.is_dir():
        raise MissingFileError(
            "with_background must be photographs, blurred, empty or a folder of images, but there is no folder "
            f"'{with_background}'; check it."
        )
    found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    if len(found) < _FEWEST_IMAGES:
        raise InputError(
            f"'{folder}' must hold at least {_FEWEST_IMAGES} images ({', '.join(IMAGE_SUFFIXES)}), "
            f"but holds {len(found)}; add more."
        )
    found.sort(key=lambda path: id_of(path.relative_to(folder)))
    first = math.ceil(len(found) / 2)
    second = first + math.ceil((len(found) - first) / 3)
    return tuple({"test": found[:first], "val": found[first:second], "train": found[second:]}[split])


def installed_photographs() -> tuple[Path, ...]:
    """Those of `INSTALLED_PHOTOGRAPHS` that are installed."""
    return tuple(path for name in INSTALLED_PHOTOGRAPHS if (path := DEBIAN_SHARE / name).is_file())


def draw_scenes(
    scenes: Sequence[Scene], choice: NDArray[np.int64], image_size: int, numbers: NDArray[np.float32], *, blurred: bool
) -> NDArray[np.uint8]:
    """Cut one upright square of each chosen scene, mirror it and change its light at random.

    Args:
        scenes: what to cut from; none for plain colours, each channel drawn from [64, 192).
        choice: (N,) index into `scenes`.
        image_size: side of the squares in pixels.
        numbers: (N, SCENE_NUMBERS) uniform numbers in [0, 1), for `random_crop` and `shift_light`.
        blurred: with a Gaussian of sigma `image_size` / 16.

    Returns:
        (N, image_size, image_size, 3) uint8.

    Raises:
        InputError: an image cannot be read.
    """
    images = np.empty((len(choice), image_size, image_size, 3), dtype=np.uint8)
    if not scenes:
        images[:] = (64 + 128 * numbers[:, None, None, :3]).astype(np.uint8)
        return images
    crop_numbers, light_numbers = numbers[:, :CROP_NUMBERS].copy(), numbers[:, CROP_NUMBERS:]
    crop_numbers[:, _UPRIGHT] = _STRAIGHT
    for chosen in np.unique(choice):
        photograph = _resized(_read_scene(scenes[chosen]), image_size)
        for row in np.flatnonzero(choice == chosen):
            images[row] = shift_light(
                random_crop(photograph, image_size, _WIDTHS, crop_numbers[row]), light_numbers[row]
            )
            if blurred:
                images[row] = cv2.GaussianBlur(images[row], (0, 0), _BLUR * image_size)
    return images


def draw_noise(spectra: Sequence[float], colours: NDArray[np.float32], white: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Noise of given spectra around a colour, with a standard deviation of .15 before it is clipped to [0, 1].

    Args:
        spectra: N exponents; see `NOISE_SPECTRA`.
        colours: (N, 3) uniform numbers in [0, 1), for colours from [64, 192).
        white: (N, 3, S, S) uniform numbers in [0, 1).

    Returns:
        (N, S, S, 3) uint8.
    """
    size = white.shape[-1]
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequencies[0, 0] = np.inf  # no mean
    scale = frequencies ** -np.asarray(spectra, dtype=np.float64)[:, None, None, None] * np.isfinite(frequencies)
    noise = np.fft.irfft2(np.fft.rfft2(white) * scale, s=(size, size))
    noise *= _NOISE_STD / noise.std(axis=(2, 3), keepdims=True)
    images = (64 + 128 * colours[:, :, None, None] + 255 * noise).clip(0, 255)
    return np.asarray(np.rint(images), dtype=np.uint8).transpose(0, 2, 3, 1)


def _read_scene(scene: Scene) -> NDArray[np.uint8]:
    if isinstance(scene, Path):
        return decode_image(read_file(scene), str(scene)).permute(1, 2, 0).numpy()
    return read_photograph(scene.file_name)[slice(*scene.rows), slice(*scene.columns)]


def _resized(photograph: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Small enough to be fast, and large enough that the averaging of `random_crop` never has to enlarge a square."""
    smallest = math.ceil(image_size / _WIDTHS[0])
    scale = smallest / min(photograph.shape[:2])
    if scale <= 1:
        return shrink(photograph, 2 * smallest)
    height, width = (math.ceil(scale * side) for side in photograph.shape[:2])
    return np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
