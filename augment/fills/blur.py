"""The fill `blur`: the blurred image. It uses hidden pixels, so a trace of what they show stays visible."""

import torch
from torch import Tensor

from maskrobust.augment.fills.drawing import check_pixels, draw, fill, from_pixels, to_pixels

BLUR_SCALE = 10 / 224


@fill("blur", looks_into_hole=True)
def fill_blur(images: Tensor, visible: Tensor) -> Tensor:
    """Draw a blurred copy of the whole image, hidden pixels included, into hidden pixels.

    A Gaussian of standard deviation 10/224 of the image's shorter side (10 pixels at 224, as in Fong and Vedaldi,
    "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017), cut off at 4 standard
    deviations, over an image that is continued by its border pixels. This fill leaks: it depends on what is hidden,
    and a NaN anywhere in an image makes hidden pixels NaN.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What is drawn carries no gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
    """
    check_pixels(images, visible)
    return draw(images, visible, to_pixels(blurred(images), images.dtype))


@torch.no_grad()
def blurred(images: Tensor) -> Tensor:
    """The blur of `fill_blur`: (B, C, H, W) float32 in [0, 1], or float64 where `images` are."""
    height, width = images.shape[2:]
    deviation = BLUR_SCALE * min(height, width)
    numbers = from_pixels(images)
    down, across = (_blur_matrix(size, deviation).to(numbers, non_blocking=True) for size in (height, width))
    planes = numbers.contiguous().flatten(0, 1)
    with torch.autocast(images.device.type, enabled=False):
        blurred_rows = planes.bmm(across.T.expand(len(planes), -1, -1))
        return down.expand(len(planes), -1, -1).bmm(blurred_rows).view(images.shape)


def _blur_matrix(size: int, deviation: float) -> Tensor:
    """(size, size) float64: row i holds the weight of every position in the blurred value at position i."""
    reach = int(4 * deviation + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / deviation).square())
    sources = (torch.arange(size).unsqueeze(1) + offsets).clamp(0, size - 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(size, -1))
