"""Small folders of annotated images in the layouts that people have: a red object on grey, of three shapes."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask

Pixels = NDArray[Any]
IMAGES = 12


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


def save(pixels: Pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}))


def write_pairs(folder: Path, *, by_class: bool = False) -> dict[str, str]:
    """images/ and masks/, labelled by folders or by labels.csv and labels.json: arguments of `ImagesWithMasks`."""
    names, labels = ("box", "disc", "wedge"), {}
    for each in drawn():
        inside = Path(names[each.label] if by_class else "", each.stem)
        save(each.image, folder / "images" / f"{inside}.jpg")
        save(each.object_mask, folder / "masks" / f"{inside}.png")
        labels[each.stem] = names[each.label]
    found = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    if by_class:
        return found
    (folder / "labels.json").write_text(json.dumps(labels))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "class"), *((f"{stem}.jpg", name) for stem, name in labels.items())])
    return {**found, "labels": str(folder / "labels.csv")}


VOC_LABELS = (7, 11, 14)
"""Positions of cat, dog and person among the classes of VOC, whose numbers in a PNG are one higher."""


def write_voc(folder: Path) -> dict[str, str]:
    """VOC's folders with palette PNGs: arguments of `PascalVOC`.

    Each image has a border of 255 about its object, one far from it, and in a corner a small object of another class.
    The last image, beside IMAGES others, shows two objects of one class.
    """
    root = folder / "VOC2012"
    stems = []
    for each in drawn(IMAGES + 1):
        number = VOC_LABELS[each.label] + 1
        classes, objects = (np.zeros(each.object_mask.shape, dtype=np.uint8) for _ in range(2))
        near = cv2.dilate(each.object_mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        classes[near], objects[near] = 255, 255
        classes[each.object_mask], objects[each.object_mask] = number, 2
        classes[:4, :4], objects[:4, :4] = (number if len(stems) == IMAGES else 5), 1
        classes[-3:, -3:], objects[-3:, -3:] = 255, 255
        save(each.image, root / "JPEGImages" / f"{each.stem}.jpg")
        save_palette(classes, root / "SegmentationClass" / f"{each.stem}.png")
        save_palette(objects, root / "SegmentationObject" / f"{each.stem}.png")
        stems.append(each.stem)
    listed = root / "ImageSets" / "Segmentation" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(stems) + "\n")
    return {"root": str(root)}


def save_palette(numbers: Pixels, path: Path) -> None:
    """A PNG with a palette in which no colour is the number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers)
    image.putpalette([channel for number in range(256) for channel in (255 - number, number // 2, 7)])
    image.save(path)


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


def write_coco(folder: Path) -> dict[str, str]:
    """Images and annotations in COCO's JSON, rectangles as polygons, the others by run lengths: arguments of `Coco`.

    Each image has a small object of another category and a crowd of a third; the last image, beside IMAGES others,
    shows two objects of one category.
    """
    categories = [{"id": 90, "name": "wedge"}, {"id": 7, "name": "box"}, {"id": 18, "name": "disc"}]
    ids = (7, 18, 90)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(drawn(IMAGES + 1)):
        height, width = each.object_mask.shape
        save(each.image, folder / "photos" / f"{each.stem}.jpg")
        images.append({"id": 1000 - number, "file_name": f"{each.stem}.jpg", "height": height, "width": width})
        corner = np.zeros((height, width), dtype=bool)
        corner[:4, :4] = True
        other = ids[each.label if number == IMAGES else (each.label + 1) % 3]
        for category, segmentation, crowd in (
            (other, [[0, 0, 4, 0, 4, 4, 0, 4]], 0),
            (ids[each.label], _segmentation(each), 0),
            (ids[(each.label + 2) % 3], {"size": [height, width], "counts": run_lengths(~corner)}, 1),
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 1000 - number,
                    "category_id": category,
                    "segmentation": segmentation,
                    "iscrowd": crowd,
                }
            )
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return {"images": str(folder / "photos"), "annotations": str(folder / "annotations.json")}


def _segmentation(each: Drawn) -> Any:
    if each.label == 0:
        top, bottom, left, right = each.box
        return [[left, top, right, top, right, bottom, left, bottom]]
    size = list(each.object_mask.shape)
    if each.label == 1:
        return {"size": size, "counts": run_lengths(each.object_mask)}
    packed = mask.encode(np.asfortranarray(each.object_mask, dtype=np.uint8))
    return {"size": size, "counts": packed["counts"].decode()}


def run_lengths(object_mask: Pixels) -> list[int]:
    """Lengths of the runs of a mask column by column, the first of zeros."""
    flat = np.concatenate([[False], object_mask.T.ravel(), [not object_mask.T.ravel()[-1]]])
    ends = np.flatnonzero(np.diff(flat))
    return [int(each) for each in np.diff(ends, prepend=0)]
