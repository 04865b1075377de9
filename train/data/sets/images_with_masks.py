"""`ImagesWithMasks` and `ImageNetS`: a folder of images and a folder of masks, for evaluation."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.base import ALL_SPLITS
from maskrobust.train.data.files.file_data import EvaluationImages, check_folders, warn_of_skipped
from maskrobust.train.data.files.image_files import (
    IMAGE_SUFFIXES,
    IMAGENET_S_IGNORE,
    ImageFile,
    MaskCode,
    decode_imagenet_s,
    list_classes,
    list_folder,
    list_images,
    read_file,
)
from maskrobust.train.storage.files import read_pairs


class ImagesWithMasks(EvaluationImages):
    """Images in one folder and their masks, as PNG, in another under the same names, for evaluation alone.

    The class of IMAGES/cat/one.jpg (mask: MASKS/cat/one.png) is its folder, or `labels` says the class of
    IMAGES/one.jpg (mask: MASKS/one.png). Every image has a mask.

    Args:
        images: folder of the images.
        masks: folder of the masks.
        labels: CSV file that says the class of each image, by its name with or without suffix, and whose first line is
            `image,class`. None where images lie in one folder for each class.
        mask_code: how masks are to be read: "binary" (not black is the object), "imagenet_s" or "trimap"; see
            `image_files.decode_mask`.
        objects: which images show one object: a CSV file whose first line is `image,object`, by the path of an image
            below the folder of the images, with or without suffix; or a regular expression, whose first group in that
            path names the object. None where every image shows another one.
        options: image_size, batch_size, num_workers, visible, value_range and show_bands; see `EvaluationImages`.

    Raises:
        MissingFileError: a folder or the file is missing.
        InputError: an argument leaves its range, the file cannot be read, or an image has no mask, no class, or the
            name of another.
    """

    def __init__(
        self, images: str, masks: str, labels: str | None = None, *, mask_code: MaskCode = "binary",
        objects: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        class_names, files = list_with_masks(Path(images), Path(masks), None if labels is None else Path(labels))
        super().__init__(class_names=class_names, files=files, **options)
        self.mask_code = mask_code
        self.root = Path(images)
        self._take_objects(objects)


def list_with_masks(images: Path, masks: Path, labels: Path | None) -> tuple[tuple[str, ...], list[ImageFile]]:
    """Class names, and the images that have a mask; see `ImagesWithMasks` for arguments and errors."""
    check_folders(images, masks)
    class_names = _class_folders(images) if labels is None else ()
    if class_names and {*class_names} <= {*ALL_SPLITS}:
        raise InputError(
            f"images must hold images or a folder of each class, but '{images}' holds the splits "
            f"{', '.join(class_names)}; give one of them, such as '{images / class_names[-1]}', and its masks."
        )
    if labels is None:
        found, others = list_images(images, ".", masks, {name: label for label, name in enumerate(class_names)})
        names = [file.image.relative_to(images).with_suffix("").as_posix() for file in found]
    else:
        found, others = list_folder(images, images, masks, label=-1)
        names = [file.image.stem for file in found]
    _check(found, names, images, masks)
    warn_of_skipped(str(images), others)
    if labels is None:
        return class_names, found
    class_of = _classes_of(found, labels)
    class_names = tuple(sorted(set(class_of)))
    return class_names, [
        file._replace(label=class_names.index(name)) for file, name in zip(found, class_of, strict=True)
    ]


def _class_folders(images: Path) -> tuple[str, ...]:
    """Names of the folders of classes, beside which no image may lie."""
    loose = [each for each in sorted(images.iterdir()) if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file()]
    if loose := [each for each in loose if not each.name.startswith(".")]:
        raise InputError(
            f"every image must lie in the folder of its class, but '{loose[0]}' does not; move it there, or give "
            "labels, a file that says the class of each."
        )
    return list_classes(images)


def _check(files: list[ImageFile], names: list[str], images: Path, masks: Path) -> None:
    """Refuse images that share a name, which would be the name of one mask or label for both, or that have no mask."""
    known: dict[str, Path] = {}
    for file, name in zip(files, names, strict=True):
        if name in known:
            raise InputError(
                f"every image must have a name of its own but for the suffix, got '{known[name]}' and '{file.image}'; "
                "rename one of them."
            )
        known[name] = file.image
        if file.mask is None:
            expected = (masks / file.image.relative_to(images)).with_suffix(".png")
            raise InputError(
                f"every image must have a mask, but '{expected}' does not exist for '{file.image}'; add it, or remove "
                "the image."
            )


def _classes_of(files: list[ImageFile], labels: Path) -> list[str]:
    given = read_pairs(labels, "image", "class")
    class_of = [given.get(file.image.stem) or given.get(file.image.name) for file in files]
    for file, name in zip(files, class_of, strict=True):
        if name is None:
            raise InputError(
                f"'{labels}' must give the class of '{file.image.stem}', but does not; add it, or remove the image."
            )
    return [name for name in class_of if name is not None]


_SIZES = (50, 300, 919)
"""Numbers of classes of ImageNet-S-50, ImageNet-S-300 and ImageNet-S."""


class ImageNetS(EvaluationImages):
    """Validation images of ImageNet-S, -300 or -50 (Gao et al., TPAMI 2022), for evaluation alone.

    Images lie in root/validation/n01440764/, masks in root/validation-segmentation/n01440764/. Classes are named by
    their WordNet ids. A mask holds class ids, red + 256 green: the place, from 1, of the image's folder among all
    folders in order. Pixels of the image's own class are the object; those of id 1000, to be ignored, are none.

    Args:
        root: folder that holds validation and validation-segmentation.
        options: image_size, batch_size, num_workers, visible, value_range and show_bands; see `EvaluationImages`.

    Raises:
        MissingFileError: a folder is missing.
        InputError: an argument leaves its range, there are not the 50, 300 or 919 folders of classes, or an image has
            no mask.
    """

    def __init__(self, root: str, **options: Any) -> None:
        images, masks = Path(root, "validation"), Path(root, "validation-segmentation")
        check_folders(images, masks)
        _check_classes(images)
        class_names, files = list_with_masks(images, masks, labels=None)
        files = [
            file._replace(mask=ClassPixels(file.mask, file.label + 1, len(class_names)))
            for file in files
            if isinstance(file.mask, Path)
        ]
        super().__init__(class_names=class_names, files=files, **options)
        self.root = images


class ClassPixels(NamedTuple):
    """The pixels of one class in a mask of ImageNet-S.

    Attributes:
        path: path of the mask.
        class_id: index of the class, from 1.
        num_classes: largest class id.
    """

    path: Path
    class_id: int
    num_classes: int

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> Tensor:
        """(1, H, W) bool, True on the class.

        Raises:
            InputError: the mask cannot be read, or holds a class that there is not.
        """
        classes = decode_imagenet_s(read_file(self.path), str(self.path))
        unknown = classes[((classes < 0) | (classes > self.num_classes)) & (classes != IMAGENET_S_IGNORE)]
        if len(unknown):
            raise InputError(
                f"'{self.path}' must hold class ids up to {self.num_classes}, one for each folder of images, got "
                f"{int(unknown[0])}; take images and masks of the same download."
            )
        return (classes == self.class_id).unsqueeze(0)


def _check_classes(images: Path) -> None:
    names = list_classes(images)
    odd = [name for name in names if not re.fullmatch("n[0-9]{8}", name)]
    if odd:
        raise InputError(f"'{images}' must hold folders named by WordNet ids, got '{odd[0]}'; remove it.")
    if len(names) not in _SIZES:
        raise InputError(
            f"'{images}' must hold all 50, 300 or 919 folders of classes, for the class ids of the masks count them, "
            f"got {len(names)}; unpack the whole download."
        )
