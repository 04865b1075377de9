"""Image files for evaluation alone, in whichever layout: a subclass lists them."""

from collections.abc import Sequence
from pathlib import Path

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.file_data import FileDataModule
from maskrobust.train.data.image_files import ImageFile
from maskrobust.train.types import Split


class EvaluationImages(FileDataModule):
    """A data module of annotated image files for evaluation alone: they are the validation split, the only one.

    The view is that of evaluation; see `FileDataModule`.

    Args:
        class_names: one name for each class, in label order; none for images without labels.
        files: every image once; without labels, -1 stands for each of them.
        image_size: side of the square images, at least 32.
        batch_size: samples per batch, at least 1.
        num_workers: loader processes, at least 0.

    Raises:
        InputError: an argument leaves its range, there is no image, or an image comes twice.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        files: Sequence[ImageFile],
        *,
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
    ) -> None:
        super().__init__(image_size=image_size, batch_size=batch_size, num_workers=num_workers)
        self.class_names, self.num_classes = tuple(class_names), len(class_names)
        self._files = list(files)
        if not files:
            raise InputError("there must be at least one annotated image to evaluate on, got none; check the folders.")
        known: set[int] = set()
        for file in files:
            if file.id in known:
                raise InputError(f"every image must be listed once, but '{file.image}' comes twice; leave one out.")
            known.add(file.id)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.num_classes > 0

    @property
    def splits(self) -> tuple[Split, ...]:
        """The validation split alone."""
        return ("val",)

    def files(self, split: Split) -> list[ImageFile]:
        """The image files.

        Raises:
            MissingFileError: another split than val is asked for.
        """
        if split != "val":
            raise MissingFileError(
                f"{type(self).__name__} holds images for evaluation alone, which are its split 'val', got '{split}'; "
                "use them with evaluate, or train on other data."
            )
        return self._files


def check_folders(*folders: Path) -> None:
    """Raise a `MissingFileError` that names the first folder that does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise MissingFileError(f"'{folder}' must be a folder, but does not exist; check the path.")
