"""Draw every mask family and every masking method on a few images."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from rich.progress import Progress
from scipy.ndimage import binary_dilation
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank, build_family, family_needs, fold_in, sample_keys
from maskrobust.augment.policy import OTHER_IMAGE, draw_partners, mix_images
from maskrobust.augment.registry import Choice, read_choice
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import illustrate
from maskrobust.train.masks import GalleryConfig
from maskrobust.train.report.blocks import Cell, Line, Section, facts, folded, prose, render_page, table
from maskrobust.train.report.examples import choose_examples, to_pictures
from maskrobust.train.report.sections.run import command_line
from maskrobust.train.report.wording import PERCENT, family_title, method_title

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

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
        rows: the drawing's rows, one for each family.
    """

    title: str
    original: Pixels
    rows: tuple[GalleryRow, ...]


class Gallery(NamedTuple):
    """Everything the page shows.

    Attributes:
        columns: names of the masking methods.
        images: the images.
        left_out: why a family or a column is missing, by name.
    """

    columns: Sequence[str]
    images: tuple[GalleryImage, ...]
    left_out: Mapping[str, str]


def draw_gallery(config: GalleryConfig, progress: Progress) -> Gallery:
    """Draw every family and every masking method on the first images of the split, those of different classes first.

    Args:
        config: what to draw.
        progress: told about every step.

    Raises:
        InputError: the split is empty, or no family can be drawn.
    """
    data, split = config.data, config.split
    data.prepare_data()
    data.setup_split(split)
    batches = (each.to("cpu") for each in data.whole_split(split))
    batch = choose_examples(batches, max(config.images, 2), data.num_classes)
    visible, left_out = _draw_holes(config, batch, progress)
    if not visible:
        raise InputError(f"no mask family can be drawn for these images, for {next(iter(left_out.values()))}")
    columns = [name for name in config.fills if name != OTHER_IMAGE or len(batch.ids) > 1]
    if len(columns) < len(config.fills):
        left_out = {OTHER_IMAGE: "it shows another image, and the split holds one alone."} | left_out
    drawing = progress.track(visible.items(), description="filling holes")
    rows = [_rows(name, each, columns, config, batch) for name, each in drawing]
    labels = batch.labels.tolist()
    names = [f"{data.class_names[labels[n]]}, {data.sample_name(split, int(each))}" for n, each in enumerate(batch.ids)]
    images = zip(names, _outlined(batch.images, batch, data.show_bands), zip(*rows, strict=True), strict=True)
    return Gallery(columns, tuple(GalleryImage(*each) for each in islice(images, config.images)), left_out)


def _draw_holes(config: GalleryConfig, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`visible` (B, 1, H, W) by family in words, and why each of the others cannot be drawn for these images."""
    keys, visible, reasons = fold_in(sample_keys(config.seed, batch.ids), 0), dict[str, Tensor](), dict[str, str]()
    settings: dict[str, Any] = {"hidden_fraction": config.hidden_fraction, "patch_size": config.patch_size}
    for choice in progress.track(config.families, description="drawing holes"):
        needs, bank, data = family_needs(choice, "families"), None, config.data
        try:
            if "bank" in needs:
                split = data.splits[0] if "train" in data.splits else config.split
                data.setup_split(split)
                bank = SilhouetteBank.from_batches(data.annotated_batches(split), data.object_of)
            elif "object_mask" in needs and not batch.object_mask.any():
                raise InputError("it is made from an image's own object, and none of these images has one.")
            family = build_family(choice, bank=bank, option="families", **settings)
            visible[_title(choice)] = family(keys, batch) & batch.known
        except InputError as error:  # a class with no other object, images that cannot be segmented
            reasons[_title(choice)] = str(error)
    return visible, reasons


def _title(choice: Choice) -> str:
    """A family, or a mixture, with its options: "rectangles", "rectangles (count 3)"."""
    parts = {name: given for name, (_, given) in read_choice(choice, "families").items()}
    options = {name: ", ".join(f"{option} {value}" for option, value in given.items()) for name, given in parts.items()}
    return " and ".join(f"{name} ({each})" if each else name for name, each in options.items())


def _rows(name: str, visible: Tensor, columns: Sequence[str], config: GalleryConfig, batch: Batch) -> list[GalleryRow]:
    """One row for each image: the hole, then every column."""
    keys, drawn = fold_in(sample_keys(config.seed, batch.ids), 1), [_outlined(visible.float(), batch)]
    for column in columns:
        if column == OTHER_IMAGE:
            images = mix_images(batch.images, visible, draw_partners(keys))
        else:
            images = illustrate(column, batch.images, visible, keys, config.data.mean)
        drawn.append(to_pictures(images, config.data.show_bands))
    hidden = (1 - visible.double().mean(dim=(1, 2, 3))).tolist()
    return [GalleryRow(name, *each) for each in zip(hidden, zip(*drawn, strict=True), strict=True)]


def _outlined(images: Tensor, batch: Batch, bands: Sequence[int] | None = None) -> tuple[Pixels, ...]:
    """Pictures (H, W, 3) uint8 with the outline of each object, inside it and a hundredth of the picture wide."""
    pictures = to_pictures(images, bands)
    width, inside = max(1, round(max(images.shape[2:]) / 100)), batch.object_mask[:, 0].cpu().numpy()
    edges = [each & binary_dilation(~each, iterations=width, border_value=1) for each in inside]
    colour = np.array(OUTLINE, dtype=np.uint8)
    return tuple(np.where(edge[..., None], colour, each) for edge, each in zip(edges, pictures, strict=True))


def render_gallery(gallery: Gallery, command: str) -> str:
    """The page of what is drawn, as `render_page` makes it; `command` is the one that drew it."""
    left_out = [(family_title(name), reason) for name, reason in gallery.left_out.items()]
    left = facts(left_out, "left-out", "definitions") if left_out else ""
    run = prose("run", "masks", columns=gallery.columns, left_out=left, command=command_line(command))
    hidden = [100 * row.hidden for image in gallery.images for row in image.rows]
    title = f"The holes hide {min(hidden):.0f} to {max(hidden):.0f}{PERCENT} of the pixels of these images."
    header = prose("header", "masks", title=title, outline=OUTLINE, images=gallery.images)
    images: Section[Gallery] = Section("images", "Every mask family with every fill", _images, is_open=True)
    sections = (images, Section[Gallery]("run", "How it was drawn", lambda _: run))
    style = prose("style", "masks", columns=len(gallery.columns) + 1)
    return render_page("masks", title, header, sections, gallery, look="wide", style=style)


def _images(gallery: Gallery) -> Markup:
    columns, text = ["Visible", *map(method_title, gallery.columns)], Markup()
    for place, image in enumerate(gallery.images, start=1):
        lines = []
        for row in image.rows:
            tiles = zip(columns, row.pictures, strict=True)
            cells = [Cell(prose("tile", "masks", row=row, column=name, picture=picture)) for name, picture in tiles]
            lines.append(Line(family_title(row.family), cells))
        shown = table(f"gallery-{place}", image.title, ["Family", *columns], lines, look="gallery")
        text += prose("image", "masks", place=place, image=folded(image.title, shown, is_open=place == 1))
    return text
