"""`HideRegions`: masks as a transform in an albumentations pipeline.

Only this module needs albumentations; `import augment` does not load it. On import albumentations asks a package index
over the network for its newest version, and warns when it cannot or when there is one. That check stays off for this
process and those that it starts, unless the environment already says otherwise or albumentations was imported before.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from albumentations.core.transforms_interface import NoOp
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import Batch, in_unit_range
from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.mask_family import build_family, family_needs, read_families
from maskrobust.augment.fills.colours import check_mean
from maskrobust.augment.fills.drawing import FILLS, FillName, apply_fill
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.augment.random import fold_in
from maskrobust.errors import InputError, check_within


def _as_plane(visible: NDArray[Any] | None, size: tuple[int, ...]) -> NDArray[Any]:
    """`visible` as (H, W), from (H, W) or (H, W, 1): bool as uint8, other types as they are; all 1 where it is None."""
    if visible is None:
        return np.ones(size, dtype=np.uint8)
    if visible.shape not in (size, (*size, 1)):
        raise InputError(f"visible must have the size of the image, {size}, got shape {visible.shape}; give (H, W).")
    plane: NDArray[Any] = visible.reshape(size)
    return (plane != 0).astype(np.uint8) if plane.dtype == np.bool_ else plane


_NO_SAMPLE = -1


class HideRegions(NoOp):
    """Hide regions of the image, and give back where it may still be seen.

    The hole is drawn by a mask family for the image as it is at this place of the pipeline. `visible` becomes
    ``visible and not hole``, and every pixel that is not visible then holds the fill, those that an earlier transform
    hid or padded included. The object mask (`mask`: anything but 0 is the object), boxes and keypoints stay as they
    are.

    `visible` is (H, W), 1 where a pixel may be seen and 0 where not, of uint8 unless it is given with another type, and
    a mask target of the user's `Compose`: ``additional_targets={"visible": "mask"}``. The model's (1, H, W) bool is
    ``visible[None].bool()`` after `ToTensorV2`. Where `visible` is not given it starts with every pixel visible. Later
    transforms then move it as they move the object mask. Pixels that they bring in by constant padding were never seen:
    with albumentations' own default ``fill_mask=0`` they count as not visible. Pixels mirrored into the border are as
    visible as those they were copied from. Put ``HideRegions(p=0)``, which only starts `visible`, first where a
    transform before the hole may pad the image, or where the hole stands inside a `OneOf` that may leave it out.

    Fills work in pixel space: put this before `Normalize`. Flips, crops and turns by 90 degrees may come before or
    after it. Put transforms that interpolate before it: afterwards they would blend fill and image along the hole's
    outline, which `visible`, not being interpolated, does not say.

    All that is random follows from one integer, drawn from the pipeline's own generator: the same `seed` of `Compose`
    gives the same holes, `ReplayCompose` stores that integer and replays it, and what it stores is plain.

    Examples:
        >>> pipeline = A.Compose(
        ...     [
        ...         A.RandomResizedCrop((224, 224)),
        ...         A.HorizontalFlip(),
        ...         HideRegions(family="rectangles", fill="mean", hidden_fraction=(0.2, 0.6), p=1.0),
        ...         A.Normalize(),
        ...         A.ToTensorV2(),
        ...     ],
        ...     additional_targets={"visible": "mask"},
        ... )
        >>> out = pipeline(image=image, mask=object_mask)
        >>> out["image"], out["mask"], out["visible"]

    Args:
        family: mask family, one of `maskrobust.augment.families.FAMILIES`; or several, with weights and options
            (`build_family`).
        fill: fill, one of `maskrobust.augment.fills.FILLS`.
        hidden_fraction: (low, high) fraction of the image that is hidden, by the families that can choose it.
        patch_size: side of a patch in pixels, or its (height, width), at least 1.
        mean: colour in [0, 1] of the fill "mean", one value for each channel.
        bank: where the family "silhouettes" draws from; a transform that has one cannot be written to a file.
        p: probability of hiding anything.

    Targets:
        image, mask, bboxes, keypoints; `label`, the image's class, for the families that ask for it.

    Image types:
        uint8, float32 in [0, 1]; one or three channels.

    Raises:
        InputError: an argument leaves its domain, or the family needs a bank and none is given. On a call: the family
            needs `mask` or `label` and it is missing, the image is of another type or has neither three nor two
            dimensions, or `visible` is not declared as a mask, or is given with another size than the image.
    """

    fill: FillName  # type: ignore[assignment]  # a colour, for albumentations' own transforms

    def __init__(
        self,
        family: str | dict[str, float | dict[str, Any]] = "patches",
        fill: FillName = "black",
        hidden_fraction: tuple[float, float] = (0.1, 0.9),
        patch_size: int | tuple[int, int] = 16,
        mean: Sequence[float] = IMAGENET_MEAN,
        bank: SilhouetteBank | None = None,
        p: float = 0.5,
    ) -> None:
        check_within("[0, 1]", "p", p)
        options = {"hidden_fraction": hidden_fraction, "patch_size": patch_size}
        (checked,) = read_families({"patches": options}, "family")
        super().__init__(p=p)
        self.family = family
        self.fill = fill
        self.hidden_fraction, self.patch_size = (checked.options[name] for name in options)
        check_mean(mean)
        self.mean = tuple(mean)
        self.bank = bank
        FILLS.find(fill, "fill")
        self._needs = family_needs(family, "family")
        self._family = build_family(
            family, hidden_fraction=self.hidden_fraction, patch_size=self.patch_size, bank=bank, option="family"
        )

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> Any:
        """Start `visible` and apply the transform."""
        if self._additional_targets.get("visible") != "mask":
            raise InputError(
                f"{type(self).__name__} hands on `visible`, which must be a mask target for later transforms to move "
                "it along, but it is not; give Compose additional_targets={'visible': 'mask'}."
            )
        image = data.get("image")
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
            given = type(image).__name__ if not isinstance(image, np.ndarray) else f"shape {image.shape}"
            raise InputError(
                f"{type(self).__name__} needs an image as a NumPy array (H, W, C), got {given}; put it before "
                "ToTensorV2, and pass image=... to Compose."
            )
        data["visible"] = _as_plane(data.get("visible"), image.shape[:2])
        return super().__call__(*args, force_apply=force_apply, **data)

    def _set_keys(self) -> None:
        super()._set_keys()
        self._available_keys.add("label")  # for a strict Compose

    def get_params(self) -> dict[str, Any]:
        """Draw the integer that hole and fill follow from."""
        return {"key": int(self.random_generator.integers(2**63 - 1))}

    def apply_with_params(self, params: dict[str, Any], *args: Any, **data: Any) -> dict[str, Any]:
        """Draw the hole, fill the image or images, and take the hole out of `visible`."""
        keys = torch.tensor([params["key"]])
        hole = ~self._family(fold_in(keys, 0), self._as_batch(data))[0, 0].numpy()
        visible = np.where(hole, np.zeros((), dtype=data["visible"].dtype), data["visible"])
        done: dict[str, Any] = super().apply_with_params({**params, "visible": visible}, *args, **data)
        return done | {"visible": visible}

    def apply(self, img: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Draw the fill into every pixel of the image that is not visible."""
        images = _to_tensor(img)
        keys = fold_in(torch.tensor([params["key"]]), 1)
        filled = apply_fill(self.fill, images, _to_tensor(params["visible"]) != 0, keys=keys, mean=self.mean)
        return filled[0].permute(1, 2, 0).reshape(img.shape).numpy()

    def _as_batch(self, data: dict[str, Any]) -> Batch:
        image, mask, label = data["image"], data.get("mask"), data.get("label")
        if image.dtype not in (np.uint8, np.float32):
            raise InputError(f"the image must be uint8, or float32 in [0, 1], got {image.dtype}; convert it.")
        several = sorted({"images", "volume", "volumes"} & data.keys())
        if several:
            raise InputError(
                f"HideRegions fills the target image alone, got {several[0]} too; transform them one by one."
            )
        for need, name, given in (("object_mask", "mask", mask), ("labels", "label", label)):
            if need in self._needs and given is None:
                raise InputError(f"mask family '{self.family}' needs {name}, got none; pass {name} to Compose.")
        images = _to_tensor(image)
        return Batch(
            ids=torch.tensor([_NO_SAMPLE]),
            images=in_unit_range(images),
            object_mask=torch.zeros_like(images[:, :1], dtype=torch.bool)
            if mask is None
            else (_to_tensor(mask) != 0).any(dim=1, keepdim=True),
            labels=torch.tensor([0 if label is None else int(label)]),
        )


def _to_tensor(array: NDArray[Any]) -> Tensor:
    """(H, W) or (H, W, C) as a tensor (1, C, H, W) that shares its memory where torch can."""
    array = np.require(array, requirements=["C", "W"])
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]
