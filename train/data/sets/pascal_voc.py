"""`PascalVOC`: PASCAL VOC's segmented images, one object each."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.files.file_data import EvaluationImages, check_folders
from maskrobust.train.data.files.image_files import ImageFile, decode_label_map, id_of, read_file

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_BORDER = 255
_BORDER_WIDTH = 5


class PascalVOC(EvaluationImages):
    """Segmented images of PASCAL VOC (Everingham et al., IJCV 2010), for evaluation alone.

    Read from ImageSets/Segmentation, JPEGImages, SegmentationClass and SegmentationObject. The object of an image is
    its largest one, and its class is the label. An image that shows a second object of that class is left out: the
    class would stay visible with the object hidden. The border (255) is neither object nor background: where it lies
    within 5 pixels, its width, of the object, it is hidden with it.

    Args:
        root: folder of one year, such as VOCdevkit/VOC2012.
        image_set: list of images, ImageSets/Segmentation/{image_set}.txt: val, train or trainval.
        options: image_size, batch_size, num_workers and leave_out; see `EvaluationImages`.

    Raises:
        MissingFileError: a folder or file is missing.
        InputError: an argument leaves its range; the list does not name images; or a PNG has another size than its
            pair, or numbers that are no class of VOC.
    """

    def __init__(self, root: str, image_set: str = "val", **options: Any) -> None:
        super().__init__(class_names=CLASS_NAMES, files=list_pascal_voc(Path(root), image_set), **options)


class ObjectPixels(NamedTuple):
    """The pixels of one object in a PNG of SegmentationObject, with the border that touches it.

    Attributes:
        path: path of the PNG.
        number: number of the object, from 1.
    """

    path: Path
    number: int

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> Tensor:
        """(1, H, W) bool, True on the object and its border.

        Raises:
            InputError: the PNG cannot be read.
        """
        numbers = _label_map(self.path)
        inside = numbers == self.number
        side = 2 * _BORDER_WIDTH + 1
        near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
        return torch.from_numpy(inside | (near & (numbers == _BORDER))).unsqueeze(0)


def list_pascal_voc(root: Path, image_set: str) -> list[ImageFile]:
    """The images of a list with one object each; see `PascalVOC` for arguments and errors."""
    images, classes, objects = (root / name for name in ("JPEGImages", "SegmentationClass", "SegmentationObject"))
    check_folders(images, classes, objects)
    names = _listed_names(root / "ImageSets" / "Segmentation" / f"{image_set}.txt")
    files = []
    for name in names:
        image, class_png, object_png = images / f"{name}.jpg", classes / f"{name}.png", objects / f"{name}.png"
        for path in (image, class_png, object_png):
            if not path.is_file():
                raise MissingFileError(f"'{path}' must exist, for '{image_set}' lists it; unpack the archive again.")
        found = _largest_object(class_png, object_png)
        if found is not None:
            number, label = found
            files.append(ImageFile(id_of(image.relative_to(root)), image, ObjectPixels(object_png, number), label))
    if len(files) < len(names):
        left_out = f"{len(names) - len(files)} of {len(names)} images"
        rank_zero_info(f"{left_out} left out, whose largest object is missing or not the only one of its class")
    return files


def _listed_names(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingFileError(f"'{path}' must list the images, but does not exist; check root and image_set.")
    names = path.read_text(encoding="utf-8", errors="backslashreplace").split()
    for name in names:
        if not re.fullmatch(r"[\w-]{1,200}", name, re.ASCII):
            raise InputError(f"'{path}' must name images by letters and digits, got '{name}'; unpack it again.")
    return names


def _largest_object(class_png: Path, object_png: Path) -> tuple[int, int] | None:
    """Number and label of the largest object; None where there is none, or a second of its class."""
    classes, objects = _label_map(class_png), _label_map(object_png)
    if classes.shape != objects.shape:
        raise InputError(
            f"'{class_png}' and '{object_png}' must have one size, got {classes.shape} and {objects.shape} (height, "
            "width); unpack the archive again."
        )
    unknown = classes[(classes > len(CLASS_NAMES)) & (classes != _BORDER)]
    if unknown.size:
        raise InputError(
            f"'{class_png}' must hold the {len(CLASS_NAMES)} classes of VOC, 0 and 255, got {unknown[0]}; give images "
            "of other classes as ImagesWithMasks or Coco."
        )
    pixels = np.bincount(256 * objects.ravel() + classes.ravel(), minlength=256**2).reshape(256, 256)
    by_class = pixels[1:_BORDER, 1 : len(CLASS_NAMES) + 1]
    areas, labels = by_class.sum(axis=1), by_class.argmax(axis=1)
    largest = int(areas.argmax())
    if ((labels == labels[largest]) & (areas > 0)).sum() != 1:
        return None
    return largest + 1, int(labels[largest])


def _label_map(path: Path) -> NDArray[np.int32]:
    numbers: NDArray[np.int32] = decode_label_map(read_file(path), "palette", str(path)).numpy()
    if numbers.min() < 0 or numbers.max() > _BORDER:
        raise InputError(f"'{path}' must hold numbers from 0 to 255, got {numbers.max()}; save it with 8 bits.")
    return numbers
