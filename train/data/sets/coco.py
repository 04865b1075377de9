"""`Coco`: images with annotations in COCO's JSON, one object each."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.files.file_data import EvaluationImages, check_folders
from maskrobust.train.data.files.image_files import MOST_PIXELS, ImageFile, id_of, read_file, turned_like
from maskrobust.train.storage.files import read_json

Value = TypeVar("Value", int, str)
Record = Mapping[str, Any]
Lengths = tuple[int, ...]

_LONGEST_NAME = 255
_LONGEST_OUTLINE = 2**22
"""In pixels; pycocotools takes about 100 bytes for each."""


class Coco(EvaluationImages):
    """Images with annotations in COCO's JSON (Lin et al., ECCV 2014), for evaluation alone.

    The object of an image is its largest annotation that is no crowd, and its category is the label. Images without one
    are left out, and so are those with a second annotation of that category, crowd or not: the class would stay visible
    with the object hidden. Polygons are filled by pycocotools, the extra `coco`; run lengths may be numbers or text.

    Annotations are those of the stored pixels, which COCO's own tools read without regard to EXIF; masks are turned
    with the image as its EXIF orientation says. Where height and width are those of the image as it is displayed, as
    some annotation tools write them, annotations are those of the displayed image.

    Args:
        images: folder of the images.
        annotations: JSON file of at most 32 MiB, such as instances_val2017.json.
        options: image_size, batch_size, num_workers and leave_out; see `EvaluationImages`.

    Raises:
        MissingFileError: the folder or a file is missing.
        InputError: an argument leaves its range; pycocotools is missing; or the file is no JSON as COCO describes it,
            or names an image outside the folder.
    """

    def __init__(self, images: str, annotations: str, **options: Any) -> None:
        class_names, files = list_coco(Path(images), Path(annotations))
        super().__init__(class_names=class_names, files=files, **options)


class RunLengths(NamedTuple):
    """An object mask by the lengths of its runs.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        runs: lengths of the runs of background and object in turn, column by column, the first of background; their sum
            is height times width.
        image: the file that they were annotated on.
        name: what messages call it.
    """

    height: int
    width: int
    runs: Lengths
    image: Path
    name: str

    def __str__(self) -> str:
        return self.name

    def read(self) -> Tensor:
        """(1, H, W) bool, True on the object, turned with the image as its EXIF orientation says.

        Raises:
            InputError: the image cannot be read.
        """
        columns = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs).reshape(self.width, self.height)
        stored = torch.from_numpy(np.ascontiguousarray(columns.T)).unsqueeze(0)
        return turned_like(stored, read_file(self.image), str(self.image))


def list_coco(images: Path, annotations: Path) -> tuple[tuple[str, ...], list[ImageFile]]:
    """Class names in the order of category ids, and images with one object each; see `Coco`."""
    check_folders(images)
    if not annotations.is_file():
        raise MissingFileError(f"annotations must be a JSON file, but '{annotations}' does not exist; check the path.")
    _pycocotools()
    content = read_json(annotations, "export it again")
    try:
        return _listed(images, content, annotations)
    except _FormatError as error:
        raise InputError(
            f"'{annotations}' must hold annotations as COCO describes them, but {error}; export it again."
        ) from error


class _FormatError(Exception):
    """What is wrong with annotations."""


def _listed(images: Path, content: Any, path: Path) -> tuple[tuple[str, ...], list[ImageFile]]:
    names = {_value(each, "id", int): _value(each, "name", str) for each in _records(content, "categories")}
    labels = {category: label for label, category in enumerate(sorted(names))}
    pictures = _records(content, "images")
    of_image: dict[int, list[Record]] = {_value(each, "id", int): [] for each in pictures}
    if len(of_image) < len(pictures) or len(set(names.values())) < len(_records(content, "categories")):
        raise _FormatError("two images have one id, or two categories one id or name")
    for annotation in _records(content, "annotations"):
        number, image, category = (_value(annotation, key, int) for key in ("id", "image_id", "category_id"))
        if image not in of_image or category not in names:
            raise _FormatError(
                f"annotation {number} is of image {image} and category {category}, which are not both listed"
            )
        of_image[image].append(annotation)
    files = []
    for each in pictures:
        inside = _path_inside(_value(each, "file_name", str))
        file = images / inside
        if not file.is_file():
            raise MissingFileError(f"'{file}' must exist, for '{path}' lists it; check the folder of images.")
        height, width = _size_of(each)
        found = _largest_object(of_image[each["id"]], height, width)
        if found is not None:
            annotation, runs = found
            mask = RunLengths(height, width, runs, file, f"{path}, annotation {annotation['id']}")
            files.append(ImageFile(id_of(inside), file, mask, labels[annotation["category_id"]]))
    if len(files) < len(pictures):
        left_out = f"{len(pictures) - len(files)} of {len(pictures)} images"
        rank_zero_info(f"{left_out} left out, whose largest object is missing or not the only one of its category")
    return tuple(names[category] for category in sorted(names)), files


def _largest_object(annotations: Sequence[Record], height: int, width: int) -> tuple[Record, Lengths] | None:
    """The largest annotation but for crowds, and its runs; None where there is none, or another of its category."""
    read = [(each, _runs_of(each, height, width)) for each in annotations if not each.get("iscrowd")]
    if not read:
        return None
    largest, runs = max(read, key=lambda pair: sum(pair[1][1::2]))
    alone = sum(each["category_id"] == largest["category_id"] for each in annotations) == 1
    return (largest, runs) if alone and any(runs[1::2]) else None


def _runs_of(annotation: Record, height: int, width: int) -> Lengths:
    """The runs of an annotation's mask; see `RunLengths`."""
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, list) and segmentation:
            return _decoded(_coded_polygons(segmentation, height, width))
        if isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
            counts = segmentation.get("counts")
            runs = _decoded(counts.encode("ascii")) if isinstance(counts, str) else tuple(counts or ())
            if not all(type(each) is int and each >= 0 for each in runs) or sum(runs) != height * width:
                raise ValueError("its run lengths do not add up to the size of the image")
            return runs
    except (ValueError, TypeError, OverflowError) as error:
        raise _FormatError(f"the segmentation of annotation {annotation['id']} cannot be read ({error})") from error
    raise _FormatError(
        f"annotation {annotation['id']} has no segmentation by polygons or by run lengths of {height} x {width}"
    )


