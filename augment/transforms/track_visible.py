"""The target `visible` of an albumentations pipeline: where a pixel may be seen."""

from collections.abc import Callable
from typing import Any

import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema, DualTransform
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from maskrobust.errors import InputError


class TrackVisible(DualTransform):
    """Start the target `visible`, where it is not given, with every pixel visible; change nothing else.

    `visible` is (H, W) uint8, 1 where a pixel may be seen and 0 where not, and a mask target of the user's `Compose`:
    ``additional_targets={"visible": "mask"}``. Later transforms then move it as they move the object mask. Pixels that
    they bring in by constant padding were never seen: with albumentations' own default ``fill_mask=0`` they count as
    not visible. Pixels mirrored into the border are as visible as those they were copied from.

    `HideRegions` starts `visible` by itself. Put `TrackVisible` first where a transform before it may pad the image, or
    where it stands inside a `OneOf` that may leave it out.

    Args:
        p: has no effect: `visible` is started on every call.

    Targets:
        image, mask, bboxes, keypoints

    Image types:
        uint8, float32

    Raises:
        InputError: on a call: there is no image of three or two dimensions, `visible` is not declared as a mask, or is
            given with another size than the image.
    """

    _targets = (Targets.IMAGE, Targets.MASK, Targets.BBOXES, Targets.KEYPOINTS)

    class InitSchema(BaseTransformInitSchema):
        """Checks the arguments."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    @property
    def targets(self) -> dict[str, Callable[..., Any]]:
        """What is done to each target."""
        return {
            "image": self.apply,
            "mask": self.apply_to_mask,
            "masks": self.apply_to_masks,
            "bboxes": self.apply_to_bboxes,
            "keypoints": self.apply_to_keypoints,
        }

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

    def apply(self, img: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """The image as it is."""
        return img

    def apply_to_mask(self, mask: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """The mask as it is: it says where the object is, hidden or not."""
        return mask

    def apply_to_bboxes(self, bboxes: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """The boxes as they are."""
        return bboxes

    def apply_to_keypoints(self, keypoints: NDArray[Any], *args: Any, **params: Any) -> NDArray[Any]:
        """The keypoints as they are."""
        return keypoints


def _as_plane(visible: NDArray[Any] | None, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """`visible` as (H, W) uint8 of 0 and 1, from (H, W) or (H, W, 1) of any numbers; all 1 where it is None."""
    if visible is None:
        return np.ones(size, dtype=np.uint8)
    if visible.shape not in (size, (*size, 1)):
        raise InputError(f"visible must have the size of the image, {size}, got shape {visible.shape}; give (H, W).")
    plane: NDArray[np.uint8] = (visible.reshape(size) != 0).astype(np.uint8)
    return plane
