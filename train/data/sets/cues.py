"""`Cues`: generated images with two cues, texture and outline, each of which tells the class to a chosen degree.

The ground truth for the measures of shape reliance: with an outline that is drawn regardless of the label there is
nothing to be read from the shape of a hole, and with an informative one there is.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.random import draw_uniform
from maskrobust.errors import check_at_least, check_within
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.train.data.base import InMemoryDataModule, as_float_images, drawn_batch, photographs
from maskrobust.train.data.files.photographs import CROP_NUMBERS, LIGHT_NUMBERS, CropSource, random_crops
from maskrobust.train.data.sets.outlines import DEFORMATION_NUMBERS, OUTLINE_NAMES, base_outlines, deform, rasterise
from maskrobust.train.data.transforms import GivenTransform, Transform
from maskrobust.train.data_options import Split

TEXTURES = {
    "brick": CropSource("brick.png", (0.25, 0.4)),
    "grass": CropSource("grass.png", (0.35, 0.5)),
    "gravel": CropSource("gravel.png", (0.12, 0.2)),
    "tissue": CropSource("ihc.png", (0.25, 0.4)),
    "stars": CropSource("hubble_deep_field.jpg", (0.2, 0.35)),
    "fur": CropSource("chelsea.png", (0.3, 0.5)),
    "retina": CropSource("retina.jpg", (0.25, 0.4)),
    "coins": CropSource("coins.png", (0.45, 0.7)),
}
"""The textures by name, in the order of the classes."""

BACKGROUNDS = tuple(
    CropSource(file_name, (0.35, 0.9))
    for file_name in ("astronaut.png", "camera.png", "coffee.png", "moon.png", "motorcycle_left.png", "rocket.jpg")
)
"""The backgrounds; no photograph is both a background and a texture."""

_SMALLEST_IMAGE = 32
_LARGEST_SPLIT = 10**9
_FIRST_ID: dict[Split, int] = {"train": 0, "val": _LARGEST_SPLIT, "test": 2 * _LARGEST_SPLIT}
_RADII = (0.29, 0.38)


class Causes(NamedTuple):
    """What each generated image is made from: (N,) int64 in [0, num_classes).

    Attributes:
        labels: the class.
        textures: the class whose texture is shown.
        outlines: the class whose outline is shown.
    """

    labels: Tensor
    textures: Tensor
    outlines: Tensor


class Cues(InMemoryDataModule):
    """Textured silhouettes on photograph backgrounds; embedded, nothing is downloaded.

    Every class has a texture (random crops of one of scikit-image's photographs, shifted in brightness, contrast and
    colour) and an outline (rotated by up to 25 degrees, bent). The smallest enclosing circle of the object has the same
    distribution of radius and centre for every class, the objects of all classes cover nearly the same area (12 to 25 %
    of the image), and none touches the border. Backgrounds are independent of the class. A
    sample depends on (seed, id) and the knobs alone, so that changing the size of a split keeps the samples it had.

    Args:
        train_images: images in the training split; likewise `val_images` and `test_images`.
        image_size: side of the images in pixels, at least 32.
        num_classes: 2 to 8.
        texture_informativeness: t in [0, 1]. With probability t an image shows its label's texture, otherwise that of a
            class drawn uniformly from all.
        outline_informativeness: s in [0, 1], the same for the outline.
        batch_size: samples per batch.
        num_workers: loader processes.
        seed: decides the images and the training order.
        transform: views of training, as of `Folder`; "none" for the images as they are.

    Raises:
        InputError: an argument is out of its range.
    """

    names_objects = True
    """Every object is drawn for one image."""
    mean = (0.49, 0.43, 0.42)
    std = (0.23, 0.21, 0.21)

    def __init__(
        self,
        train_images: int = 4000,
        val_images: int = 500,
        test_images: int = 1000,
        image_size: int = 48,
        num_classes: int = 8,
        texture_informativeness: float = 1.0,
        outline_informativeness: float = 1.0,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        transform: GivenTransform = "none",
    ) -> None:
        views = None if transform == "none" else Transform(transform, image_size)
        super().__init__(batch_size, num_workers, seed, views)
        self.split_sizes: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}
        for split, size in self.split_sizes.items():
            check_within(f"[1, {_LARGEST_SPLIT}]", f"{split}_images", size)
        check_at_least("image_size", image_size, _SMALLEST_IMAGE)
        check_within(f"[2, {len(OUTLINE_NAMES)}]", "num_classes", num_classes)
        check_within("[0, 1]", "texture_informativeness", texture_informativeness)
        check_within("[0, 1]", "outline_informativeness", outline_informativeness)
        self.image_size = image_size
        self.num_classes = num_classes
        self.texture_informativeness = texture_informativeness
        self.outline_informativeness = outline_informativeness
        names = zip(TEXTURES, OUTLINE_NAMES, strict=True)
        self.class_names = tuple(f"{texture} {outline}" for texture, outline in names)[:num_classes]

    def ids(self, split: Split) -> Tensor:
        """(N,) int64 ids of the samples of `split`."""
        return torch.arange(self.split_sizes[split]) + _FIRST_ID[split]

    def causes(self, ids: Tensor) -> Causes:
        """Label, texture and outline of each sample: the generator's own record.

        Args:
            ids: (N,) int64 sample ids, as `ids` returns them.
        """
        labels = ids % self.num_classes
        textures = _shown_class(labels, self.num_classes, self.texture_informativeness, self._draw(ids, "texture", 2))
        outlines = _shown_class(labels, self.num_classes, self.outline_informativeness, self._draw(ids, "outline", 2))
        return Causes(labels, textures, outlines)

    def make_samples(self, split: Split, ids: Tensor) -> Batch:
        """Render samples of `split`."""
        causes = self.causes(ids)
        object_mask = self._object_masks(ids, causes.outlines)
        inside = self._crops(ids, "texture", tuple(TEXTURES.values()), causes.textures.numpy())
        outside = self._backgrounds(ids, "background")
        return drawn_batch(ids, np.where(object_mask[..., None], inside, outside), object_mask, causes.labels)

    def empty_scenes(self, split: Split, count: int) -> EmptyScenes:
        """Backgrounds without an object, other crops than those of the samples; see `AnnotatedDataModule`."""
        return photographs(self._backgrounds(torch.arange(count) + _FIRST_ID[split], "empty scene"))

    def without_object(self, split: Split, ids: Tensor) -> Tensor:
        """The samples' backgrounds; see `AnnotatedDataModule`."""
        return as_float_images(self._backgrounds(ids, "background"))

    def _backgrounds(self, ids: Tensor, stream: str) -> NDArray[np.uint8]:
        choice = (self._draw(ids, f"choice of {stream}") * len(BACKGROUNDS)).astype(np.int64)
        return self._crops(ids, stream, BACKGROUNDS, choice)

    def _draw(self, ids: Tensor, stream: str, *shape: int) -> NDArray[np.float32]:
        return draw_uniform(self.seed, ids, f"cues {stream}", *shape)

    def _object_masks(self, ids: Tensor, outlines: Tensor) -> NDArray[np.bool_]:
        """(N, image_size, image_size) bool."""
        curves = deform(base_outlines()[outlines.numpy()], self._draw(ids, "deformation", DEFORMATION_NUMBERS))
        places = self._draw(ids, "place", 3).astype(np.float64)
        radii = self.image_size * (_RADII[0] + (_RADII[1] - _RADII[0]) * places[:, 0])
        margins = radii[:, None] + 1.5
        centres = margins + (self.image_size - 1 - 2 * margins) * places[:, 1:]
        object_mask = np.zeros((len(ids), self.image_size, self.image_size), dtype=np.bool_)
        for row, (curve, centre, radius) in enumerate(zip(curves, centres, radii, strict=True)):
            object_mask[row] = rasterise(curve, centre, float(radius), self.image_size)
        return object_mask

    def _crops(
        self, ids: Tensor, stream: str, sources: tuple[CropSource, ...], choice: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        crop_numbers = self._draw(ids, f"{stream} crop", CROP_NUMBERS)
        light_numbers = self._draw(ids, f"{stream} light", LIGHT_NUMBERS)
        return random_crops(sources, choice, self.image_size, crop_numbers, light_numbers)


def _shown_class(labels: Tensor, num_classes: int, informativeness: float, numbers: NDArray[np.float32]) -> Tensor:
    told, other = torch.from_numpy(numbers).unbind(dim=1)
    return torch.where(told < informativeness, labels, (other * num_classes).to(torch.int64))
