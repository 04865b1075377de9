"""Image files for evaluation alone, in whichever layout: a subclass lists them."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.base import numbered_classes
from maskrobust.train.data.files.file_data import FileDataModule
from maskrobust.train.data.files.image_files import ImageFile
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
        leave_out: names of classes whose images are passed over, such as those that the networks do not know.

    Raises:
        InputError: an argument leaves its range, there is no image, an image comes twice, or a class to leave out is
            none.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        files: Sequence[ImageFile],
        *,
        image_size: int = 224,
        batch_size: int = 64,
        num_workers: int = 2,
        leave_out: Sequence[str] = (),
    ) -> None:
        super().__init__(image_size=image_size, batch_size=batch_size, num_workers=num_workers)
        self._take(class_names, files, leave_out)

    def _take(self, class_names: Sequence[str], files: Sequence[ImageFile], leave_out: Sequence[str]) -> None:
        """Hold the files of the classes that are not left out."""
        kept = _kept_classes(class_names, leave_out)
        labels = {class_names.index(name): label for label, name in enumerate(kept)}
        self.class_names, self.num_classes, self.left_out_classes = kept, len(kept), tuple(leave_out)
        self._files = [
            file._replace(label=labels.get(file.label, -1)) for file in files if not kept or file.label in labels
        ]
        if not self._files:
            raise InputError("there must be at least one annotated image to evaluate on, got none; check the folders.")
        known: set[int] = set()
        for file in self._files:
            if file.id in known:
                raise InputError(f"every image must be listed once, but '{file.image}' comes twice; leave one out.")
            known.add(file.id)

    def relabelled(self, labels: Mapping[int, int]) -> "EvaluationImages":
        """The images with other labels; see `AnnotatedDataModule`."""
        files = [file._replace(label=labels[file.id]) for file in self._files]
        again = copy.copy(self)
        again._take(numbered_classes(labels), files, ())
        return again

    def without_classes(self, names: Sequence[str]) -> "EvaluationImages":
        """The images of the other classes.

        Args:
            names: of classes, but not of all.
        """
        again = copy.copy(self)
        again._take(self.class_names, self._files, names)
        again.left_out_classes = (*self.left_out_classes, *names)
        return again

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


def _kept_classes(class_names: Sequence[str], leave_out: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in leave_out if name not in class_names]
    if unknown:
        raise InputError(
            f"leave_out must name classes of the data, got '{unknown[0]}'; choose from "
            f"{', '.join(class_names) or 'none, for the images have no labels'}."
        )
    kept = tuple(name for name in class_names if name not in leave_out)
    if class_names and not kept:
        raise InputError(f"leave_out names all {len(class_names)} classes of the data; leave some of them in.")
    return kept


def check_folders(*folders: Path) -> None:
    """Raise a `MissingFileError` that names the first folder that does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise MissingFileError(f"'{folder}' must be a folder, but does not exist; check the path.")