def _decoded(code: bytes) -> Lengths:
    """The runs of COCO's compressed code.

    A number is written in characters of five bits from 48 on, the lowest first; a sixth bit says that more follow, and
    the highest bit of the last one is the sign. From the fourth number on it is the difference to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in code:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run length has too many digits")
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return tuple(runs)


def _coded_polygons(polygons: Sequence[Any], height: int, width: int) -> bytes:
    """The compressed code of what lies in any of some polygons, as pycocotools fills them."""
    mask, corners, length = _pycocotools(), [], 0.0
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError("a polygon must be x and y of three points or more")
        points = points.reshape(-1, 2).clip([-width, -height], [2 * width, 2 * height])
        length += np.abs(np.diff(points, axis=0, append=points[:1])).sum()
        corners.append(points.ravel().tolist())
    if length > _LONGEST_OUTLINE:
        raise ValueError(f"its outline has more than {_LONGEST_OUTLINE} pixels")
    code: bytes = mask.merge(mask.frPyObjects(corners, height, width))["counts"]
    return code


def _path_inside(name: str) -> Path:
    given = PureWindowsPath(name)  # knows the separators and roots of all systems
    if given.anchor or ".." in given.parts or not 0 < len(name) <= _LONGEST_NAME:
        raise _FormatError(f"its file_name '{name}' does not lie in the folder of images")
    return Path(name)


def _size_of(image: Record) -> tuple[int, int]:
    height, width = _value(image, "height", int), _value(image, "width", int)
    if not (height > 0 and width > 0 and height * width <= MOST_PIXELS):
        raise _FormatError(
            f"an image has {height} x {width} pixels (height x width), of which 1 to {MOST_PIXELS} may be"
        )
    return height, width


def _records(content: Any, key: str) -> list[Record]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _FormatError(f"it has no list '{key}' of objects")
    return found


def _value(record: Record, key: str, kind: type[Value]) -> Value:
    value = record.get(key)
    if type(value) is not kind:
        raise _FormatError(f"'{key}' must be of type {kind.__name__}, got {type(value).__name__}")
    return value


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            f"COCO's polygons are filled by pycocotools, which cannot be imported ({error}); install it with pip "
            "install 'maskrobust[coco]'."
        ) from error
    return mask
