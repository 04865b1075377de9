"""What networks that classify pixels lose beside holes, and how far their answers depend on what a hole is filled with.

Distances are in pixels between centres, rounded up, to the nearest hidden pixel: a pixel beside a hole has distance 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import Batch, blobs, fold_in, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.segmentation import SegmentationNetwork
from maskrobust.lm_modules.reliance.arrays import IntArray, check_finite
from maskrobust.lm_modules.training.processes import counts_of_pixels
from maskrobust.lm_modules.training.segmentation_losses import check_labels

EDGES = (2, 5, 10)
"""The largest distance of each band but the last, which has no end."""

BANDS = ("1-2 px", "3-5 px", "6-10 px", "over 10 px")
"""The bands of distances, in order."""

ANYWHERE = "any"
"""In place of a band: all visible pixels."""

PAINTS: tuple[MaskingMethod, ...] = ("black", "mean", "random_colour", "uniform_noise")
"""Fills with which the same hole is painted to count what changes."""

_WHOLE = "with nothing hidden"


class PixelCounts(NamedTuple):
    """Numbers of pixels in N images, each with an id of its own.

    Attributes:
        ids: (N,) int64.
        objects: (N,) int64, which object each image shows.
        counts: (N, ...) int64; what they are, a measure of pixels says.
    """

    ids: IntArray
    objects: IntArray
    counts: IntArray

    def within(self, distance: str) -> "PixelCounts":
        """Those at some distances of counts (N, number of bands, ...): one of `BANDS`, or `ANYWHERE`."""
        found = self.counts.sum(axis=1) if distance == ANYWHERE else self.counts[:, BANDS.index(distance)]
        return self._replace(counts=found)


Key = tuple[str, MaskingMethod, float]
"""A network, a masking method, and the fraction of the image that is hidden; `PAINTS` as a whole are the method ""."""


def bands_of(visible: Tensor) -> Tensor:
    """The band of each visible pixel by its distance to the nearest hidden one of its image.

    Args:
        visible: (B, 1, H, W) bool.

    Returns:
        (B, H, W) int64 on the same device: a place in `BANDS`, the last one in an image without a hole, and -1 where
        nothing is visible.
    """
    from scipy import ndimage  # here: it takes a second, which the help of commands does without

    shown = visible[:, 0].cpu().numpy()
    found = np.full(shown.shape, len(EDGES))
    for each, of in zip(shown, found, strict=True):
        if not each.all():
            of[:] = np.digitize(ndimage.distance_transform_edt(each), EDGES, right=True)
    return torch.from_numpy(np.where(shown, found, -1)).to(visible.device)


def counts_by_band(predicted: Tensor, targets: Tensor, bands: Tensor, num_classes: int) -> Tensor:
    """`counts_of_pixels` in each band: pixels of each class that are right, are labelled, and are predicted.

    Args:
        predicted: (B, H, W) int64 in [0, K).
        targets: (B, H, W) int64; pixels below 0 count nowhere.
        bands: (B, H, W) int64, see `bands_of`.
        num_classes: K.

    Returns:
        (B, number of bands, 3, K) int64.
    """
    each = (targets.where(bands == band, -1) for band in range(len(BANDS)))
    return torch.stack([counts_of_pixels(predicted, of, num_classes) for of in each], dim=1)


def counts_of_changed(predicted: Tensor, bands: Tensor) -> Tensor:
    """How many visible pixels have more than one class under several paints of the same hole, of how many.

    Args:
        predicted: (P, B, H, W) int64, the classes under each paint.
        bands: (B, H, W) int64, see `bands_of`.

    Returns:
        (B, number of bands, 2) int64: pixels whose class changes, and visible pixels, labelled or not.
    """
    changes = (predicted != predicted[0]).any(dim=0)
    within = torch.stack([bands == band for band in range(len(BANDS))], dim=1)
    return torch.stack([within & changes[:, None], within], dim=-1).sum(dim=(2, 3))


@torch.inference_mode()
def count_pixels(
    networks: Mapping[str, SegmentationNetwork],
    methods: Sequence[MaskingMethod],
    hidden_fractions: Sequence[float],
    batch: Batch,
    *,
    seed: int = 0,
) -> dict[Key, IntArray]:
    """Count the pixels of a batch behind holes of the family `blobs`, which depend on (seed, sample id) alone.

    Args:
        networks: networks that classify pixels, by name, on the device of the batch.
        methods: masking methods.
        hidden_fractions: fractions of the image that are hidden; pixels without data are hidden, too.
        batch: images with labels (B, H, W).
        seed: of the holes.

    Returns:
        For each network, method and fraction `counts_by_band`, and under the method "" `counts_of_changed`.

    Raises:
        InputError: labels are no class for each pixel, or of a class that there is not, images have other bands, or
            logits are not finite.
    """
    keys, found = sample_keys(seed, batch.ids), dict[Key, IntArray]()
    holes, paints = fold_in(keys, 0), fold_in(keys, 1)
    for fraction in hidden_fractions:
        drawn = blobs(holes, *batch.images.shape[2:], hidden_fraction=(fraction, fraction))
        visible = drawn & batch.known
        bands = bands_of(visible)
        for name, network in networks.items():
            targets = _targets(batch, visible, network)
            answers = _answers(network, dict.fromkeys((*methods, *PAINTS)), batch.images, visible, paints)
            for method in methods:
                counts = counts_by_band(answers[method], targets, bands, network.num_classes)
                found[name, method, fraction] = counts.cpu().numpy()
            painted = torch.stack([answers[each] for each in PAINTS])
            found[name, "", fraction] = counts_of_changed(painted, bands).cpu().numpy()
    return found


def _answers(
    network: SegmentationNetwork, methods: Iterable[MaskingMethod], images: Tensor, visible: Tensor, keys: Tensor
) -> dict[MaskingMethod, Tensor]:
    """The class of each pixel, (B, H, W) int64, under each method; asked once where nothing is hidden."""

    def classes(method: MaskingMethod) -> Tensor:
        logits = network(images) if method == _WHOLE else network.predictor(method)(images, visible, keys)
        check_finite(logits.movedim(1, -1)[visible[:, 0]], (network.name, method), "visible pixels")
        return logits.argmax(dim=1)

    if visible.all():
        return dict.fromkeys(methods, classes(_WHOLE))
    return {method: classes(method) for method in methods}


def _targets(batch: Batch, visible: Tensor, network: SegmentationNetwork) -> Tensor:
    """Labels (B, H, W) of visible pixels that have one, and -1 elsewhere."""
    expected = (len(batch.ids), *batch.images.shape[2:])
    if batch.labels.shape != expected or batch.images.shape[1] != len(network.preprocessing.mean):
        raise InputError(
            f"'{network.name}' classifies pixels, and needs images of {len(network.preprocessing.mean)} bands with "
            f"labels {expected}, got images {tuple(batch.images.shape)} and labels {tuple(batch.labels.shape)}; name "
            "other data."
        )
    check_labels(batch.labels[visible[:, 0]], network.num_classes, network.ignore_index)
    return batch.labels.where(visible[:, 0] & (batch.labels != network.ignore_index), -1)
