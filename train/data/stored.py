"""Samples as they are stored: an encoded image, an encoded mask, a label and an id."""

import io
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class EncodedSample(NamedTuple):
    """One sample in the form of files.

    Attributes:
        id: unique over all splits of a data set.
        image: content of an image file.
        suffix: of that file, lower case, without a dot.
        object_mask: content of a PNG of the image's size, white on the object; None where there is none.
        label: in [0, num_classes).
    """

    id: int
    image: bytes
    suffix: str
    object_mask: bytes | None
    label: int


class StoredSample(Protocol):
    """A sample that another process can be asked to encode, so it must be picklable."""

    @property
    def id(self) -> int:
        """Unique over all splits of a data set."""

    @property
    def label(self) -> int:
        """In [0, num_classes)."""

    @property
    def name(self) -> str:
        """The name of its image, for messages."""

    def state(self) -> bytes:
        """What tells that `encode` would return other bytes than before, without the work of it."""

    def encode(self) -> EncodedSample:
        """The sample in the form of files; the same call returns the same bytes."""


class PixelSample(NamedTuple):
    """A sample that is known by its pixels alone, encoded without loss.

    Attributes:
        id: unique over all splits of a data set.
        image: (H, W, 3) uint8.
        object_mask: (H, W) bool, True on the object; False everywhere stands for no mask.
        label: in [0, num_classes).
    """

    id: int
    image: NDArray[np.uint8]
    object_mask: NDArray[np.bool_]
    label: int

    @property
    def name(self) -> str:
        """The image by its id."""
        return f"image {self.id}"

    def state(self) -> bytes:
        """Id, label and every pixel."""
        about = repr((self.id, self.label, self.image.shape)).encode()
        return about + self.image.tobytes() + self.object_mask.tobytes()

    def encode(self) -> EncodedSample:
        """PNG files of image and mask."""
        object_mask = encode_png(self.object_mask) if self.object_mask.any() else None
        return EncodedSample(self.id, encode_png(self.image), "png", object_mask, self.label)


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.bool_]) -> bytes:
    """A PNG of (H, W, 3) uint8 colours, or one of a single bit per pixel of (H, W) bool.

    The latter is small enough to be compressed weakly, which is read faster.
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png", compress_level=1 if pixels.dtype == np.bool_ else 6)
    return stream.getvalue()
