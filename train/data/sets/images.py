"""`Images`: images without labels, in one folder."""

from pathlib import Path
from typing import Any

from maskrobust.errors import MissingFileError, check_within
from maskrobust.train.data.files.file_data import FileDataModule, images_below, train_val_split
from maskrobust.train.data.files.image_files import ImageFile
from maskrobust.train.data_options import Split

_UNLABELLED = -1


class Images(FileDataModule):
    """All images at any depth below one folder, without labels, for `maskrobust pretrain`.

    Views are those of `FileDataModule`. There is no test split.

    Args:
        root: folder of the images.
        val_fraction: fraction of the images that the validation loss is measured on, in (0, 1), decided by their ids.
        options: image_size, batch_size, num_workers, seed, mean, std, transform, visible, value_range and show_bands;
            see `FileDataModule`. The seed decides the validation split, too.

    Raises:
        MissingFileError: there is no such folder, or no image in it.
        InputError: an argument leaves its range, or `val_fraction` leaves a split empty.
    """

    num_classes = 0
    class_names = ()

    def __init__(self, root: str, *, val_fraction: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        check_within("(0, 1)", "val_fraction", val_fraction)
        self.root = folder = Path(root)
        found = images_below(folder, folder, None, _UNLABELLED)
        self._files = dict(zip(self.splits, train_val_split(found, val_fraction, self.seed), strict=True))

    @property
    def splits(self) -> tuple[Split, ...]:
        """Training and validation."""
        return "train", "val"

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, sorted by path.

        Raises:
            MissingFileError: the split is "test".
        """
        if split not in self._files:
            raise MissingFileError(
                f"Images has the splits {', '.join(self.splits)}, got '{split}'; choose one of these."
            )
        return self._files[split]
