"""Object masks as the mask-only probe looks at them: all of one size, the object centred."""

import torch
from torch import Tensor
from torch.nn.functional import pad

_MARGIN = 1.1
_FRAME = 1


def object_crops(object_mask: Tensor, size: int = 32) -> Tensor:
    """Object masks cut to a square around the object, and where that square was.

    The square is centred on the object's bounding box, and a tenth larger than its longer side; what it takes from
    beyond the image is background. A mask without an object is shown whole.

    Args:
        object_mask: (N, 1, H, W) bool.
        size: side of the result in pixels.

    Returns:
        (N, 4, size, size) float32 on the masks' device. Channel 0 is the mask in the square, in [0, 1], averaged over
        each pixel. Channels 1 to 3 are constant: column and row of the square's centre, in [-0.5, 0.5] from the image's
        centre, and its side, each as a fraction of the image's longer side.
    """
    from torchvision.ops import roi_align

    height, width = object_mask.shape[2:]
    top, bottom = _extent(object_mask.any(dim=3).flatten(1))
    left, right = _extent(object_mask.any(dim=2).flatten(1))
    side = _MARGIN * torch.maximum(bottom - top, right - left)
    column, row = (left + right) / 2, (top + bottom) / 2
    image = torch.arange(len(object_mask), device=object_mask.device)
    square = torch.stack([column - side / 2, row - side / 2, column + side / 2, row + side / 2], dim=1)
    framed = pad(object_mask.float(), [_FRAME] * 4)  # roi_align repeats the outermost pixels
    cut = roi_align(framed, torch.cat([image[:, None], square + _FRAME], dim=1), size, aligned=True)
    place = torch.stack([column - width / 2, row - height / 2, side], dim=1) / max(height, width)
    return torch.cat([cut, place[:, :, None, None].expand(-1, -1, size, size)], dim=1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, L) bool, (N,) float32; 0 and L where there is none."""
    first = occupied.float().argmax(dim=1)
    behind = occupied.flip(1).float().argmax(dim=1)
    return first.float(), (occupied.shape[1] - behind).float()
