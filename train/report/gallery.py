"""A gallery of masks as one HTML page: what a network is shown, by mask family and fill."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from maskrobust.train.report.templates import render_template
from maskrobust.train.report.wording import method_title

Picture = NDArray[np.uint8]

OUTLINE = (255, 110, 20)
_OUTLINES_ACROSS = 100


class GalleryRow(NamedTuple):
    """One image under one mask family.

    Attributes:
        family: name of the mask family, with its options.
        hidden: fraction in [0, 1] of the pixels that are hidden.
        pictures: (H, W, 3) uint8 each: `visible`, then one for each column of the gallery.
    """

    family: str
    hidden: float
    pictures: tuple[Picture, ...]


class GalleryImage(NamedTuple):
    """One image under every mask family.

    Attributes:
        title: its class and its name.
        original: (H, W, 3) uint8, with the outline of its object.
        has_object: whether an object is annotated.
        rows: one for each family.
    """

    title: str
    original: Picture
    has_object: bool
    rows: tuple[GalleryRow, ...]


class Gallery(NamedTuple):
    """Everything the page shows.

    Attributes:
        columns: names of the masking methods.
        images: the images.
        left_out: why a family or a column is missing, by name.
        settings: what the masks were drawn with.
    """

    columns: tuple[str, ...]
    images: tuple[GalleryImage, ...]
    left_out: Mapping[str, str]
    settings: Mapping[str, Any]


def render_gallery(gallery: Gallery, command: str) -> str:
    """One self-contained page; it loads nothing, and follows the system's light or dark.

    Args:
        gallery: what to show.
        command: the command that drew it.

    Returns:
        HTML; equal arguments give equal text.
    """
    columns = [method_title(name) for name in gallery.columns]
    return render_template(
        "masks.html.j2",
        ("page.css", "masks.css"),
        gallery=gallery,
        command=command,
        columns=columns,
        outline="rgb({}, {}, {})".format(*OUTLINE),
    )


def draw_outlines(pictures: Sequence[Picture], object_masks: NDArray[np.bool_]) -> tuple[Picture, ...]:
    """Draw the outline of each object into its picture, inside the object and a hundredth of the picture wide.

    Args:
        pictures: B of (H, W, 3) uint8.
        object_masks: (B, H, W) bool, True on the object.

    Returns:
        Copies of the pictures.
    """
    return tuple(_outlined(picture, inside) for picture, inside in zip(pictures, object_masks, strict=True))


def _outlined(picture: Picture, inside: NDArray[np.bool_]) -> Picture:
    width = max(1, round(max(inside.shape) / _OUTLINES_ACROSS))
    edge = inside & binary_dilation(~inside, iterations=width, border_value=1)
    return np.where(edge[..., None], np.array(OUTLINE, dtype=np.uint8), picture)
