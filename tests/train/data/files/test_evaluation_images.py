"""Images for evaluation alone: what is read from each layout, and how a wrong one is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrobust.errors import InputError
from maskrobust.train.data import EvaluationImages, ImageNetS, ImagesWithMasks
from maskrobust.train.data.files.file_data import FileDataset
from tests.train.data.layouts import IMAGES, WNID_LABELS, WNIDS, drawn, joined, save, write_imagenet_s, write_pairs

NAMES = ("box", "disc", "wedge")
LAYOUTS: dict[str, tuple[type[EvaluationImages], Callable[[Path], dict[str, str]]]] = {
    "pairs": (ImagesWithMasks, write_pairs),
    "folders": (ImagesWithMasks, lambda folder: write_pairs(folder, by_class=True)),
    "imagenet_s": (ImageNetS, write_imagenet_s),
}
SMALL: dict[str, Any] = {"image_size": 64, "batch_size": 5, "num_workers": 0}
CLASSES = {"pairs": NAMES, "folders": NAMES, "imagenet_s": tuple(WNIDS[label] for label in WNID_LABELS)}


def make(name, folder):
    kind, write = LAYOUTS[name]
    made: EvaluationImages = kind(**write(folder), **SMALL)  # type: ignore[arg-type]
    return made


def read_whole(data, stem):
    """The object mask of an image at full size, and its class."""
    (file,) = (each for each in data.files("val") if each.image.stem.endswith(stem))
    dataset = FileDataset([file], data.mask_code, 64)
    dataset.transform.of_sample = lambda sample, *_: sample  # type: ignore[method-assign]
    return dataset[0].object_mask[0].numpy(), data.class_names[file.label]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_object_is_read_to_the_pixel_with_its_class(name, tmp_path):
    data = make(name, tmp_path)
    assert len(data.files("val")) == IMAGES and data.num_classes == len(data.class_names)
    for each in drawn():
        object_mask, class_name = read_whole(data, each.stem)
        assert class_name == CLASSES[name][each.label]
        assert np.array_equal(object_mask, each.object_mask)


def test_they_have_one_split_and_cannot_be_trained_on(tmp_path):
    data = make("pairs", tmp_path)
    assert data.splits == ("val",)
    with pytest.raises(InputError, match="images for evaluation alone, which are its split 'val', got 'train'"):
        data.setup("fit")


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def moved(name):
    return lambda folder: (folder / name).rename(folder / "elsewhere")


def twice(folder):
    one = next(folder.glob("images/*/*.jpg"))
    one.with_suffix(".tif").write_bytes(one.read_bytes())


SQUARE = np.zeros((9, 9), dtype=np.uint8)
WRONG: list[tuple[str, Callable[[Path], object], str]] = [
    ("pairs", moved("labels.csv"), "labels.csv' must hold image and class as CSV, but does not exist"),
    ("pairs", moved("masks/photo_003.png"), "photo_003.png' does not exist for .*photo_003.jpg'; add it, or remove"),
    ("pairs", lambda folder: save(SQUARE, folder / "masks/photo_003.png"), r"photo_003.png' must have the size of its"),
    ("pairs", lambda folder: save(SQUARE, folder / "images/more/photo_003.jpg"), "masks/more/photo_003.png' does not"),
    ("pairs", text("labels.csv", "image,class\nphoto_000,box\n"), "must give the class of 'photo_001'"),
    ("pairs", text("labels.csv", 'image,class\n"a,b\n'), "unexpected end of data"),
    ("pairs", text("labels.csv", "image,class\na,b\na,c\n"), "must name each image once"),
    ("folders", lambda folder: save(SQUARE, folder / "images/loose.jpg"), "loose.jpg' .*, or give labels"),
    ("folders", twice, r"must have a name of its own but for the suffix, got '.*[.]jpg' and '.*[.]tif'"),
    ("imagenet_s", moved(f"validation/{WNIDS[7]}"), "got 299; unpack the whole download"),
    (
        "imagenet_s",
        lambda folder: save(
            np.full((64, 90, 3), (0, 3, 0), np.uint8),
            folder / f"validation-segmentation/{WNIDS[3]}/ILSVRC2012_val_photo_000.png",
        ),
        "must hold class ids up to 300, one for each folder of images, got 768",
    ),
]


@pytest.mark.parametrize(("name", "harm", "message"), WRONG, ids=[message[:30] for _, _, message in WRONG])
def test_a_wrong_layout_is_one_sentence(name, harm, message, tmp_path):
    kind, write = LAYOUTS[name]
    options = write(tmp_path)
    harm(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        joined(kind(**options, **SMALL).val_dataloader())  # type: ignore[arg-type]
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
