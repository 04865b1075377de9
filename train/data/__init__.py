"""Data modules: every one yields `maskrobust.augment.batch.Batch` and tells its classes and pixel statistics.

A module of your own subclasses `InMemoryDataModule`, `FileDataModule` or `AnnotatedDataModule` in your own file, and is
named by its class path: `--data my_data.Animals`. See docs/data.md.
"""

from maskrobust.train.data.base import AnnotatedDataModule, InMemoryDataModule, Samples
from maskrobust.train.data.files.evaluation_images import EvaluationImages
from maskrobust.train.data.files.file_data import FileDataModule, train_val_split
from maskrobust.train.data.files.image_files import ImageFile, ObjectMask, id_of
from maskrobust.train.data.sets.coco import Coco
from maskrobust.train.data.sets.cues import Cues
from maskrobust.train.data.sets.cutouts import Cutouts
from maskrobust.train.data.sets.fashion import Fashion
from maskrobust.train.data.sets.folder import Folder
from maskrobust.train.data.sets.imagenet_s import ImageNetS
from maskrobust.train.data.sets.images_with_masks import ImagesWithMasks
from maskrobust.train.data.sets.pascal_voc import PascalVOC
from maskrobust.train.data.sets.pets import Pets
from maskrobust.train.data.sets.shards import Shards
from maskrobust.train.types import Split

SHIPPED = (
    *("Cues", "Cutouts", "Fashion", "Folder", "Pets"),
    *("ImagesWithMasks", "ImageNetS", "PascalVOC", "Coco", "Shards"),
)
"""Data modules that a YAML or a command names without a path."""

__all__ = [
    "SHIPPED",
    "AnnotatedDataModule",
    "Coco",
    "Cues",
    "Cutouts",
    "EvaluationImages",
    "Fashion",
    "FileDataModule",
    "Folder",
    "ImageFile",
    "ImageNetS",
    "ImagesWithMasks",
    "InMemoryDataModule",
    "ObjectMask",
    "PascalVOC",
    "Pets",
    "Samples",
    "Shards",
    "Split",
    "id_of",
    "train_val_split",
]
