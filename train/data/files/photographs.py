"""Backgrounds and textures: crops of scikit-image's photographs."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from maskrobust.errors import MissingFileError

CROP_NUMBERS = 6
"""Uniform numbers that one `random_crop` takes."""

LIGHT_NUMBERS = 6
"""Uniform numbers that one `shift_light` takes."""


@cache
def read_photograph(file_name: str) -> NDArray[np.uint8]:
    """Read a photograph that ships inside scikit-image's wheel.

    Args:
        file_name: name of a file in the folder of `skimage.data`, for example "astronaut.png".

    Returns:
        (H, W, 3) uint8, red, green, blue; grey photographs have three equal channels. Kept in memory, not writeable.

    Raises:
        MissingFileError: this installation lacks the file.
    """
    path = Path(skimage.data.__file__).parent / file_name
    if not path.is_file():
        raise MissingFileError(
            f"scikit-image's photograph {file_name} was expected at {path} but is not there; "
            "reinstall scikit-image from its wheel."
        )
    photograph = np.array(Image.open(path).convert("RGB"))
    photograph.flags.writeable = False
    return photograph


class CropSource(NamedTuple):
    """Where crops come from.

    Attributes:
        file_name: a photograph, as `read_photograph` takes it.
        widths: smallest and largest width of a crop, as a fraction of the photograph's shorter side, in (0, 1].
    """

    file_name: str
    widths: tuple[float, float]


def random_crops(
    sources: Sequence[CropSource],
    choice: NDArray[np.int64],
    image_size: int,
    crop_numbers: NDArray[np.float32],
    light_numbers: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Cut one crop for each sample from the source chosen for it, and change its light at random.

    Args:
        sources: what to cut from.
        choice: (N,) index into `sources`.
        image_size: side of the crops in pixels.
        crop_numbers: (N, CROP_NUMBERS) uniform numbers in [0, 1), for `random_crop`.
        light_numbers: (N, LIGHT_NUMBERS) uniform numbers in [0, 1), for `shift_light`.

    Returns:
        (N, image_size, image_size, 3) uint8.
    """
    photographs = [_shrunk(name, math.ceil(2 * image_size / widths[0])) for name, widths in sources]
    crops = np.empty((len(choice), image_size, image_size, 3), dtype=np.uint8)
    for row, source in enumerate(choice):
        crop = random_crop(photographs[source], image_size, sources[source].widths, crop_numbers[row])
        crops[row] = shift_light(crop, light_numbers[row])
    return crops


@lru_cache(maxsize=64)
def _shrunk(file_name: str, shorter_side: int) -> NDArray[np.uint8]:
    """`shrink` of `read_photograph`; kept in memory for the next split, not writeable."""
    small = shrink(read_photograph(file_name), shorter_side)
    small.flags.writeable = False
    return small


def random_crop(
    photograph: NDArray[np.uint8], image_size: int, widths: tuple[float, float], numbers: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Cut a square of random width and place, resize it by area averaging, flip and transpose it at random.

    Args:
        photograph: (H, W, 3) uint8.
        image_size: side of the result in pixels.
        widths: widths of the crops, as in `CropSource`.
        numbers: (CROP_NUMBERS,) uniform numbers in [0, 1).

    Returns:
        (image_size, image_size, 3) uint8.
    """
    height, width = photograph.shape[:2]
    fraction = widths[0] + (widths[1] - widths[0]) * float(numbers[0])
    side = max(1, round(fraction * min(height, width)))
    top = int(numbers[1] * (height - side + 1))
    left = int(numbers[2] * (width - side + 1))
    square = photograph[top : top + side, left : left + side]
    crop = cv2.resize(square, (image_size, image_size), interpolation=cv2.INTER_AREA)
    crop = crop[:: -1 if numbers[3] < 0.5 else 1, :: -1 if numbers[4] < 0.5 else 1]
    return np.ascontiguousarray(crop.transpose(1, 0, 2) if numbers[5] < 0.5 else crop, dtype=np.uint8)


def shift_light(image: NDArray[np.uint8], numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and the balance of the colours at random.

    Linear in the colours: grey + saturation * (colour - grey), stretched about the mean grey m by the contrast,
    m moved 40 % of the way to a grey drawn from [64, 192), each channel multiplied by its own factor.

    Args:
        image: (H, W, 3) uint8.
        numbers: (LIGHT_NUMBERS,) uniform numbers in [0, 1).

    Returns:
        (H, W, 3) uint8.
    """
    saturation, contrast = 0.4 + 0.6 * float(numbers[0]), 0.75 + 0.5 * float(numbers[1])
    balance = 0.9 + 0.2 * numbers[3:, None].astype(np.float64)
    mean_grey = float(np.mean(cv2.mean(image)[:3]))
    brightness = 0.6 * mean_grey + 0.4 * (64 + 128 * float(numbers[2]))
    to_grey = np.full((3, 3), (1 - saturation) / 3) + saturation * np.eye(3)
    matrix = balance * np.hstack([contrast * to_grey, np.full((3, 1), brightness - contrast * mean_grey)])
    return np.asarray(cv2.transform(image, matrix), dtype=np.uint8)


def shrink(photograph: NDArray[np.uint8], shorter_side: int) -> NDArray[np.uint8]:
    """The photograph made so small that its shorter side is `shorter_side`, or itself where it is no larger.

    Args:
        photograph: (H, W, 3) uint8.
        shorter_side: length of the shorter side in pixels.
    """
    scale = shorter_side / min(photograph.shape[:2])
    if scale >= 1:
        return photograph
    height, width = (round(scale * side) for side in photograph.shape[:2])
    return np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
