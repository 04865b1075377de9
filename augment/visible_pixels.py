"""`visible_from`: the mask that images bring with them, from no-data values, NaN, an alpha band or a padding mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskrobust.augment.batch import LAYOUTS, check_layout, check_tensor
from maskrobust.errors import InputError


def visible_from(
    images: Tensor,
    *,
    nodata: float | Sequence[float] | None = None,
    nan: bool = True,
    alpha: int | Tensor | None = None,
    pixel_mask: Tensor | None = None,
    padding_mask: Tensor | None = None,
    axes: int = 2,
) -> Tensor:
    """Make `visible` from all that marks missing pixels: a pixel is hidden where any of these hides it.

    Args:
        images: (B, C, H, W), or one image (C, H, W), of any dtype.
        nodata: a pixel is hidden where every band holds this value, rounded to the dtype of `images` (-9999 is -10000
            in float16); or one value for each band of `images`. NaN is a value like any other.
        nan: whether a pixel is hidden where any band is NaN; otherwise such a pixel is refused unless hidden anyway.
        alpha: index of the band of `images` that is their opacity, or the opacity itself, (B, 1, H, W) or (B, H, W): a
            pixel is hidden where it is 0. A band of `images` takes no part in `nodata`.
        pixel_mask: (B, H, W) or (B, 1, H, W), 1 or True at real pixels, as Hugging Face's image processors return it.
        padding_mask: likewise, but 1 or True at pixels to ignore, as DETR's own code and PyTorch's attention have it.
        axes: how many axes positions have: 1 for signals (B, C, L), 3 for volumes (B, C, D, H, W), with masks alike.

    Returns:
        `visible`, (B, 1, H, W) bool, or (1, H, W) for one image; True where a pixel may be seen.

    Raises:
        TypeError: `images` or a mask is no tensor.
        InputError: shapes do not fit or look like (B, H, W, C), a mask holds other values than 0 and 1, `nodata` is no
            value of the images' integer type, an image has no visible pixel, or a visible pixel is NaN; the message
            names the image.

    Examples:
        >>> visible = visible_from(tiles, nodata=0)
        >>> maps = masked(tiles, visible)
    """
    check_tensor("images", images)
    if images.ndim not in (axes + 1, axes + 2) or axes + 2 not in LAYOUTS:
        layout = LAYOUTS.get(axes + 2, LAYOUTS[4])
        raise InputError(
            f"images must be {layout} or {layout.replace('B, ', '')}, got shape {tuple(images.shape)}; reshape them."
        )
    if axes == 2:
        check_layout(images)
    if images.ndim == axes + 1:
        alpha = alpha[None] if isinstance(alpha, Tensor) else alpha
        real, ignored = (None if each is None else each[None] for each in (pixel_mask, padding_mask))
        return visible_from(
            images[None], nodata=nodata, nan=nan, alpha=alpha, pixel_mask=real, padding_mask=ignored, axes=axes
        )[0]
    bands = images
    visible = torch.ones_like(images[:, :1], dtype=torch.bool)
    if isinstance(alpha, int):
        if not -images.shape[1] <= alpha < images.shape[1]:
            raise InputError(f"alpha must be one of the {images.shape[1]} bands of images, got band {alpha}.")
        index = alpha % images.shape[1]
        bands, alpha = torch.cat([images[:, :index], images[:, index + 1 :]], dim=1), images[:, index]
    if alpha is not None:
        visible &= _fitting(alpha, images, "alpha") != 0
    if pixel_mask is not None:
        visible &= _as_bool(pixel_mask, images, "pixel_mask")
    if padding_mask is not None:
        visible &= ~_as_bool(padding_mask, images, "padding_mask")
    if nodata is not None:
        visible &= ~holds_nodata(bands, nodata).all(dim=1, keepdim=True)
    is_nan = bands.isnan().any(dim=1, keepdim=True)
    if nan:
        visible &= ~is_nan
    _refuse(is_nan & visible, "holds NaN at a visible pixel; hide it with nan=True")
    _refuse(~visible.flatten(1).any(dim=1), "has no visible pixel; leave it out")
    return visible


def holds_nodata(bands: Tensor, nodata: float | Sequence[float]) -> Tensor:
    """Where a band holds its no-data value, rounded to the bands' dtype: (B, C, H, W) bool.

    Args:
        bands: (B, C, H, W), of any dtype.
        nodata: a value, or one for each band; NaN is a value like any other.

    Raises:
        InputError: there are not as many values as bands, or one is no value of the bands' integer type.
    """
    values = [nodata] * bands.shape[1] if isinstance(nodata, int | float) else [*nodata]
    if len(values) != bands.shape[1]:
        raise InputError(
            f"nodata must be one value, or one for each of the {bands.shape[1]} bands, got {len(values)} values."
        )
    for value in values:
        check_nodata(value, bands.dtype)
    # Rounded as the images were: 0.1 and -9999 are no values of float16, but images that held them are compared in it.
    expected = torch.tensor(values, device=bands.device, dtype=torch.float64).to(bands.dtype)
    expected = expected.reshape(-1, *[1] * (bands.ndim - 2))
    return (bands == expected) | (bands.isnan() & expected.isnan())


def check_nodata(nodata: float, dtype: torch.dtype) -> None:
    """Refuse a no-data value that no pixel can have.

    Args:
        nodata: the value.
        dtype: dtype of the images.

    Raises:
        InputError: `dtype` is an integer type, and cannot hold the value.
    """
    if dtype.is_floating_point:
        return
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    if not (float(nodata).is_integer() and low <= nodata <= high):
        raise InputError(
            f"nodata must be a value of the images, which are {str(dtype).removeprefix('torch.')} (whole numbers from "
            f"{low} to {high}), got {nodata:g}; give the value that such pixels hold."
        )


def _fitting(mask: Tensor, images: Tensor, name: str) -> Tensor:
    """A mask as (B, 1, *size)."""
    check_tensor(name, mask)
    mask = mask[:, None] if mask.ndim == images.ndim - 1 else mask
    expected = (images.shape[0], 1, *images.shape[2:])
    if mask.shape != expected:
        raise InputError(
            f"{name} must have shape {expected} to fit images of shape {tuple(images.shape)}, got "
            f"{tuple(mask.shape)}; give one mask for each image."
        )
    return mask


def _as_bool(mask: Tensor, images: Tensor, name: str) -> Tensor:
    mask = _fitting(mask, images, name)
    if mask.dtype != torch.bool and not ((mask == 0) | (mask == 1)).all():
        raise InputError(f"{name} must hold 0 and 1 only, got values up to {mask.max().item()}; compare it first.")
    return mask != 0


def _refuse(wrong: Tensor, why: str) -> None:
    found = wrong.flatten(1).any(dim=1).nonzero() if wrong.ndim > 1 else wrong.nonzero()
    if len(found):
        raise InputError(f"image {int(found[0])} of the batch {why}.")
