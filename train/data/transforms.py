"""What a training does with an image before anything is hidden: `data.transform`, a recipe, a file, or a function."""

import importlib
import json
import os
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torchvision.transforms import v2

from maskrobust.augment.batch import Batch
from maskrobust.augment.random import sample_key
from maskrobust.errors import InputError, MissingFileError, did_you_mean
from maskrobust.train.data.pipelines import Albumentations, Geometry, Torchvision, View

GivenTransform = str | Callable[..., Any]
"""A recipe, a file or the path of a function, or in Python a transform itself; see `Transform`."""

RECIPES = ("crop_flip", "cut", "none", "light")
RESIZED_OVER_CROPPED = 256 / 224
"""Shorter side of an image over the side of the square that the recipe "none" takes at its centre."""
_FILES = (".yaml", ".yml", ".json")
_GEOMETRY = zlib.crc32(b"geometry")
_OTHER_DRAWS = 10
"""Tried where a view of the training holds no pixel with data."""


class Transform:
    """Makes views of images for a training: one pipeline for image, object mask, visible pixels and label map.

    Random numbers follow from (seed, sample id, epoch) alone. A pixel of a view is visible where nothing hidden is
    blended into it, so that what a rotation brings in from beyond the image is hidden. A label map takes the nearest
    label, and `ignore_index` at hidden pixels and where the nearest pixel lies beyond the image. The recipe "none" is
    the view of evaluation.

    Args:
        given: "crop_flip", a random crop of 8 to 100 % of the area, and a flip in half of the cases (torchvision's
            reference training); "cut", a random square without resizing, and flips along both axes, each in half of the
            cases; "none", the shorter side resized to 256/224 of `image_size`, and the square at the
            centre; or "light", turns by up to 10 degrees, crops of half to all of the area, and other light, without a
            flip. Or a file that `albumentations.save` wrote (.yaml or .json). Or the path of a function that takes
            `image_size` and returns a transform, as in "my_transforms.for_text". Or a transform itself: one of
            albumentations, or of torchvision.transforms.v2.
        image_size: side of the square images that it makes.
        ignore_index: label of hidden pixels.

    Attributes:
        content: the text of the file; None without one.
    """

    def __init__(self, given: GivenTransform, image_size: int, ignore_index: int = 255) -> None:
        self.given, self.image_size, self.ignore_index = given, image_size, ignore_index

    def __getstate__(self) -> dict[str, Any]:
        """What a loader process that is no fork gets, which builds the pipeline anew."""
        return {name: value for name, value in vars(self).items() if name != "pipeline"}

    @cached_property
    def content(self) -> str | None:
        """Read once: a training goes on with it, whatever becomes of the file.

        Raises:
            MissingFileError: there is no such file.
        """
        if not isinstance(self.given, str) or Path(self.given).suffix not in _FILES:
            return None
        if not Path(self.given).is_file():
            raise MissingFileError(f"data.transform must be a file, but '{self.given}' does not exist; check the path.")
        return Path(self.given).read_text(encoding="utf-8")

    @cached_property
    def pipeline(self) -> Geometry | Torchvision | Albumentations:
        """What is applied; it is built when it is first asked for.

        Raises:
            MissingFileError, InputError: `given` is not what it must be.
        """
        if self.given == "none":
            shorter_side = round(self.image_size * RESIZED_OVER_CROPPED)
            return Geometry(v2.Resize(shorter_side), v2.CenterCrop(self.image_size))
        if self.given == "crop_flip":
            return Geometry(v2.RandomResizedCrop(self.image_size), v2.RandomHorizontalFlip())
        if self.given == "cut":
            return Geometry(v2.RandomCrop(self.image_size), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip())
        made = self._made()
        if isinstance(made, v2.Transform):
            return Torchvision(made)
        if hasattr(made, "set_random_state"):
            return Albumentations(made)
        raise InputError(
            f"{self} must be a transform of albumentations or of torchvision.transforms.v2, got "
            f"{type(made).__module__}.{type(made).__name__}; give one of these."
        )

    def _made(self) -> Any:
        if not isinstance(self.given, str):
            return self.given
        if self.given == "light":
            return _light(self.image_size)
        if self.content is not None:
            return _saved(self.given, self.content)
        module, _, name = self.given.rpartition(".")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"data.transform must be {', '.join(RECIPES)}, a file (.yaml or .json) or the path of a function, got "
                f"'{self.given}' ({error}){did_you_mean(self.given, RECIPES)}; give one of these."
            ) from error
        if not callable(function):
            raise InputError(f"'{self.given}' must be a function that takes the image size; make it one.")
        return function(self.image_size)

    def __str__(self) -> str:
        return f"data.transform '{self.given}'" if isinstance(self.given, str) else "the transform"

    def of_sample(self, sample: Batch, seed: int, epoch: int, name: str = "") -> Batch:
        """A sample of a training, whose tensors lack the leading dimension, as seen in an epoch.

        Raises:
            InputError: nothing is visible in the view "none", that of evaluation, of an image that has a `name`.
        """
        key = sample_key(seed, int(sample.ids), _GEOMETRY, epoch)
        shifted = (
            sample.labels + 1 if sample.labels.ndim else None
        )  # so that pipelines bring in 0 from beyond the image
        image, object_mask, visible, moved = self(View(sample.images, sample.object_mask, sample.visible, shifted), key)
        if name and self.given == "none" and visible is not None and not visible.any():
            raise InputError(f"no pixel of '{name}' is visible in the square at its centre; leave it out.")
        labels = sample.labels
        if moved is not None:
            is_known = (moved > 0) if visible is None else (moved > 0) & visible[0]
            labels = (moved - 1).where(is_known, self.ignore_index)
        return Batch(sample.ids, image, object_mask, labels, visible)

    def __call__(self, view: View, key: int = 0) -> View:
        """A view, a function of `key` alone; of a few the first that shows a pixel with data. Hidden pixels are black.

        `visible` is None where it is not given, and nothing can be hidden.

        Raises:
            InputError: the pipeline fails, or gives back an image of another size or type.
        """
        if view.visible is None and self.pipeline.may_hide:
            view = view._replace(visible=torch.ones_like(view.object_mask))
        with torch.random.fork_rng(devices=[]):
            self.pipeline.seed(key)  # torch.manual_seed sees to other devices, too: 0.1 ms an image
            seen = self._applied(view)
            for _ in range(_OTHER_DRAWS):
                if seen.visible is None or seen.visible.any():
                    break
                seen = self._applied(view)
        return seen if seen.visible is None else seen._replace(image=seen.image * seen.visible)

    def _applied(self, view: View) -> View:
        try:
            seen = self.pipeline(view)
        except InputError:
            raise
        except Exception as error:  # whatever a step of the user's cannot deal with
            raise InputError(
                f"{self} cannot be applied to an image of {len(view.image)} bands of {view.image.dtype} "
                f"({type(error).__name__}: {' '.join(str(error).split())}); change it."
            ) from error
        expected = (len(view.image), self.image_size, self.image_size)
        if (found := tuple(seen.image.shape)) != expected or seen.image.dtype != view.image.dtype:
            raise InputError(
                f"{self} must return images {expected} of {view.image.dtype}, got {found} of {seen.image.dtype}; let "
                "it end with a crop or a resizing to data.image_size, and change no types."
            )
        for mask in (seen.object_mask, seen.labels):
            if mask is not None and tuple(mask.shape[-2:]) != expected[1:]:
                found = tuple(mask.shape)
                raise InputError(f"{self} must move masks as their image, {expected}, got {found}; change its steps.")
        return seen


def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for its newest version
    importlib.import_module("maskrobust.augment.transforms")  # a file may hold HideRegions
    return importlib.import_module("albumentations")


def _saved(path: str, text: str) -> Any:
    """The pipeline in a file; it holds names and numbers, and nothing in it is executed."""
    try:
        return _albumentations().from_dict(json.loads(text) if path.endswith(".json") else yaml.safe_load(text))
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"'{path}' must be what albumentations.save wrote, but is not ({said}); save it again."
        ) from error


def _light(image_size: int) -> Any:
    steps = _albumentations()
    return steps.Compose(
        [
            steps.Affine(rotate=(-10, 10), p=0.5),
            steps.RandomResizedCrop((image_size, image_size), scale=(0.5, 1.0), area_for_downscale="image_mask"),
            steps.RandomBrightnessContrast(0.2, 0.2, p=0.5),
        ]
    )
