"""Holes in the shape of objects, cut into empty scenes: nothing of an object is seen but its outline."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from maskrobust.augment import SilhouetteBank, circle_geometry, fold_in, sample_keys, uniform
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray, check_finite
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS, SceneAnswers

ALIKE = 1.2
"""Largest ratio of the areas, and of the radii of the enclosing circles, of a pair of objects."""

_ROWS_A_PASS, _CHUNK = 64, 256
_TEXTURE_SIGMA, _TEXTURE_KERNEL = 2.0, 17

_OBJECT_STREAM, _FILL_STREAM = 0, 3

Key = TypeVar("Key", bound=Hashable)
"""What a network, or a network under a masking method, is called by."""


class EmptyScenes(NamedTuple):
    """Pictures that hold no object.

    Attributes:
        images: (S, 3, H, W) float in [0, 1].
        kinds: (S,) one of `SCENE_KINDS` each.
    """

    images: Tensor
    kinds: tuple[str, ...]


@runtime_checkable
class EmptySceneSource(Protocol):
    """A data module that may have empty scenes."""

    def empty_scenes(self, split: Literal["val"], count: int) -> EmptyScenes | None:
        """So many scenes of a split, on the CPU; None where it has none."""


class SceneLogits(NamedTuple):
    """What one network answers about some holes in scenes; see `ask_pass`.

    Attributes:
        rows: (n,) int64, shape x number of scenes + scene.
        logits: (n, K) float32, of the classes that occur among the shapes, in ascending order.
    """

    rows: IntArray
    logits: FloatArray


@dataclass(frozen=True, eq=False)
class Shapes:
    """Shapes of objects, each with the centre of its enclosing circle in the middle of the picture.

    Attributes:
        size: (H, W) of the pictures.
        objects: (N,) int64, which object each shape is of; no object has two.
        labels: (N,) int64 classes.
        visible: (N, 1, H, W) bool, False on the shape.
        pairs: (P, 2) int64 positions of two objects of two classes, alike in area and circle; every shape is in one.
    """

    size: tuple[int, int]
    objects: Tensor
    labels: Tensor
    visible: Tensor
    pairs: Tensor

    def check(self, scenes: EmptyScenes | None) -> EmptyScenes:
        """The scenes to cut the shapes into; none for None.

        Raises:
            InputError: the scenes have another size than the objects' own pictures, or are of no known kind.
        """
        if scenes is None or len(scenes.images) == 0:
            return EmptyScenes(torch.empty(0, 3, *self.size), ())
        if tuple(scenes.images.shape[2:]) != self.size:
            raise InputError(
                f"empty scenes must have the size {self.size} of the images with objects, got "
                f"{tuple(scenes.images.shape[2:])}; render both at one size."
            )
        unknown = set(scenes.kinds).difference(SCENE_KINDS)
        if unknown:
            raise InputError(f"kinds of scenes must be of {', '.join(SCENE_KINDS)}, got '{min(unknown)}'; use these.")
        return scenes


def texture_energy(images: Tensor) -> Tensor:
    """Mean square (N,) float64 of what a Gaussian of 2 pixels takes from images (N, C, H, W) in [0, 1], H, W > 8."""
    fine: Tensor = images.double() - gaussian_blur(images.double(), [_TEXTURE_KERNEL] * 2, [_TEXTURE_SIGMA] * 2)
    return fine.square().flatten(1).mean(dim=1)


def alike_pairs(object_masks: Tensor, classes: Tensor) -> Tensor:
    """All pairs of objects of two classes that are alike in area and in the radius of the smallest enclosing circle.

    Args:
        object_masks: (N, 1, H, W) bool, none empty.
        classes: (N,) int64.

    Returns:
        (P, 2) int64 positions, the smaller first.
    """
    sizes = object_masks.sum(dim=(1, 2, 3)).double(), _circles(object_masks)[1]
    alike = classes[:, None] != classes
    for size in sizes:
        alike &= torch.maximum(size[:, None], size) <= ALIKE * torch.minimum(size[:, None], size)
    return alike.triu(1).nonzero()


def draw_shapes(bank: SilhouetteBank, *, count: int, seed: int) -> Shapes:
    """Shapes of objects that have a partner; see `alike_pairs`.

    Objects that touch the border of their picture are passed over, because the border is part of their outline, and so
    are those that leave the picture when their circle lies in its middle. One sample of each object is drawn.

    Args:
        bank: objects to draw from.
        count: objects to draw, at most.
        seed: decides which, together with the sample ids.
    """
    masks, labels, ids, objects = (each.cpu() for each in (bank.object_masks, bank.labels, bank.ids, bank.objects))
    lies_inside = masks[..., 1:-1, 1:-1].sum(dim=(1, 2, 3)) == masks.sum(dim=(1, 2, 3))
    kept = lies_inside.nonzero().squeeze(1)
    kept = kept[uniform(fold_in(sample_keys(seed, ids[kept]), _OBJECT_STREAM)).argsort(stable=True)]
    _, first = np.unique(objects[kept].numpy(), return_index=True)
    kept = kept[torch.from_numpy(np.sort(first)[:count])]
    kept = kept[ids[kept].argsort()]
    centred, fits = _centred(masks[kept])
    kept, centred = kept[fits], centred[fits]
    pairs = alike_pairs(centred, labels[kept])
    used, pairs = pairs.unique(return_inverse=True)
    return Shapes(
        (masks.shape[2], masks.shape[3]), objects[kept[used]], labels[kept[used]], ~centred[used], pairs.reshape(-1, 2)
    )


def scene_passes(shapes: Shapes, scenes: int) -> Sequence[Tensor]:
    """The rows (n,) int64 that each forward pass is about: shape x `scenes` + scene, as `ask_pass` takes them."""
    every = torch.arange(len(shapes.objects) * scenes)
    return every.split(_ROWS_A_PASS) if len(every) else ()


def ask_pass(
    shapes: Shapes, scenes: Tensor, rows: Tensor, predictors: Mapping[Key, Predictor], *, seed: int
) -> dict[Key, SceneLogits]:
    """What networks answer about some holes in scenes; a fill draws the same for all holes in one scene.

    Args:
        shapes: the shapes to hide.
        scenes: (S, C, H, W) float in [0, 1], on the networks' device.
        rows: one of `scene_passes`.
        predictors: the predictors by key; column y of their logits is class y.
        seed: decides the fills, together with the scene's number.

    Raises:
        InputError: logits are not finite.
    """
    shape, scene = rows // len(scenes), rows % len(scenes)
    classes, found = shapes.labels.unique(), {}
    with torch.inference_mode():
        images = scenes[scene.to(scenes.device)]
        visible = shapes.visible[shape].to(scenes.device)
        keys = fold_in(sample_keys(seed, scene), _FILL_STREAM).to(scenes.device)
        for key, predictor in predictors.items():
            logits = predictor(images, visible, keys).cpu().float()
            check_finite(logits, key, "empty scenes")
            found[key] = SceneLogits(rows.numpy(), logits[:, classes].numpy())
    return found


def scene_answers(shapes: Shapes, scenes: EmptyScenes, found: Sequence[SceneLogits]) -> SceneAnswers:
    """All that one network answers about the shapes in the scenes.

    Args:
        shapes: the shapes that were hidden.
        scenes: they were hidden in.
        found: the results of every pass, in any order.
    """
    classes, columns = shapes.labels.unique(return_inverse=True)
    count = len(shapes.objects), len(scenes.images)
    logits = np.empty((count[0] * count[1], len(classes)), dtype=np.float32)
    for each in found:
        logits[each.rows] = each.logits
    return SceneAnswers(
        kinds=np.array([SCENE_KINDS.index(kind) for kind in scenes.kinds], dtype=np.int64),
        energy=texture_energy(scenes.images).cpu().numpy() if count[1] else np.empty(0),
        objects=shapes.objects.numpy(),
        columns=columns.numpy(),
        pairs=shapes.pairs.numpy(),
        logits=logits.reshape(*count, len(classes)),
    )


def _circles(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) int64 and radii (N,) float64."""
    parts = [circle_geometry(part) for part in masks.split(_CHUNK)]
    if not parts:
        return torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    return torch.cat([centres for centres, _ in parts]).round().long(), torch.cat([radii for _, radii in parts])


def _centred(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (N, 1, H, W) with their circles in the middle, and which of them (N,) lie within the picture there."""
    middle = torch.tensor(masks.shape[2:]) // 2
    centred, fits = torch.zeros_like(masks), torch.zeros(len(masks), dtype=torch.bool)
    for number, (mask, centre) in enumerate(zip(masks[:, 0], _circles(masks)[0], strict=True)):
        places = mask.nonzero() - centre + middle
        fits[number] = bool((places >= 0).all() and (places < torch.tensor(mask.shape)).all())
        if fits[number]:
            centred[number, 0, places[:, 0], places[:, 1]] = True
    return centred, fits
