"""Pipelines of torchvision and albumentations, applied to an image and to masks and labels of its pixels alike."""

import copy
import random
from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from maskrobust.augment.fills.exemplar import nearest_visible
from maskrobust.errors import InputError

_ROUNDING = 0.0005
"""How far the weights of visible pixels may add up to another number than 1; where a hidden one has a part, they do."""
_LANCZOS = 4
_BY_NEAREST = {"mask_interpolation": 0, "area_for_downscale": "image"}
"""What makes a step of albumentations move a mask by its nearest pixel."""
_OF_THE_NETWORK = (
    *("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"),
    *("ToTensor", "ToDtype", "ToPILImage", "ToPureTensor", "ConvertImageDtype"),
)
_MIXING = ("MixUp", "CutMix", "Mosaic", "AugMix")
_CROPS_THAT_PAD = ("CenterCrop", "RandomCrop")
_HIDING = (
    *_CROPS_THAT_PAD,
    *("Pad", "ElasticTransform", "RandomAffine", "RandomPerspective", "RandomRotation", "RandomZoomOut"),
    *("AutoAugment", "RandAugment", "TrivialAugmentWide"),
)
"""torchvision's transforms that may show what lies beyond an image."""


class View(NamedTuple):
    """An image, and masks and labels of its pixels.

    Attributes:
        image: (C, H, W), uint8, or float32 in [0, 1].
        object_mask: (1, H, W) bool.
        visible: (1, H, W) bool, False at pixels that hold no data or lie beyond the image; None where all hold some.
        labels: (H, W) int64, the class of each pixel; None where an image has one class.
    """

    image: Tensor
    object_mask: Tensor
    visible: Tensor | None = None
    labels: Tensor | None = None


