"""Mask families that hide segments one after the other: square patches, or superpixels of the image.

Superpixels are as in LIME and in the paper's retention curves. Segmentation is the one mask family that works on the
CPU, image by image; its results are cached. As many images at a time are segmented as torch uses threads.
"""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.families.mask_family import draw_hidden_fraction, mask_family
from maskrobust.augment.random import fold_in, permutation
from maskrobust.augment.threads import of_each
from maskrobust.errors import InputError, check_at_least, library_needed

SegmentationMethod = Literal["slic", "quickshift", "paper_slic", "paper_quickshift"]

_SETTINGS: Mapping[SegmentationMethod, Mapping[str, float]] = {
    "slic": {"n_segments": 100, "compactness": 10.0, "start_label": 0},
    "quickshift": {"kernel_size": 2, "max_dist": 10, "ratio": 0.5},
    "paper_slic": {"n_segments": 250, "start_label": 0},
    "paper_quickshift": {"kernel_size": 2, "max_dist": 200, "ratio": 0.2},
}
_KEPT_BYTES = 2**28
_KEPT: dict[tuple[SegmentationMethod, int, tuple[int, ...], bytes], NDArray[np.int32]] = {}


def hide_segments(keys: Tensor, segments: Tensor, *, hidden_fraction: tuple[float, float]) -> Tensor:
    """Hide segments in random order until the hidden pixels are nearest to fraction x H x W.

    Args:
        keys: (B,) int64 keys.
        segments: (B, H, W) integers from 0, the segment of each pixel.
        hidden_fraction: (low, high) of the fraction of hidden pixels, drawn uniformly for each sample.

    Returns:
        `visible`, (B, 1, H, W) bool; see `hide_in_order` for what is exact.

    Raises:
        InputError: the range is not 0 <= low <= high <= 1.
    """
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    return hide_in_order(segments, random_order(fold_in(keys, 1), segments), fraction.unsqueeze(0))[0]


def hide_in_order(segments: Tensor, order: Tensor, hidden_fractions: Tensor) -> Tensor:
    """Hide whole segments in a given order until the hidden pixels are nearest to fraction x H x W.

    The hidden fraction is exact to half of the segment at which the order is cut; 0 and 1 are exact. Where two cuts are
    equally near, the smaller hole is taken. With n pixels in the segments before one, and m in these and itself, it is
    hidden where the wanted number of pixels is above (n + m) / 2: holes of one order lie within each other.

    Args:
        segments: (B, H, W) integers from 0, the segment of each pixel.
        order: (B, S) int64, every segment of 0 ... S - 1 once, the one to be hidden first in front. Those that do not
            occur in an image may stand anywhere.
        hidden_fractions: (F, B) in [0, 1], the fractions of pixels to hide.

    Returns:
        `visible`, (F, B, 1, H, W) bool.
    """
    labels = segments.flatten(1).long()
    sizes = segment_sums(segments, torch.ones_like(segments), order.shape[1]).gather(1, order)
    after = sizes.cumsum(dim=1)
    turn = torch.empty_like(after).scatter_(1, order, 2 * after - sizes).gather(1, labels)
    wanted = (hidden_fractions.double() * labels.shape[1]).round().long()
    return (2 * wanted.unsqueeze(2) <= turn).reshape(len(wanted), *segments.shape).unsqueeze(2)


def random_order(keys: Tensor, segments: Tensor) -> Tensor:
    """A random order of each image's segments, the same whatever other images are in the batch.

    Args:
        keys: (B,) int64 keys.
        segments: (B, H, W) integers from 0.

    Returns:
        (B, S) int64 for `hide_in_order`; S is 1 more than the largest number in `segments`.
    """
    count = int(segments.max()) + 1 if segments.numel() else 0
    return permutation(keys, count)


def segment_sums(segments: Tensor, values: Tensor, count: int) -> Tensor:
    """Sums over the pixels of each segment.

    Args:
        segments: (B, H, W) integers in [0, count).
        values: (B, H, W) integers or bool, what to add up.
        count: number S of segments.

    Returns:
        (B, S) int64; 0 for a segment that does not occur.
    """
    sums = torch.zeros(len(segments), count, dtype=torch.int64, device=segments.device)
    return sums.scatter_add_(1, segments.flatten(1).long(), values.flatten(1).long())


