"""Images for evaluation alone: what is read from each layout, and how a wrong one is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from maskrobust.errors import InputError
from maskrobust.train.data import Coco, EvaluationImages, ImageNetS, ImagesWithMasks, PascalVOC
from maskrobust.train.data.files.file_data import FileDataset
from maskrobust.train.data.sets.pascal_voc import CLASS_NAMES
from tests.train.data.conftest import joined
from tests.train.data.layouts import (
    IMAGES,
    VOC_LABELS,
    WNID_LABELS,
    WNIDS,
    drawn,
    save,
    save_palette,
    write_coco,
    write_imagenet_s,
    write_pairs,
    write_voc,
)

NAMES = ("box", "disc", "wedge")
LAYOUTS: dict[str, tuple[type[EvaluationImages], Callable[[Path], dict[str, str]]]] = {
    "pairs": (ImagesWithMasks, write_pairs),
    "folders": (ImagesWithMasks, lambda folder: write_pairs(folder, by_class=True)),
    "voc": (PascalVOC, write_voc),
    "coco": (Coco, write_coco),
    "imagenet_s": (ImageNetS, write_imagenet_s),
}
SMALL: dict[str, Any] = {"image_size": 64, "batch_size": 5, "num_workers": 0}
CLASSES = {
    "pairs": NAMES,
    "folders": NAMES,
    "voc": tuple(CLASS_NAMES[label] for label in VOC_LABELS),
    "coco": NAMES,
    "imagenet_s": tuple(WNIDS[label] for label in WNID_LABELS),
}


def make(name, folder):
    kind, write = LAYOUTS[name]
    made: EvaluationImages = kind(**write(folder), **SMALL)  # type: ignore[arg-type]
    return made


def read_whole(data, stem):
    """The object mask of an image at full size, and its class."""
    (file,) = (each for each in data.files("val") if each.image.stem.endswith(stem))
    dataset = FileDataset([file], data.mask_code, 64)
    dataset.view = lambda image, object_mask: (image, object_mask)
    return dataset[0].object_mask[0].numpy(), data.class_names[file.label]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_object_is_read_to_the_pixel_with_its_class(name, tmp_path):
    data = make(name, tmp_path)
    assert len(data.files("val")) == IMAGES and data.num_classes == len(data.class_names)
    for each in drawn():
        object_mask, class_name = read_whole(data, each.stem)
        assert class_name == CLASSES[name][each.label]
        if name == "voc":  # whose border has a test of its own
            object_mask &= cv2.erode(object_mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert np.array_equal(object_mask, each.object_mask)


@pytest.mark.parametrize("name", LAYOUTS)
def test_classes_left_out_are_passed_over_and_the_others_keep_their_images(name, tmp_path):
    kind, write = LAYOUTS[name]
    options = write(tmp_path)
    gone = CLASSES[name][0]
    data = kind(**options, **SMALL, leave_out=[gone])  # type: ignore[arg-type]
    assert gone not in data.class_names
    kept = [each for each in drawn() if CLASSES[name][each.label] != gone]
    assert 0 < len(kept) == len(data.files("val")) < IMAGES
    assert all(read_whole(data, each.stem)[1] == CLASSES[name][each.label] for each in kept)


def test_the_border_of_voc_belongs_to_the_object_that_it_touches_alone(tmp_path):
    data = make("voc", tmp_path)
    each = next(drawn())
    object_mask, _ = read_whole(data, each.stem)
    top, bottom, left, right = each.box
    expected = np.zeros_like(object_mask)
    expected[top - 2 : bottom + 2, left - 2 : right + 2] = True
    assert np.array_equal(object_mask, expected)


def test_labels_are_read_from_json_as_from_csv(tmp_path):
    options = write_pairs(tmp_path)
    by_csv = ImagesWithMasks(**options, **SMALL)
    by_json = ImagesWithMasks(**options | {"labels": str(tmp_path / "labels.json")}, **SMALL)
    assert by_csv.files("val") == by_json.files("val") and by_csv.class_names == by_json.class_names


def test_they_have_one_split_and_cannot_be_trained_on(tmp_path):
    data = make("pairs", tmp_path)
    assert data.splits == ("val",)
    with pytest.raises(InputError, match="images for evaluation alone, which are its split 'val', got 'train'"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("orientation", "annotated"), [(2, "stored"), (3, "stored"), (6, "stored"), (7, "stored"), (6, "displayed")]
)
def test_coco_masks_are_turned_with_their_images(tmp_path, orientation, annotated):
    options = write_coco(tmp_path)
    (each, *_), path = drawn(), tmp_path / "photos" / "photo_000.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(each.image).save(path, quality=95, exif=exif)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image), dtype=int)
    if annotated == "displayed":
        rows, columns = np.nonzero(shown[..., 0] - shown[..., 1] > 100)
        left, right, top, bottom = (int(end) for end in (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1))
        box = [left, top, right, top, right, bottom, left, bottom]
        content = json.loads((tmp_path / "annotations.json").read_text())
        content["images"][0].update(height=shown.shape[0], width=shown.shape[1])
        content["annotations"] = [
            {**annotation, "segmentation": [box]} if annotation["id"] == 2 else annotation
            for annotation in content["annotations"]
            if annotation["id"] != 3
        ]
        (tmp_path / "annotations.json").write_text(json.dumps(content))
    data = Coco(**options, **SMALL)
    object_mask, _ = read_whole(data, "photo_000")
    assert object_mask.shape == shown.shape[:2]
    assert (object_mask == (shown[..., 0] - shown[..., 1] > 100)).mean() > 0.98


def test_coco_says_how_to_get_the_library_it_needs(tmp_path, monkeypatch):
    options = write_coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r"install it with pip install 'maskrobust\[coco\]'"):
        Coco(**options)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def coco(change):
    return lambda folder: edit(folder / "annotations.json", change)


def of_annotation(number, **values):
    return coco(lambda content: content["annotations"][number].update(values))


def of_image(**values):
    return coco(lambda content: content["images"][0].update(values))


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def moved(name):
    return lambda folder: (folder / name).rename(folder / "elsewhere")


VOC_CLASSES = "VOC2012/SegmentationClass"
SQUARE = np.zeros((9, 9), dtype=np.uint8)
WRONG: list[tuple[str, Callable[[Path], object], str]] = [
    ("pairs", moved("masks"), "masks' must be a folder, but does not exist"),
    ("pairs", moved("labels.csv"), "labels.csv' does not exist"),
    ("pairs", moved("masks/photo_003.png"), "photo_003.png' does not exist for .*photo_003.jpg'; add it, or remove"),
    ("pairs", lambda folder: save(SQUARE, folder / "masks/photo_003.png"), r"photo_003.png' must have the size of its"),
    ("pairs", lambda folder: save(SQUARE, folder / "images/more/photo_003.jpg"), "masks/more/photo_003.png' does not"),
    ("pairs", text("labels.csv", "image,class\nphoto_000,box\n"), "must give the class of 'photo_001'"),
    ("pairs", text("labels.csv", "photo_000,box\n"), "its first line is photo_000,box"),
    ("pairs", text("labels.csv", "image,class\na,b,c\n"), "line 2 does not hold image and class"),
    ("pairs", text("labels.csv", 'image,class\n"a,b\n'), "unexpected end of data"),
    ("json", text("labels.json", "[" * 100_000), "nested too deeply"),
    ("json", text("labels.json", '{"photo_000": 3}'), "the class of 'photo_000' is no text"),
    ("folders", lambda folder: save(SQUARE, folder / "images/loose.jpg"), "loose.jpg' does not; move it there"),
    ("voc", text("VOC2012/ImageSets/Segmentation/val.txt", "../photo_000"), r"got '../photo_000'"),
    ("voc", moved("VOC2012/JPEGImages/photo_001.jpg"), "photo_001.jpg' must exist, for 'val' lists it"),
    ("voc", lambda folder: save_palette(SQUARE + 21, folder / VOC_CLASSES / "photo_000.png"), "one size"),
    (
        "voc",
        lambda folder: save_palette(np.full((64, 90), 21, np.uint8), folder / VOC_CLASSES / "photo_000.png"),
        "must hold the 20 classes of VOC, 0 and 255, got 21",
    ),
    ("coco", moved("photos"), "photos' must be a folder"),
    ("coco", text("annotations.json", "{"), "not readable JSON .*; export it again"),
    ("coco", text("annotations.json", '{"images":' + "[" * 100_000), "nested too deeply"),
    ("coco", of_image(file_name="../photos/photo_000.jpg"), "'../photos/photo_000.jpg' does not lie in the folder"),
    ("coco", of_image(file_name="nowhere.jpg"), "nowhere.jpg' must exist"),
    ("coco", of_image(height=60), r"annotations.json, annotation 2' must have the size of its image"),
    ("coco", of_image(height=10**6, width=10**6), "an image has 1000000 x 1000000 pixels"),
    ("coco", of_image(height=None), "'height' must be of type int, got NoneType"),
    ("coco", of_annotation(1, category_id=8), "is of image 1000 and category 8, which are not both listed"),
    ("coco", of_annotation(1, segmentation=[]), "annotation 2 has no segmentation by polygons or by run lengths"),
    ("coco", of_annotation(1, segmentation=[[0, 0, 4, 4]]), "a polygon must be x and y of three points or more"),
    ("coco", of_annotation(1, segmentation=[[-1e9, 0, 1e9, 64] * 10_000]), "outline has more than"),
    ("coco", of_annotation(1, segmentation={"size": [64, 90], "counts": [0, 10**6]}), "its run lengths do not add up"),
    ("imagenet_s", moved("validation-segmentation"), "validation-segmentation' must be a folder"),
    ("imagenet_s", moved(f"validation/{WNIDS[7]}"), "got 299; unpack the whole download"),
    ("imagenet_s", lambda folder: (folder / "validation/birds").mkdir(), "named by WordNet ids, got 'birds'"),
    (
        "imagenet_s",
        lambda folder: save(
            np.full((64, 90, 3), (0, 3, 0), np.uint8),
            folder / f"validation-segmentation/{WNIDS[3]}/ILSVRC2012_val_photo_000.png",
        ),
        "must hold class ids up to 300, one for each folder of images, got 768",
    ),
    (
        "imagenet_s",
        moved(f"validation-segmentation/{WNIDS[3]}/ILSVRC2012_val_photo_000.png"),
        "every image must have a mask",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "harm", "message"), WRONG, ids=[message[:30] for _, _, message in WRONG])
def test_a_wrong_layout_is_one_sentence(name, harm, message, tmp_path):
    kind, write = LAYOUTS["pairs" if name == "json" else name]
    options = write(tmp_path) | ({"labels": str(tmp_path / "labels.json")} if name == "json" else {})
    harm(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        joined(kind(**options, **SMALL).val_dataloader())  # type: ignore[arg-type]
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