class Geometry:
    """Crops, resizing and flips of torchvision: a visible pixel is the mean of the pixels with data.

    Each counts with its weight in resizing. A pixel is visible where pixels with data have half of the weight, and
    black elsewhere.

    Args:
        transform: draws from torch's generator, and shows nothing from beyond the image.
    """

    may_hide = False

    def __init__(self, *transforms: v2.Transform) -> None:
        self.transform = v2.Compose(transforms)

    def seed(self, key: int) -> None:
        """Let the next views follow from `key`."""
        torch.default_generator.manual_seed(key)

    def __call__(self, view: View) -> View:
        """Another view of it, with masks in the same geometry; those of objects, and labels, take the nearest pixel."""
        image, object_mask, visible, labels = view
        if visible is None:
            moved, object_mask, labels = self._moved(image, object_mask, labels)
            return View(moved, object_mask, None, labels)
        with_weight = torch.cat([image * visible, 255 * visible.to(image.dtype)])
        weighted, object_mask, labels = self._moved(with_weight, object_mask, labels)
        colours, weight = weighted[:-1], weighted[-1:]
        visible, colours = weight > 127, colours.float() * 255 / weight.clamp(min=1)
        if not image.is_floating_point():
            colours = colours.round().clamp(max=torch.iinfo(image.dtype).max)
        return View(colours.to(image.dtype) * visible, object_mask, visible, labels)

    def _moved(self, image: Tensor, mask: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        given = {"image": tv_tensors.Image(image)}
        if mask.numpy().any():  # to move an empty one takes a twentieth of the time of an image
            given["mask"] = tv_tensors.Mask(mask)
        if labels is not None:
            given["labels"] = tv_tensors.Mask(labels)
        moved = {name: each.as_subclass(Tensor) for name, each in self.transform(given).items()}
        empty = torch.zeros_like(moved["image"][:1], dtype=torch.bool)
        return moved["image"], moved.get("mask", empty), moved.get("labels")


class Planes(tv_tensors.TVTensor):  # type: ignore[misc]  # of which mypy knows nothing
    """(N, H, W) masks of 0 and 1 that torchvision moves and interpolates as their image, with 0 beyond it."""


class LabelMap(Planes):
    """(1, H, W) labels that torchvision moves by the nearest one."""


_FIXED: dict[Any, dict[str, Any]] = {
    Planes: {"fill": 0},
    LabelMap: {"fill": 0, "interpolation": v2.InterpolationMode.NEAREST},
}


def _register(name: str) -> None:
    kernel: Any = getattr(F, f"{name}_image")

    def moved(fixed: dict[str, Any], planes: Planes, *args: Any, **options: Any) -> Any:
        return tv_tensors.wrap(kernel(planes.as_subclass(Tensor), *args, **options | fixed), like=planes)

    for kind, fixed in _FIXED.items():
        taken = {each: fixed[each] for each in fixed.keys() & signature(kernel).parameters}
        F.register_kernel(getattr(F, name), kind)(partial(moved, taken))


for _name in ("affine", "center_crop", "crop", "elastic", "horizontal_flip", "pad", "perspective"):
    _register(_name)
for _name in ("resize", "resized_crop", "rotate", "vertical_flip"):
    _register(_name)


class _PlanesToo:
    """What the class of an automatic augmentation, which moves its image alone, lacks to move `Planes` with it."""

    def _flatten_and_extract_image_or_video(self, inputs: Any, *args: Any) -> Any:
        found = super()._flatten_and_extract_image_or_video(inputs, *args)  # type: ignore[misc]
        flat = found[0][0]
        self.planes = {place: each for place, each in enumerate(flat) if isinstance(each, Planes)}
        return found

    def _apply_image_or_video_transform(self, image: Any, transform_id: str, *args: Any, **options: Any) -> Any:
        apply = super()._apply_image_or_video_transform  # type: ignore[misc]
        for place, planes in self.planes.items():
            if transform_id.startswith(("Shear", "Translate", "Rotate")):
                self.planes[place] = apply(planes, transform_id, *args, **options)
            elif transform_id == "Sharpness" and not isinstance(planes, LabelMap):  # reads the pixels around each one
                self.planes[place] = Planes(-max_pool2d(-planes.as_subclass(Tensor), 3, stride=1, padding=1))
        return apply(image, transform_id, *args, **options)

    def _unflatten_and_insert_image_or_video(self, flat: Any, image: Any) -> Any:
        for place, planes in self.planes.items():
            flat[0][place] = planes
        return super()._unflatten_and_insert_image_or_video(flat, image)  # type: ignore[misc]


class Torchvision:
    """A user's transform of torchvision's v2; what it shows from beyond the image is hidden.

    Args:
        transform: is copied.

    Raises:
        InputError: a step normalises, changes the type, or mixes images.
    """

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = copy.deepcopy(transform)
        steps = [*_leaves(self.transform)]
        for step in steps:
            check_step(step)
            if hasattr(step, "_apply_image_or_video_transform"):
                kind: Any = type(step)
                step.__class__ = type(kind.__name__, (_PlanesToo, kind), {})
        self.may_hide = any(map(_may_show_beyond, steps))

    def seed(self, key: int) -> None:
        """Let the next views follow from `key`."""
        torch.default_generator.manual_seed(key)

    def __call__(self, view: View) -> View:
        """Another view, in which a pixel is visible where nothing hidden is blended into it."""
        image, object_mask, visible, labels = view
        if visible is not None:
            image = torch.from_numpy(with_nearest(image.numpy(), visible[0].numpy()))
        masks = [object_mask] if visible is None else [object_mask, visible]
        given = [tv_tensors.Image(image), Planes(torch.cat(masks).float())]
        given += [] if labels is None else [LabelMap(labels[None])]
        image, planes, *moved = (each.as_subclass(Tensor) for each in self.transform(*given))
        seen = None if visible is None else (planes[1:] - 1).abs() < _ROUNDING
        return View(image, planes[:1] > 0.5, seen, moved[0][0] if moved else None)


def _may_show_beyond(step: object) -> bool:
    if type(step).__name__ in _CROPS_THAT_PAD:
        return bool(getattr(step, "padding", True) or getattr(step, "pad_if_needed", False))
    is_own = not type(step).__module__.startswith(("torchvision.", __name__))
    return type(step).__name__ in _HIDING or is_own


class Albumentations:
    """A user's transform of albumentations, with generators of its own that all its steps share.

    What it shows from beyond the image is hidden, unless it is mirrored in.

    Args:
        transform: a `Compose` or a single transform; is copied.

    Raises:
        InputError: a step normalises, changes the type, or mixes images.
    """

    def __init__(self, transform: Any) -> None:
        import albumentations as A

        copied = copy.deepcopy(transform)
        self.transform: Any = copied if isinstance(copied, A.Compose) else A.Compose([copied])
        if "visible" not in self.transform.additional_targets:
            self.transform.add_targets({"visible": "mask"})
        steps = [*_leaves(self.transform)]
        for step in steps:
            check_step(step)
            if hasattr(step, "mask_interpolation") and hasattr(step, "interpolation"):
                step.mask_interpolation = step.interpolation
            if getattr(step, "area_for_downscale", None) is not None:
                step.area_for_downscale = "image_mask"
            if getattr(step, "fill_mask", None) is not None:
                step.fill_mask = 0
            if hasattr(step, "apply_to_mask"):
                step.apply_to_mask = partial(_by_nearest, step, step.apply_to_mask)
        self.transform.add_targets({"label_map": "mask"})  # the other masks keep the methods that they were given
        self.may_hide = any(map(_may_hide, steps))
        self.bits, self.python = np.random.Philox(0), random.Random()
        # set_random_seed would give every step a generator with one seed, so that all flips are drawn alike
        self.transform.set_random_state(np.random.Generator(self.bits), self.python)

    def seed(self, key: int) -> None:
        """Let the next views follow from `key`; for steps of a user's own, those of torch's generator, too."""
        torch.default_generator.manual_seed(key)
        state: Any = self.bits.state
        state["state"]["key"][:] = (key & (2**64 - 1), 0)
        state["state"]["counter"][:] = 0
        self.bits.state = state | {"buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
        self.python.seed(key)

    def __call__(self, view: View) -> View:
        """Another view, in which a pixel is visible where nothing hidden is blended into it."""
        image, visible = view.image.numpy(), view.visible
        masks = {"mask": view.object_mask} | ({} if visible is None else {"visible": visible})
        if visible is not None:
            image = with_nearest(image, visible[0].numpy())
        planes = {name: mask[0].numpy().astype(np.float32) for name, mask in masks.items()}
        if view.labels is not None:
            planes["label_map"] = view.labels.numpy().astype(np.int32)
        done = self.transform(image=np.ascontiguousarray(image.transpose(1, 2, 0)), **planes)
        moved = np.asarray(done["image"])
        pixels = torch.from_numpy(np.ascontiguousarray(moved.reshape(*moved.shape[:2], -1).transpose(2, 0, 1)))
        seen = done.get("visible")  # which HideRegions starts where it is not given
        labels = done.get("label_map")
        return View(
            pixels,
            torch.from_numpy(np.asarray(done["mask"]) > 0.5)[None],
            None if seen is None else torch.from_numpy(np.abs(seen - 1) < _ROUNDING)[None],
            None if labels is None else torch.from_numpy(np.asarray(labels).astype(np.int64)),
        )


def _by_nearest(step: Any, move: Callable[..., NDArray[Any]], labels: NDArray[Any], **params: Any) -> NDArray[Any]:
    """A label map as a step of albumentations moves masks, but by the nearest label."""
    own = {name: getattr(step, name) for name in _BY_NEAREST if hasattr(step, name)}
    vars(step).update({name: _BY_NEAREST[name] for name in own})
    try:
        return move(labels, **params)
    finally:
        vars(step).update(own)


def _leaves(step: Any) -> Iterator[Any]:
    """The steps of a pipeline that hold no others."""
    inner = step.children() if isinstance(step, nn.Sequential) else getattr(step, "transforms", None)
    if inner is None:
        yield step
    for each in inner or ():
        yield from _leaves(each)


def _may_hide(step: Any) -> bool:
    """Whether it may leave pixels that show nothing: it pads, cuts holes into masks, too, or is a user's own."""
    if not type(step).__module__.startswith("albumentations.") or type(step).__name__ == "Lambda":
        return "mask" in step.targets
    return getattr(step, "fill_mask", None) is not None and bool(getattr(step, "pad_if_needed", True))


def check_step(step: object) -> None:
    """Refuse what is the network's part, and what needs a second image.

    Raises:
        InputError: the step is one of these.
    """
    name = type(step).__name__
    if name in _OF_THE_NETWORK:
        raise InputError(
            f"data.transform must leave numbers as they are, for the network normalises them, got {name}; leave it out."
        )
    if getattr(step, "interpolation", None) == _LANCZOS:
        raise InputError(
            f"data.transform must interpolate so that hidden pixels can be told, got Lanczos in {name}; make it cubic."
        )
    if name in _MIXING:
        raise InputError(f"data.transform is about one image, got {name}, which mixes several; give --model.mix.")


def with_nearest(image: NDArray[Any], visible: NDArray[np.bool_]) -> NDArray[Any]:
    """An image with the nearest visible pixel in place of each hidden one, so that no other colour can be blended in.

    Args:
        image: (C, H, W).
        visible: (H, W) bool.
    """
    if visible.all() or not visible.any():
        return image
    hidden, filled = np.flatnonzero(~visible), image.copy()
    filled.reshape(len(image), -1)[:, hidden] = image.reshape(len(image), -1)[:, nearest_visible(hidden, visible)]
    return filled
