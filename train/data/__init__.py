"""Data modules: every one yields `maskrobust.augment.batch.Batch` and tells its classes and pixel statistics."""

from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.cues import Cues
from maskrobust.train.data.fashion import Fashion
from maskrobust.train.data.folder import Folder
from maskrobust.train.data.pets import Pets
from maskrobust.train.data.shards import Shards

__all__ = ["AnnotatedDataModule", "Cues", "Fashion", "Folder", "Pets", "Shards"]