def patch_segments(height: int, width: int, patch_size: int) -> Tensor:
    """The cells of a grid of square patches as segments, cut off at the lower and right border.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        patch_size: side of a patch in pixels, at least 1.

    Returns:
        (height, width) int64, counted from 0 row by row.

    Raises:
        InputError: patch_size < 1.
    """
    check_at_least("patch_size", patch_size, 1)
    row, column = (torch.arange(side) // patch_size for side in (height, width))
    return row[:, None] * -(-width // patch_size) + column


@mask_family("slic", on_cpu=True)
def slic(keys: Tensor, batch: Batch, *, hidden_fraction: tuple[float, float]) -> Tensor:
    """Hide whole SLIC segments of each image, in random order; see `hide_in_order` for what is exact.

    Args:
        keys: (B,) int64 keys.
        batch: its images are segmented; see `segment_batch`.
        hidden_fraction: (low, high) of the fraction of hidden pixels, drawn uniformly for each sample.

    Returns:
        `visible`, (B, 1, H, W) bool on the device of the images.

    Raises:
        InputError: images have pixels that are not finite, or the range is not 0 <= low <= high <= 1.
    """
    return hide_segments(keys, segment_batch(batch, "slic"), hidden_fraction=hidden_fraction)


@mask_family("quickshift", on_cpu=True)
def quickshift(keys: Tensor, batch: Batch, *, hidden_fraction: tuple[float, float]) -> Tensor:
    """Hide whole quickshift segments of each image; arguments, result and errors are those of `slic`."""
    return hide_segments(keys, segment_batch(batch, "quickshift"), hidden_fraction=hidden_fraction)


def segment_batch(batch: Batch, method: SegmentationMethod) -> Tensor:
    """The segments of each image of a batch.

    Args:
        batch: its images, float in [0, 1] or uint8, are segmented. A segmentation is kept for (method, sample id,
            checksum of the image), so that crops of one sample are not confused, for the images used last: 256 MiB, or
            1337 images of 224 x 224, or 29,127 of 48 x 48.
        method: see `segment_image`.

    Returns:
        (B, H, W) int32 from 0, on the device of the images.

    Raises:
        InputError: images have pixels that are not finite.
    """
    height, width = batch.images.shape[2:]
    images = batch.images.detach().float() / (1 if batch.images.is_floating_point() else 255)
    pictures = images.cpu().permute(0, 2, 3, 1).numpy()
    found = of_each(partial(_segments, method), batch.ids.tolist(), pictures)
    size = sum(each.nbytes for each in [*_KEPT.values()])
    for key in [*_KEPT]:
        if size > _KEPT_BYTES and (oldest := _KEPT.pop(key, None)) is not None:
            size -= oldest.nbytes
    segments = np.array(found, dtype=np.int32).reshape(-1, height, width)
    return torch.from_numpy(segments).to(batch.images.device)


def _segments(method: SegmentationMethod, sample_id: int, picture: NDArray[np.float32]) -> NDArray[np.int32]:
    """The segments (H, W) of a picture (H, W, C), which become the newest that are kept."""
    checksum = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
    key = (method, sample_id, picture.shape, checksum)
    found = _KEPT.pop(key, None)
    _KEPT[key] = found = segment_image(method, picture) if found is None else found
    return found


def segment_image(method: SegmentationMethod, picture: NDArray[np.float32]) -> NDArray[np.int32]:
    """Segment one image with scikit-image.

    Args:
        method: "slic" (Achanta et al., "SLIC superpixels", TPAMI 2012; about 100 segments) or "quickshift" (Vedaldi and
            Soatto, "Quick shift and kernel methods for mode seeking", ECCV 2008; kernel of 2 pixels, distance 10). With
            "paper_" ahead the settings are those of Balasubramanian and Feizi (ICCV 2023): about 250 segments, or
            distance 200 and ratio 0.2. Theirs number SLIC's from 1, so that one is never hidden; here it is.
        picture: (H, W, C) in [0, 1]; of more than three channels the first three count, and of two the first.

    Returns:
        (H, W) int32 from 0.

    Raises:
        InputError: the image has pixels that are not finite.
    """
    with library_needed():
        from skimage import segmentation

    if not np.isfinite(picture).all():
        raise InputError("superpixels need finite pixels, got NaN or infinity; repair the image.")
    some = picture[..., : 3 if picture.shape[2] >= 3 else 1]
    colours = np.ascontiguousarray(np.broadcast_to(some, (*picture.shape[:2], 3)))
    segment = getattr(segmentation, method.removeprefix("paper_"))
    return np.asarray(segment(colours, **_SETTINGS[method]), dtype=np.int32)
