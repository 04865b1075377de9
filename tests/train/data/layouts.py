"""Small folders of annotated images in the layouts that people have: a red object on grey, of three shapes."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrobust.augment.batch import Batch

Pixels = NDArray[Any]
IMAGES = 12


def joined(batches: Any) -> Batch:
    """All batches of a loader as one, as they are on a device."""
    return Batch.cat(batches).to("cpu")


class Drawn(NamedTuple):
    """One image.

    Attributes:
        stem: of its file.
        image: (H, W, 3) uint8.
        object_mask: (H, W) bool.
        box: rows and columns that hold the object: top, bottom, left, right, the second and fourth excluded.
        label: 0 for a rectangle, 1 for an ellipse, 2 for a triangle.
    """

    stem: str
    image: Pixels
    object_mask: Pixels
    box: tuple[int, int, int, int]
    label: int


def drawn(count: int = IMAGES) -> Iterator[Drawn]:
    """Images, each of its own size."""
    for number in range(count):
        height, width, label = 64 + number, 90 - number, number % 3
        top, left, tall, wide = 16 + number // 3, 26 + number // 4, 26 + number % 5, 28 + number % 4
        rows, columns = np.mgrid[:height, :width]
        down, across = (rows + 0.5 - top) / tall, (columns + 0.5 - left) / wide
        inside = (down > 0) & (down < 1) & (across > 0) & (across < 1)
        if label == 1:
            inside = (2 * down - 1) ** 2 + (2 * across - 1) ** 2 < 1
        if label == 2:
            inside &= across < down
        image = np.full((height, width, 3), 60 + 5 * number, dtype=np.uint8)
        image[inside] = (250, 10, 10)
        yield Drawn(f"photo_{number:03d}", image, inside, (top, top + tall, left, left + wide), label)


def save(pixels: Pixels, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(
        path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}), **options
    )


def write_classes(path: Path, outputs: Mapping[str, int]) -> None:
    """What `--classes` takes."""
    path.write_text("class,output\n" + "".join(f"{name},{output}\n" for name, output in outputs.items()))


def write_pairs(folder: Path, *, by_class: bool = False) -> dict[str, str]:
    """images/ and masks/, labelled by folders or by labels.csv: arguments of `ImagesWithMasks`."""
    names, labels = ("box", "disc", "wedge"), {}
    for each in drawn():
        inside = Path(names[each.label] if by_class else "", each.stem)
        save(each.image, folder / "images" / f"{inside}.jpg")
        save(each.object_mask, folder / "masks" / f"{inside}.png")
        labels[each.stem] = names[each.label]
    found = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    if by_class:
        return found
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image", " class"), *((f"{stem}.jpg ", f" {name}") for stem, name in labels.items())]
        )
    return {**found, "labels": str(folder / "labels.csv")}


WNIDS = tuple(f"n{number:08d}" for number in range(300))
WNID_LABELS = (3, 259, 270)
"""Of the three shapes: the class ids of two of them are above 255, and take green."""


def write_imagenet_s(folder: Path) -> dict[str, str]:
    """ImageNet-S-300's validation with images of three classes: arguments of `ImageNetS`."""
    for name in WNIDS:
        (folder / "validation" / name).mkdir(parents=True)
    for each in drawn():
        label = WNID_LABELS[each.label]
        classes = np.where(each.object_mask, label + 1, 0)
        classes[:3] = 1000
        classes[-3:] = 8  # some other class
        colours = np.stack([classes % 256, classes // 256, np.zeros_like(classes)], axis=-1).astype(np.uint8)
        save(each.image, folder / "validation" / WNIDS[label] / f"ILSVRC2012_val_{each.stem}.JPEG")
        save(colours, folder / "validation-segmentation" / WNIDS[label] / f"ILSVRC2012_val_{each.stem}.png")
    return {"root": str(folder)}
