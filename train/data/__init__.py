"""Data modules, which yield `Batch` and know their classes and pixel statistics.

A module of your own subclasses `InMemoryDataModule`, `FileDataModule` or `AnnotatedDataModule` in your own file, and is
named by its class path: `--data my_data.Animals`. See docs/data.md.
"""

from maskrobust.train.data.base import (
    AnnotatedDataModule as AnnotatedDataModule,
    InMemoryDataModule as InMemoryDataModule,
)
from maskrobust.train.data.files.file_data import (
    EvaluationImages as EvaluationImages,
    FileDataModule as FileDataModule,
    train_val_split as train_val_split,
)
from maskrobust.train.data.files.image_files import ImageFile as ImageFile, ObjectMask as ObjectMask, id_of as id_of
from maskrobust.train.data.sets.cues import Cues as Cues
from maskrobust.train.data.sets.folder import Folder as Folder
from maskrobust.train.data.sets.images import Images as Images
from maskrobust.train.data.sets.images_with_masks import ImageNetS as ImageNetS, ImagesWithMasks as ImagesWithMasks
from maskrobust.train.data.sets.pets import Pets as Pets
from maskrobust.train.data.sets.shards import Shards as Shards
from maskrobust.train.data.sets.tiles import Tiles as Tiles
from maskrobust.train.data.transforms import Transform as Transform
from maskrobust.train.data_options import Split as Split

_SETS = f"{__name__}.sets."
SHIPPED = tuple(
    name for name, each in globals().items() if isinstance(each, type) and each.__module__.startswith(_SETS)
)
"""Data modules that a YAML or a command names without a path."""
