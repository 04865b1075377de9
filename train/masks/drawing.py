"""Draw every mask family and every masking method on a few images."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.ndimage import binary_dilation
from torch import Tensor

from maskrobust.augment import (
    OTHER_IMAGE,
    Batch,
    Choice,
    SilhouetteBank,
    build_family,
    draw_partners,
    family_needs,
    fold_in,
    mix_images,
    read_choice,
    sample_keys,
)
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import illustrate
from maskrobust.train.data.batches import batches_on
from maskrobust.train.masks import GalleryConfig
from maskrobust.train.report.blocks import (
    Cell,
    Line,
    LineGroup,
    Section,
    facts,
    folded,
    html,
    prose,
    render_page,
    table,
)
from maskrobust.train.report.examples import of_different_classes, to_pictures
from maskrobust.train.report.sections.run import command_line
from maskrobust.train.report.wording import PERCENT, family_title, in_sentence, listed, method_title
from maskrobust.train.types import Split

_SEARCHED_BATCHES = 20
_OUTLINES_ACROSS = 100

Pixels = NDArray[np.uint8]

OUTLINE = (255, 110, 20)
"""Colour in which the outline of an object is drawn."""


class GalleryRow(NamedTuple):
    """One image under one mask family.

    Attributes:
        family: name of the mask family, with its options.
        hidden: fraction in [0, 1] of the pixels that are hidden.
        object_hidden: fraction of the object's pixels that are hidden; None where there is no object.
        pictures: (H, W, 3) uint8 each: `visible`, then one for each column of the gallery.
    """

    family: str
    hidden: float
    object_hidden: float | None
    pictures: tuple[Pixels, ...]


class GalleryImage(NamedTuple):
    """One image under every mask family.

    Attributes:
        title: its class and its name.
        original: (H, W, 3) uint8, with the outline of its object.
        has_object: whether an object is annotated.
        rows: the drawing's rows, one for each family.
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


def draw_gallery(config: GalleryConfig, progress: Progress) -> Gallery:
    """Draw every family and every masking method on the first images of the split, those of different classes first.

    Args:
        config: what to draw.
        progress: told about every step.

    Raises:
        InputError: the split is empty, or no family can be drawn.
    """
    data = config.data
    data.prepare_data()
    data.setup_split(config.split)
    batch = _choose(batches_on(data.whole_split(config.split), "cpu"), max(config.images, 2), data.num_classes)
    columns, left_out = _usable_columns(config.fills, batch)
    visible, reasons = _draw_holes(config, batch, progress)
    if not visible:
        raise InputError(f"no mask family can be drawn for these images, for {next(iter(reasons.values()))}")
    shown = slice(config.images)
    originals = _with_outlines(batch.images, batch)[shown]
    rows = [
        _draw_row(config, batch, name, visible[name], columns)[shown]
        for name in progress.track(visible, description="filling holes")
    ]
    images = tuple(
        GalleryImage(
            title=", ".join(
                (data.class_names[int(batch.labels[place])], data.sample_name(config.split, int(batch.ids[place])))
            ),
            original=original,
            has_object=bool(batch.object_mask[place].any()),
            rows=tuple(row[place] for row in rows),
        )
        for place, original in enumerate(originals)
    )
    settings = {name: getattr(config, name) for name in ("split", "seed", "hidden_fraction", "patch_size")}
    return Gallery(tuple(columns), images, left_out | reasons, settings)


def _choose(batches: Iterable[Batch], count: int, num_classes: int) -> Batch:
    """Images with an object; where the first batches hold none, any. Those of different classes come first."""
    annotated: list[Batch] = []
    plain: list[Batch] = []
    for batch in islice(batches, _SEARCHED_BATCHES):
        has_object = batch.object_mask.flatten(1).any(dim=1)
        annotated.append(of_different_classes(batch.select(has_object), count))
        plain.append(of_different_classes(batch, count))
        labels = torch.cat([each.labels for each in annotated])
        if len(labels) >= count and len(labels.unique()) >= min(count, num_classes):
            break
    if not plain:
        raise InputError("the split holds no image; choose another with --split.")
    found = Batch.cat(annotated)
    return of_different_classes(found if len(found.ids) else Batch.cat(plain), count)


def _usable_columns(fills: Sequence[str], batch: Batch) -> tuple[list[str], dict[str, str]]:
    if OTHER_IMAGE not in fills or len(batch.ids) > 1:
        return list(fills), {}
    reason = "it shows another image, and the split holds one alone."
    return [name for name in fills if name != OTHER_IMAGE], {OTHER_IMAGE: reason}


