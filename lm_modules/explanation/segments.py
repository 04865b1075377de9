"""`Segments`: an image cut into patches or superpixels, and the masks that show some of them."""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from maskrobust.augment import Batch, patch_segments, segment_batch, segment_sums
from maskrobust.augment.families.superpixels import SegmentationMethod
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.asking import Queries
from maskrobust.lm_modules.reliance.arrays import FloatArray


@dataclass(frozen=True)
class Segments:
    """Each image of a batch, cut into segments.

    Attributes:
        labels: (B, H, W) integers, the segment of each pixel; in each image those from 0 on without a gap, at least
            two. Kept as int64.

    Raises:
        InputError: `labels` is anything else.
    """

    labels: Tensor

    def __post_init__(self) -> None:
        _check(self.labels)
        object.__setattr__(self, "labels", self.labels.long())

    @classmethod
    def patches(cls, images: Tensor, patch_size: int = 16) -> "Segments":
        """The cells of a grid, cut off at the lower and right border.

        Args:
            images: (B, C, H, W); only their shape and device matter.
            patch_size: side of a cell in pixels, from 1 to less than that of the image.
        """
        size, height, width = len(images), *images.shape[-2:]
        return cls(patch_segments(height, width, patch_size).to(images.device).expand(size, -1, -1))

    @classmethod
    def superpixels(cls, images: Tensor, method: SegmentationMethod = "slic") -> "Segments":
        """Superpixels of each image, as the mask families "slic" (about 100 of them) and "quickshift" have them.

        Args:
            images: (B, C, H, W) float in [0, 1] or uint8, C being 1 or 3, with finite pixels.
            method: "slic" or "quickshift", or either with the paper's settings, "paper_slic" or "paper_quickshift".
        """
        methods = get_args(SegmentationMethod)
        if method not in methods:
            raise InputError(f"method must be one of {', '.join(methods)}, got '{method}'; choose one.")
        none = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return cls(segment_batch(Batch(none, images, torch.zeros_like(images[:, :1]).bool(), none), method))

    def count(self, index: int) -> int:
        """The number M of segments of one image."""
        return int(self.labels[index].max()) + 1

    def visible(self, index: int, z: Tensor) -> Tensor:
        """Visible maps (N, 1, H, W) bool of one image, each pixel as its segment in z (N, M) bool, on its device."""
        return z.to(self.labels.device)[:, self.labels[index]].unsqueeze(1)

    def queries(self, index: int, z: Tensor) -> Queries:
        """What `ask` takes: the maps of `visible`, composed a batch at a time; z is checked to be bool (N, M)."""
        labels, count = self.labels[index : index + 1], self.count(index)
        if z.ndim != 2 or z.dtype != torch.bool or z.shape[1] != count:
            raise InputError(
                f"z must be bool (N, {count}), a column for each segment, got {z.dtype} {tuple(z.shape)}; draw it "
                f"for {count} segments."
            )
        sizes = segment_sums(labels, torch.ones_like(labels), count)[0].cpu()
        on_device = z.to(self.labels.device)
        return Queries(z.cpu().long() @ sizes, lambda positions: self.visible(index, on_device[positions]))

    def heat_map(self, index: int, scores: FloatArray) -> FloatArray:
        """The scores of segments (M, K) at each pixel of one image, (H, W, K) float64."""
        heat: FloatArray = scores[self.labels[index].cpu().numpy()]
        return heat


def _check(labels: Tensor) -> None:
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"labels must be integers (B, H, W), got {labels.dtype} {tuple(labels.shape)}; give one label map for each "
            "image."
        )
    for index, each in enumerate(labels):
        found = each.unique()
        if len(found) < 2:
            raise InputError(
                f"an image needs at least two segments, got {len(found)} in image {index}; choose smaller ones."
            )
        if int(found[0]) != 0 or int(found[-1]) != len(found) - 1:
            raise InputError(
                f"segments must be numbered from 0 without a gap, got {len(found)} of {int(found[0])} to "
                f"{int(found[-1])} in image {index}; renumber them, for example with torch.unique's inverse."
            )
