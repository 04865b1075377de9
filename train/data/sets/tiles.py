"""`Tiles`: a user's own images of any number of bands, with a class for each pixel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, MissingFileError, check_distinct
from maskrobust.lm_modules.training.segmentation_losses import check_labels
from maskrobust.train.data.base import ALL_SPLITS
from maskrobust.train.data.files.file_data import FileDataModule, FileDataset, images_below
from maskrobust.train.data.files.image_files import ImageFile, check_size
from maskrobust.train.data.files.reading import Reading, TilePlanes, place_of, plane_size, read_plane
from maskrobust.train.data.transforms import GivenTransform, Transform
from maskrobust.train.data_options import Split


class TileDataset(FileDataset):
    """Tiles as a map-style data set, with label maps (H, W) as labels; those of an evaluation are whole.

    Args:
        data: says how they are read.
        files: what to read; the label map of each is its mask.
        augmentation_seed: see `FileDataset`.
    """

    def __init__(self, data: "Tiles", files: Sequence[ImageFile], augmentation_seed: int | None = None) -> None:
        size, read_by = data.image_size, (data.reading, data.root)
        super().__init__(files, data.mask_code, size, augmentation_seed, *read_by, data.transform, data.on_bad)
        self.num_classes, self.ignore_index = data.num_classes, data.ignore_index

    def __getitem__(self, index: int) -> Batch:
        """One sample: a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: a file cannot be read, sizes differ, or a visible pixel has a label that is no class.
        """
        epoch, position = divmod(index, len(self.files))
        file = self.files[position]
        assert isinstance(file.mask, Path)
        image, visible = self.reading.read(file.image, place_of(file, self.root))
        labels = read_plane(file.mask)
        check_size(file.mask, tuple(labels.shape), (image.shape[1], image.shape[2]))
        sample = Batch(torch.tensor(file.id), image, torch.zeros_like(labels[None], dtype=torch.bool), labels, visible)
        check_labels(labels[sample.known[0]], self.num_classes, self.ignore_index, f" in '{file.mask}'")
        seed = self.augmentation_seed
        return sample if seed is None else self.transform.of_sample(sample, seed, epoch)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Several samples as one `Batch`; see `FileDataset`.

        Raises:
            InputError: they have more than one size.
        """
        try:
            return super().__getitems__(indices)
        except RuntimeError as error:  # of torch.stack
            raise InputError(
                f"tiles of a batch must have one size, but have several ({error}); give --data.batch_size 1, or cut "
                "all tiles to one size."
            ) from error


class Tiles(FileDataModule):
    """Images in root/{train,val,test}/images/ and label maps in root/{train,val,test}/labels/, under the same names.

    Images are what `Reading` reads, such as GeoTIFFs, with the bands that a TIFF or an array has. A label map is a
    TIFF, PNG or array of one band of whole numbers, the class of each pixel. Where there are
    root/{train,val,test}/visible/, these hold a mask for each image, 0 where it may not be seen, such as in clouds;
    `visible` hides further pixels. Training sees squares, evaluation sees whole tiles. A split needs its folders only
    when it is used.

    Args:
        root: folder of the splits.
        class_names: one name for each class, in the order of the numbers in label maps.
        ignore_index: number in label maps of pixels without a class.
        crop_size: side of the squares that a training sees, at least 32.
        transform: makes the squares: "cut" (a random square without resizing, and flips), "crop_flip", "none" (the
            centre, resized), "light", a file or a function; see `FileDataModule`.
        options: batch_size, num_workers, seed, mean, std, visible, value_range, show_bands and on_bad; see
            `FileDataModule`.

    Raises:
        MissingFileError: there is no split below root.
        InputError: an argument leaves its range.
    """

    labels_pixels = True
    crop_fraction = 1.0

    def __init__(
        self, root: str, class_names: Sequence[str], *, ignore_index: int = 255, crop_size: int = 256,
        transform: GivenTransform = "cut", **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(mask_code="binary", image_size=crop_size, transform=transform, **options)
        check_distinct("class_names", class_names)
        self.root, self.ignore_index = Path(root), ignore_index
        self.class_names, self.num_classes = tuple(class_names), len(class_names)
        self.transform = Transform(transform, crop_size, ignore_index)
        if not self.splits:
            raise MissingFileError(
                f"root must hold train/images and train/labels, and likewise val and test, but '{root}' holds none of "
                "these; give the folder above them."
            )
        own, masks = self.reading, TilePlanes.below(self.root, "visible")
        self.reading = Reading(own.given, own.value_range, own.show_bands, masks)
        self._labels = TilePlanes.below(self.root, "labels")
        self._files = dict[Split, list[ImageFile]]()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have a folder of images."""
        return tuple(split for split in ALL_SPLITS if (self.root / split / "images").is_dir())

    def files(self, split: Split) -> list[ImageFile]:
        """The image files of a split, sorted by path, with their label maps as masks.

        Raises:
            MissingFileError: there are none, or one has no label map.
        """
        if split not in self._files:
            found = images_below(self.root, self.root / split / "images", None, 0)
            labels = (self._labels.of(place_of(file, self.root)) for file in found)
            self._files[split] = [file._replace(mask=each) for file, each in zip(found, labels, strict=True)]
        return self._files[split]

    @property
    def whole_size(self) -> tuple[int, int]:
        """(H, W) of the first tile of the last split, which an evaluation sees whole."""
        return plane_size(self._labels.of(place_of(self.files(self.splits[-1])[0], self.root)))

    def _dataset(self, files: Sequence[ImageFile], seed: int | None = None) -> TileDataset:
        return TileDataset(self, files, seed)
