"""The validation images of ImageNet-S as they are downloaded."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.files.evaluation_images import EvaluationImages, check_folders
from maskrobust.train.data.files.image_files import IMAGENET_S_IGNORE, decode_label_map, list_classes, read_file
from maskrobust.train.data.sets.images_with_masks import list_with_masks

_SIZES = (50, 300, 919)
"""Numbers of classes of ImageNet-S-50, ImageNet-S-300 and ImageNet-S."""


class ImageNetS(EvaluationImages):
    """Validation images of ImageNet-S, -300 or -50 (Gao et al., TPAMI 2022), for evaluation alone.

    Images lie in root/validation/n01440764/, masks in root/validation-segmentation/n01440764/. Classes are named by
    their WordNet ids. A mask holds class ids, red + 256 green: the place, from 1, of the image's folder among all
    folders in order. Pixels of the image's own class are the object; those of id 1000, to be ignored, are none.

    Args:
        root: folder that holds validation and validation-segmentation.
        options: image_size, batch_size, num_workers and leave_out; see `EvaluationImages`.

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


class ClassPixels(NamedTuple):
    """The pixels of one class in a mask of ImageNet-S.

    Attributes:
        path: of the mask.
        class_id: from 1.
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
        classes = decode_label_map(read_file(self.path), "imagenet_s", str(self.path))
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
