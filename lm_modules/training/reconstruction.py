"""The decoder and the loss of masked pre-training."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.axes import AVERAGE_POOLS, beside, cropped

_LEAST_VARIANCE = 1e-6
_GROUPS = 8


class Decoder(nn.Module):
    """A U-Net's way up: from the deepest map to pixels, with a learned token wherever a map is hidden.

    At each stride a map is projected to `width` channels by a 1 x 1 convolution, hidden positions become the token of
    this stride, the result of the deeper stride is added (nearest neighbour), and three 3 x 3 convolutions follow, each
    with group norm and ReLU. A 1 x 1 convolution and a pixel shuffle lead from the finest map to pixels. For signals
    and volumes likewise.

    Args:
        channels: channels of the maps, by stride.
        width: channels within, a multiple of 8.
        image_channels: channels of the images.
        axes: how many axes positions have.
    """

    def __init__(self, channels: Mapping[int, int], width: int, image_channels: int = 3, axes: int = 2) -> None:
        super().__init__()
        strides, convolution = sorted(channels), getattr(nn, f"Conv{axes}d")
        self.projections = nn.ModuleList(convolution(channels[each], width, kernel_size=1) for each in strides)
        self.tokens = nn.ParameterList(nn.Parameter(0.02 * torch.randn(width)) for _ in strides)
        self.stages = nn.ModuleList(_convolutions(width, convolution) for _ in strides)
        self.pixels = convolution(width, image_channels * strides[0] ** axes, kernel_size=1)
        self.stride = strides[0]

    def forward(self, maps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Pixels (B, C, h x stride, w x stride) of maps as `MaskedPretraining.encode` gives them."""
        deeper: Tensor | None = None
        parts = zip(maps, self.projections, self.tokens, self.stages, strict=True)
        for (features, visible), project, token, convolve in reversed([*parts]):
            here = torch.where(visible, project(features), beside(token, features.ndim - 2))
            if deeper is not None:
                here = here + F.interpolate(deeper, size=here.shape[2:], mode="nearest")
            deeper = convolve(here)
        return _shuffled(self.pixels(deeper), self.stride)


def _shuffled(features: Tensor, side: int) -> Tensor:
    """Channels as blocks of positions, as by `nn.PixelShuffle` for images."""
    axes, size = features.ndim - 2, features.shape[2:]
    blocks: Tensor = features.unflatten(1, (-1, *[side] * axes))
    order = [place for axis in range(axes) for place in (2 + axes + axis, 2 + axis)]
    return blocks.permute(0, 1, *order).reshape(*blocks.shape[:2], *[length * side for length in size])


def _convolutions(width: int, kind: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(3):
        convolution = kind(width, width, kernel_size=3, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(_GROUPS, width), nn.ReLU()]
    return nn.Sequential(*layers)


def patch_normalised(images: Tensor, known: Tensor, patch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images less the mean of their patches, divided by their standard deviation (plus 1e-6 in the variance).

    Patches lie on a grid from the upper left corner, those at the other edges are cut off there; mean and variance are
    over all channels of the pixels that hold data. Source: He et al. (MAE, CVPR 2022), section 4.1.

    Args:
        images: (B, C, *size) float.
        known: (B, 1, *size) bool, pixels that hold data.
        patch_size: side of a patch in pixels, at least 1.

    Returns:
        (B, C, *size), and mean and standard deviation at each pixel, (B, 1, *size).
    """
    size = images.shape[2:]
    pool = AVERAGE_POOLS[len(size)]
    images, weight = images.where(known, 0.0), known.to(images.dtype)

    def patch_means(values: Tensor) -> Tensor:
        sums, counts = (pool(each, patch_size, ceil_mode=True) for each in (values.where(known, 0.0), weight))
        means: Tensor = sums / counts.clamp(min=torch.finfo(counts.dtype).tiny)
        for axis in range(2, images.ndim):
            means = means.repeat_interleave(patch_size, axis)
        return cropped(means, size)

    mean = patch_means(images.mean(dim=1, keepdim=True))
    centred = images - mean
    deviation = (patch_means(centred.square().mean(dim=1, keepdim=True)) + _LEAST_VARIANCE).sqrt()
    return centred / deviation, mean, deviation


def reconstruction_loss(prediction: Tensor, targets: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the hidden pixels of each image, (B,) float32; 0 for an image without any.

    Args:
        prediction: (B, C, *size) float.
        targets: likewise.
        hidden: (B, 1, *size) bool.
    """
    errors = (prediction.float() - targets.float()).square().mean(dim=1, keepdim=True)
    return errors.where(hidden, 0.0).flatten(1).sum(dim=1) / hidden.flatten(1).sum(dim=1).clamp(min=1)