def _draw_holes(config: GalleryConfig, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`visible` (B, 1, H, W) by family in words, and why each of the others cannot be drawn for these images."""
    keys = fold_in(sample_keys(config.seed, batch.ids), 0)
    needs = {_title(choice): family_needs(choice, "families") for choice in config.families}
    bank, no_bank = _make_bank(config, progress) if "bank" in frozenset().union(*needs.values()) else (None, "")
    visible: dict[str, Tensor] = {}
    reasons: dict[str, str] = {}
    settings: dict[str, Any] = {"hidden_fraction": config.hidden_fraction, "patch_size": config.patch_size}
    for choice in progress.track(config.families, description="drawing holes"):
        name = _title(choice)
        if "bank" in needs[name] and bank is None:
            reasons[name] = no_bank
        elif "object_mask" in needs[name] and not batch.object_mask.any():
            reasons[name] = "it is made from an image's own object, and none of these images has one."
        else:
            family = build_family(choice, bank=bank, option="families", **settings)
            try:
                visible[name] = family(keys, batch) & batch.known
            except InputError as error:  # a class with no other object, images that cannot be segmented
                reasons[name] = str(error)
    return visible, reasons


def _title(choice: Choice) -> str:
    """A family, or a mixture, with its options: "rectangles", "rectangles (count 3)"."""
    return " and ".join(
        name + (f" ({', '.join(f'{option} {value}' for option, value in options.items())})" if options else "")
        for name, (_, options) in read_choice(choice, "families").items()
    )


def _make_bank(config: GalleryConfig, progress: Progress) -> tuple[SilhouetteBank | None, str]:
    """The silhouettes of the training split, or without one of the split that is drawn; or None, and why none."""
    split: Split = "train" if "train" in config.data.splits else config.split
    config.data.setup_split(split)
    batches = progress.track(config.data.annotated_batches(split), description="collecting silhouettes")
    try:
        return SilhouetteBank.from_batches(batches, config.data.object_of), ""
    except InputError as error:
        return None, str(error)


def _draw_row(
    config: GalleryConfig, batch: Batch, family: str, visible: Tensor, columns: Sequence[str]
) -> list[GalleryRow]:
    """One row for each image: the hole, then every column."""
    fill_keys = fold_in(sample_keys(config.seed, batch.ids), 1)
    drawn: list[tuple[Pixels, ...]] = [_with_outlines(visible.float(), batch)]
    for column in columns:
        if column == OTHER_IMAGE:
            images = mix_images(batch.images, visible, draw_partners(fill_keys))
        else:
            images = illustrate(column, batch.images, visible, fill_keys, config.data.mean)
        drawn.append(to_pictures(_in_colour(images)))
    hidden = 1 - visible.double().mean(dim=(1, 2, 3))
    sizes = batch.object_mask.sum(dim=(1, 2, 3)).tolist()
    of_object = (batch.object_mask & ~visible).sum(dim=(1, 2, 3)).tolist()
    found = zip(hidden.tolist(), of_object, sizes, zip(*drawn, strict=True), strict=True)
    return [GalleryRow(family, each, inside / size if size else None, shown) for each, inside, size, shown in found]


def _with_outlines(images: Tensor, batch: Batch) -> tuple[Pixels, ...]:
    return draw_outlines(to_pictures(_in_colour(images)), batch.object_mask[:, 0].cpu().numpy())


def _in_colour(images: Tensor) -> Tensor:
    """(B, C, H, W) with one or three channels as (B, 3, H, W)."""
    return images.expand(-1, 3, -1, -1)


def draw_outlines(pictures: Sequence[Pixels], object_masks: NDArray[np.bool_]) -> tuple[Pixels, ...]:
    """Draw the outline of each object into its picture, inside the object and a hundredth of the picture wide.

    Args:
        pictures: B of (H, W, 3) uint8.
        object_masks: (B, H, W) bool, True on the object.

    Returns:
        Copies of the pictures.
    """
    return tuple(_outlined(picture, inside) for picture, inside in zip(pictures, object_masks, strict=True))


def _outlined(picture: Pixels, inside: NDArray[np.bool_]) -> Pixels:
    width = max(1, round(max(inside.shape) / _OUTLINES_ACROSS))
    edge = inside & binary_dilation(~inside, iterations=width, border_value=1)
    return np.where(edge[..., None], np.array(OUTLINE, dtype=np.uint8), picture)


def render_gallery(gallery: Gallery, command: str) -> str:
    """The page, as `render_page` makes it.

    Args:
        gallery: what to show.
        command: the command that drew it.
    """
    sections: tuple[Section[Gallery], ...] = (
        Section("images", "Every mask family with every fill", _images, is_open=True),
        Section("run", "How it was drawn", lambda shown: _run(shown, command)),
    )
    style = f"\n.wide {{ --columns: {len(gallery.columns) + 1}; }}\n"
    by_family = zip(*(image.rows for image in gallery.images), strict=True)
    title = in_masks({rows[0].family: [(row.hidden, row.object_hidden) for row in rows] for rows in by_family})
    header = prose("masks_header", title=title, outline=OUTLINE, images=gallery.images)
    return render_page("masks", title, header, sections, gallery, look="wide", style=style)


def in_masks(families: Mapping[str, Sequence[tuple[float, float | None]]]) -> str:
    """What mask families hide: a fraction of each image, and a fraction of its object, None where there is none."""
    every = [100 * hidden for images in families.values() for hidden, _ in images]
    ends = " to ".join(dict.fromkeys(f"{end:.0f}" for end in (min(every), max(every))))
    counted = f"{len(families)} mask families hide" if len(families) > 1 else "One mask family hides"
    said = f"{counted} {ends}{PERCENT} of the pixels of these images"
    of_objects = {name: [found for _, found in images if found is not None] for name, images in families.items()}
    whole = [in_sentence(family_title(name)) for name, found in of_objects.items() if found and min(found) == 1.0]
    if not any(of_objects.values()):
        return f"{said}."
    if len(families) == 1:
        return f"{said}, and the whole object." if whole else f"{said}, and not the whole object."
    of_whole = f"{len(whole)} of the families the whole object: {listed(whole)}" if whole else "none the object"
    return f"{said}, and {of_whole}."


def _images(gallery: Gallery) -> Markup:
    columns = ["Visible", *map(method_title, gallery.columns)]
    text = Markup()
    for place, image in enumerate(gallery.images, start=1):
        lines = [
            Line(family_title(row.family), [_tile(row, *each) for each in zip(columns, row.pictures, strict=True)])
            for row in image.rows
        ]
        shown = table(f"gallery-{place}", image.title, ["Family", *columns], [LineGroup(lines)], look="gallery")
        image_of = folded(image.title, shown, is_open=place == 1)
        text += html('<div id="image-{{ place }}">{{ image }}</div>', place=place, image=image_of)
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
