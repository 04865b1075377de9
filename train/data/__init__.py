"""Data modules: every one yields `augment.batch.Batch` and tells its classes and pixel statistics."""

from train.data.base import AnnotatedDataModule
from train.data.cues import Cues
from train.data.fashion import Fashion
from train.data.folder import Folder
from train.data.pets import Pets
from train.data.shards import Shards

__all__ = ["AnnotatedDataModule", "Cues", "Fashion", "Folder", "Pets", "Shards"]
