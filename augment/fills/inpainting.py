"""The fill `inpainting`: OpenCV continues the hole's surroundings into it, image by image on the CPU."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.fills.colours import mean_colour
from maskrobust.augment.fills.drawing import check_pixels, draw, fill, from_pixels, to_pixels
from maskrobust.augment.threads import of_each

INPAINTING_RADIUS = 3


@fill("inpainting", on_cpu=True)
def fill_inpainting(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Inpaint hidden pixels with the fast marching method.

    Telea, "An image inpainting technique based on the fast marching method" (Journal of Graphics Tools 9(1), 2004), as
    implemented by `cv2.inpaint`, which albumentations calls too, with its radius of 3 pixels. It works on 8 bits: what
    is drawn is a multiple of 1/255. `cv2.inpaint` reads what the hole holds, so it is given 0 there: the result does
    not depend on it. An image of one row or one column is inpainted as two rows or columns that are alike. Where
    nothing is visible, the dataset's mean colour is drawn.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        mean: the dataset's mean colour, one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What is drawn carries no gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    check_pixels(images, visible)
    drawn = to_pixels(mean_colour(images, mean), images.dtype).expand_as(images).contiguous()
    seen = visible.flatten(1)
    some = (seen.any(dim=1) & ~seen.all(dim=1)).nonzero().squeeze(1)
    if len(some):
        drawn[some] = to_pixels(_inpainted(images.detach()[some], visible[some]), images.dtype)
    return draw(images, visible, drawn)


def _inpainted(images: Tensor, visible: Tensor) -> Tensor:
    """Images of which some pixels are visible and some hidden, inpainted: (B, C, H, W) float32 in [0, 1]."""
    black = torch.zeros((), dtype=torch.uint8, device=images.device)
    pixels = draw(to_pixels(from_pixels(images), torch.uint8), visible, black).cpu().numpy()
    holes = visible[:, 0].logical_not().to("cpu", torch.uint8).numpy()
    return from_pixels(torch.from_numpy(np.stack(of_each(_inpaint, pixels, holes))).to(images.device))


def _inpaint(image: NDArray[np.uint8], hole: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One image (C, H, W) inpainted where hole (H, W) is not 0; OpenCV takes one channel or three, to one result."""
    import cv2

    height, width = hole.shape
    doubled = 1 + (height == 1), 1 + (width == 1)  # it reads past the end of an image of one row or one column
    image, hole = np.tile(image, (1, *doubled)), np.tile(hole, doubled)
    if image.shape[0] == 3:
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        drawn = cv2.inpaint(pixels, hole, INPAINTING_RADIUS, cv2.INPAINT_TELEA).transpose(2, 0, 1).astype(np.uint8)
    else:
        drawn = np.stack([cv2.inpaint(channel, hole, INPAINTING_RADIUS, cv2.INPAINT_TELEA) for channel in image])
    return drawn[:, :height, :width]
