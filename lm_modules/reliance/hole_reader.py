"""What holes alone tell of the class: a reader that sees no pixel, only where an image holds no data.

It is kernel ridge regression, fitted without a fold of objects and asked about pairs of images within that fold, whose
classes are two: whose hole is whose? As both are left out alike, exchanging their labels exchanges nothing else, and a
reader of holes that tell nothing is right in half of the pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot, pad

from maskrobust.augment import HoleBank, fold_in, sample_keys, uniform
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.estimates.clustered import clustered_variance
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Part, WithError

Feature = Literal["everything", "place", "shape", "size", "presence"]
"""What a reader sees of holes."""

MOST_IMAGES = 1000
"""Largest number of images that are read."""

FEW_IMAGES = 200
"""Number of images below which a reader that finds nothing has not seen much."""

LEVEL = 0.05
"""Holes tell the class where their reader is as often right for so few of the permutations of the labels."""

_PERMUTATIONS, _FOLDS, _GRID = 199, 10, 12
_INTERCEPT, _RIDGE, _ROUNDING = 10.0, 1.0, 1e-9
_FOLD_STREAM, _SOME_STREAM = 0, 1
_MARGIN, _FRAME, _SIDE = 1.1, 1, 32
_UNDEFINED = "undefined because it takes at least two classes and three objects with holes to read."


@dataclass(frozen=True)
class Reading:
    """What a reader of one feature of holes finds.

    Attributes:
        order: fraction of the pairs in which it says rightly whose hole is whose; 0.5 is blind.
        pull: how far its answers move towards the class of the hole, in [-1, 1]: what holes alone can give.
        p_value: fraction of the permutations of the labels for which it is right as often, in (0, 1].
    """

    order: Estimate
    pull: Estimate
    p_value: float


@dataclass(frozen=True)
class HolesRead:
    """What holes tell of the class, feature by feature.

    Attributes:
        readings: what the reader of each feature finds; "everything" is first.
        images: number of images that were read, with and without a hole.
    """

    readings: Mapping[Feature, Reading]
    images: int

    @property
    def tell(self) -> bool:
        """Whether holes tell the class: a reader that sees everything of them is shown not to be blind."""
        return self.readings["everything"].p_value <= LEVEL

    @property
    def telling(self) -> tuple[Feature, ...]:
        """The features each of which is shown to tell the class (Bonferroni), and at least half as far as everything.

        As far: by how much more often than blindly the reader is right. None where holes do not tell the class.
        """
        (_, all_of_it), *single = self.readings.items()
        least = 0.5 + ((all_of_it.order.value or 0.0) - 0.5) / 2
        found = (
            name for name, each in single if each.p_value <= LEVEL / len(single) and (each.order.value or 0.0) >= least
        )
        return tuple(found) if self.tell else ()


class _Pairs(NamedTuple):
    """Pairs of images, (M,) int64 positions each, and whether their holes are equal, (M,) bool."""

    j: Tensor
    k: Tensor
    equal: Tensor


def read_holes(bank: HoleBank, seed: int = 0) -> HolesRead:
    """How far holes alone tell the class of their images.

    Args:
        bank: what may be seen of each image, with its class; of more than `MOST_IMAGES` images as many are read, drawn
            by their objects.
        seed: decides folds, permutations and which images are read, with the ids.

    Returns:
        The readings. They are undefined, with p-values of 1, where there are fewer than two classes or three objects.
    """
    bank = _some(bank, seed)
    folds = _folds(bank.objects, seed)
    shuffled = _permuted_labels(bank, seed)
    hole_of = torch.unique(bank.visible.flatten(1), dim=0, return_inverse=True)[1]
    readings = {feature: _read(feature, bank, folds, hole_of, shuffled) for feature in get_args(Feature)}
    return HolesRead(readings, len(bank))


def hole_features(visible: Tensor, feature: Feature) -> Tensor:
    """What a reader sees of holes.

    Args:
        visible: (N, 1, H, W) bool.
        feature: "place": centre of the hole's bounding box. "shape": the hole in the smallest square around it, 12 x
            12. "size": the square's side, and the root of the hidden fraction. "presence": whether there is a hole.
            "everything": all of these, and the hole where it is, 12 x 12.

    Returns:
        (N, D) float64; places and lengths are fractions of the longer side. What only a hole has is 0 without one.
    """
    hole = ~visible
    some = hole.flatten(1).any(dim=1, keepdim=True).double()
    crops = object_crops(hole).double()
    x, y, side = (some * crops[:, channel, :1, 0] for channel in (1, 2, 3))
    size = hole.double().mean(dim=(1, 2, 3))[:, None].sqrt()
    shape = some * adaptive_avg_pool2d(crops[:, :1], _GRID).flatten(1) / _GRID
    in_place = adaptive_avg_pool2d(hole.double(), _GRID).flatten(1) / _GRID
    found = {"place": [x, y], "shape": [shape], "size": [side, size], "presence": [some]}
    found["everything"] = [in_place, shape, x, y, side, size, some]
    return torch.cat(found[feature], dim=1)


def object_crops(object_mask: Tensor) -> Tensor:
    """Object masks cut to a square around the object, and where that square was.

    The square is centred on the object's bounding box, and a tenth larger than its longer side; what it takes from
    beyond the image is background. A mask without an object is shown whole.

    Args:
        object_mask: (N, 1, H, W) bool.

    Returns:
        (N, 4, 32, 32) float32 on the masks' device. Channel 0 is the mask in the square, in [0, 1], averaged over
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
    cut = roi_align(framed, torch.cat([image[:, None], square + _FRAME], dim=1), _SIDE, aligned=True)
    place = torch.stack([column - width / 2, row - height / 2, side], dim=1) / max(height, width)
    return torch.cat([cut, place[:, :, None, None].expand(-1, -1, _SIDE, _SIDE)], dim=1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last True of each row of (N, L) bool, (N,) float32; 0 and L where there is none."""
    first = occupied.float().argmax(dim=1)
    behind = occupied.flip(1).float().argmax(dim=1)
    return first.float(), (occupied.shape[1] - behind).float()


def _read(feature: Feature, bank: HoleBank, folds: Tensor, hole_of: Tensor, shuffled: Tensor) -> Reading:
    """What the reader of a feature finds; place, shape and size are read of images with a hole alone."""
    read = torch.ones_like(folds, dtype=torch.bool)
    if feature in ("place", "shape", "size"):
        read = bank.has_hole()
    labels, folds, hole_of, shuffled = bank.labels[read], folds[read], hole_of[read], shuffled[:, read]
    pairs = _pairs_within(folds, hole_of)
    differ = labels[pairs.j] != labels[pairs.k]
    if not differ.any() or len(bank.objects[read].unique()) < 3:
        undefined = Estimate(None, None, None, len(labels), 0, _UNDEFINED)
        return Reading(undefined, undefined, 1.0)
    weights = _left_out_weights(hole_features(bank.visible[read], feature), folds)
    scores = _scores(weights, labels)
    order, pull = (values.numpy()[differ.numpy()] for values in _answers(scores, labels, pairs))
    objects = bank.objects[read]
    donors = torch.stack([objects[pairs.j[differ]], objects[pairs.k[differ]]], dim=1).numpy()
    others = np.array([_means(weights, each, pairs) for each in shuffled])
    p_value = (1 + int((others[:, 0] >= order.mean() - _ROUNDING).sum())) / (1 + len(others))
    of_order, of_pull = others.var(axis=0).tolist()
    return Reading(
        _estimate(order, donors, of_order, (0.0, 1.0), len(labels)),
        _estimate(pull, donors, of_pull, (-1.0, 1.0), len(labels)),
        p_value,
    )


def _estimate(values: FloatArray, donors: IntArray, least: float, scale: tuple[float, float], images: int) -> Estimate:
    """The mean of values (M,) of pairs of objects (M, 2), with an interval that counts shared objects.

    Its variance is `least` at least, that of permuted labels: images are shared by what is fitted for all folds, too.
    """
    variance, degrees = clustered_variance(values, [donors], scale[1] - scale[0])
    objects = Part(max(variance, least), degrees)
    number = WithError(float(values.mean()), Part(0.0, 1.0), objects)
    low, high = np.clip(number.interval()[1:], *scale).tolist()
    return Estimate(number.value, low, high, images, 0, degrees=objects.degrees)


def _some(bank: HoleBank, seed: int) -> HoleBank:
    """At most `MOST_IMAGES` images, those of some objects."""
    unique, position = bank.objects.unique(return_inverse=True)
    rank = uniform(fold_in(sample_keys(seed, unique), _SOME_STREAM)).argsort(stable=True).argsort()
    order = rank[position].argsort(stable=True)
    return bank.select(order[:MOST_IMAGES].sort().values)


def _folds(objects: Tensor, seed: int) -> Tensor:
    """The fold (N,) of each image: objects are dealt in an order that depends on (seed, object) alone."""
    unique, position = objects.unique(return_inverse=True)
    rank = uniform(fold_in(sample_keys(seed, unique), _FOLD_STREAM)).argsort(stable=True).argsort()
    count = min(max(len(unique) // 2, 2), _FOLDS)
    return (rank % count)[position]


def _permuted_labels(bank: HoleBank, seed: int) -> Tensor:
    """Labels (P, N) with those of whole objects exchanged, in turn where objects have different numbers of images."""
    unique, position, sizes = bank.objects.unique(return_inverse=True, return_counts=True)
    in_order = position.argsort(stable=True)
    start = sizes.cumsum(0) - sizes
    number = torch.empty_like(position)
    number[in_order] = torch.arange(len(position)) - start[position[in_order]]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(_PERMUTATIONS):
        other = torch.randperm(len(unique), generator=generator)[position]
        found.append(bank.labels[in_order[start[other] + number % sizes[other]]])
    return torch.stack(found)


def _pairs_within(folds: Tensor, hole_of: Tensor) -> _Pairs:
    """All pairs of images of one fold."""
    j, k = torch.cat([torch.combinations((folds == fold).nonzero().squeeze(1)) for fold in folds.unique()]).T
    return _Pairs(j, k, hole_of[j] == hole_of[k])


def _left_out_weights(features: Tensor, folds: Tensor) -> Tensor:
    """Weights (N, N) of the labels in the scores of each image, 0 for labels of its own fold.

    The kernel is c + exp(-r^2 / s) + exp(-4 r^2 / s) of distances r, with s the median of r^2. With G the inverse of
    kernel plus ridge, the prediction without fold f is W y for W = I - inverse(G_ff) G in the rows of f: the formula of
    leaving one out, for folds.
    """
    squared = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    positive = squared[squared > _ROUNDING]
    scaled = squared / (positive.median() if len(positive) else 1.0)
    kernel = _INTERCEPT + torch.exp(-scaled) + torch.exp(-4.0 * scaled)
    inverse = torch.linalg.inv(kernel + _RIDGE * torch.eye(len(kernel), dtype=kernel.dtype))
    weights = torch.empty_like(kernel)
    for fold in folds.unique():
        own = (folds == fold).nonzero().squeeze(1)
        weights[own] = -torch.linalg.solve(inverse[own[:, None], own], inverse[own])
        weights[own[:, None], own] = 0.0
    return weights


def _scores(weights: Tensor, labels: Tensor) -> Tensor:
    """Scores (N, classes) of each image for each class."""
    return torch.zeros(int(labels.max()) + 1, len(labels), dtype=weights.dtype).index_add_(0, labels, weights.T).T


def _answers(scores: Tensor, labels: Tensor, pairs: _Pairs) -> tuple[Tensor, Tensor]:
    """Order in {0, 1/2, 1} and pull in [-1, 1] of each pair, (M,) float64; equal holes cannot be told apart."""
    j, k, equal = pairs
    a, b = labels[j], labels[k]
    d = scores[j, a] - scores[j, b] - scores[k, a] + scores[k, b]
    order = (d.masked_fill(equal | (d.abs() < _ROUNDING), 0.0).sign() + 1.0) / 2.0
    named = one_hot(scores.argmax(dim=1), scores.shape[1]).double()
    pull = (named[j, a] - named[k, a] + named[k, b] - named[j, b]) / 2.0
    return order, pull.masked_fill(equal, 0.0)


def _means(weights: Tensor, labels: Tensor, pairs: _Pairs) -> tuple[float, float]:
    """Mean order and pull over the pairs of two classes; 1/2 and 0 where there is none."""
    differ = labels[pairs.j] != labels[pairs.k]
    if not differ.any():
        return 0.5, 0.0
    order, pull = _answers(_scores(weights, labels), labels, pairs)
    return float(order[differ].mean()), float(pull[differ].mean())
