"""The page of `maskrobust masks`: what a network is shown, by mask family and fill."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from maskrobust.train.report.blocks import Cell, Line, LineGroup, Section, facts, html, prose, render_page, table
from maskrobust.train.report.sections.run import command_line
from maskrobust.train.report.wording import family_title, method_title

Pixels = NDArray[np.uint8]

OUTLINE = (255, 110, 20)
"""Colour in which the outline of an object is drawn."""


class GalleryRow(NamedTuple):
    """One image under one mask family.

    Attributes:
        family: name of the mask family, with its options.
        hidden: fraction in [0, 1] of the pixels that are hidden.
        pictures: (H, W, 3) uint8 each: `visible`, then one for each column of the gallery.
    """

    family: str
    hidden: float
    pictures: tuple[Pixels, ...]


class GalleryImage(NamedTuple):
    """One image under every mask family.

    Attributes:
        title: its class and its name.
        original: (H, W, 3) uint8, with the outline of its object.
        has_object: whether an object is annotated.
        rows: one for each family.
    """

    title: str
    original: Pixels
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
    """The page, as `render_page` makes it.

    Args:
        gallery: what to show.
        command: the command that drew it.
    """
    sections: tuple[Section[Gallery], ...] = (
        Section("images", "Every mask family with every fill", _images),
        Section("run", "How it was drawn", lambda shown: _run(shown, command)),
    )
    style = f"\n.wide {{ --columns: {len(gallery.columns) + 1}; }}\n"
    title = "Masks: what the network is shown"
    return render_page("masks", title, _header(gallery), sections, gallery, look="wide", style=style)


def _header(gallery: Gallery) -> Markup:
    return prose("masks_header", outline=OUTLINE, images=gallery.images)


def _images(gallery: Gallery) -> Markup:
    columns = ["Visible", *map(method_title, gallery.columns)]
    text = Markup()
    for place, image in enumerate(gallery.images, start=1):
        lines = [
            Line(family_title(row.family), [_tile(row, *each) for each in zip(columns, row.pictures, strict=True)])
            for row in image.rows
        ]
        text += html('<h3 id="image-{{ place }}">{{ title }}</h3>', place=place, title=image.title)
        text += table(f"gallery-{place}", image.title, ["Family", *columns], [LineGroup(lines)], look="gallery")
    return text


def _tile(row: GalleryRow, column: str, picture: Pixels) -> Cell:
    return Cell(
        html(
            '<img class="tile" src="{{ picture|picture }}" alt="{{ family|family_title }}, {{ column }}">'
            '<span class="below">{{ hidden|percent }}</span>',
            picture=picture,
            family=row.family,
            column=column,
            hidden=row.hidden,
        )
    )


def _run(gallery: Gallery, command: str) -> Markup:
    left_out = [(family_title(name), reason) for name, reason in gallery.left_out.items()]
    return prose(
        "masks_run",
        masked="layer_masking" in gallery.columns,
        left_out=facts(left_out, "left-out", "definitions") if left_out else "",
        command=command_line(command),
        settings=facts(gallery.settings.items(), "settings"),
    )
