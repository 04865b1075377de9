"""Pairs of objects in pictures without objects: which of two shapes cut out of nothing does a network follow?

Two objects j and k of two classes, alike in area and enclosing circle, are put at the same place of a picture that
holds no object. Only the shape differs between the two holes, and nothing of either object is left to be seen.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank, circle_geometry, fold_in, sample_keys, uniform
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray, check_finite
from maskrobust.lm_modules.reliance.outcomes import PairAnswers

_ALIKE = 1.05
"""Largest ratio of two areas, and of two radii."""

_MOST_OBJECTS, _CANDIDATES_A_PAIR, _CHUNK = 2000, 50, 256

_ROWS_A_PASS = 32
"""Pairs and pictures of one forward pass, which shows two holes of each; the pictures of a pair are in a row."""

_OBJECT_STREAM, _PAIR_STREAM, _PLACE_STREAM, _FILL_STREAM = 0, 1, 2, 3

Key = TypeVar("Key", bound=Hashable)
"""What a network, or a network under a masking method, is called by."""


class ScenePulls(NamedTuple):
    """How far one network follows one of two shapes in single pictures; see `ask_pass`.

    Attributes:
        rows: (n,) int64, pair x number of pictures + picture.
        hidden: (n,) float64 in logits, the pull d of the two holes.
        shown: (n,) float64 in logits, that of the objects themselves; NaN where their pixels are not known.
    """

    rows: IntArray
    hidden: FloatArray
    shown: FloatArray


class CutOut(NamedTuple):
    """The shape of one object.

    Attributes:
        mask: (h, w) bool, the object in its bounding box.
        top: row of the box minus that of the centre of the enclosing circle, rounded.
        left: the same of columns.
    """

    mask: Tensor
    top: int
    left: int


@dataclass(frozen=True, eq=False)
class ScenePairs:
    """Pairs of objects of two classes that are alike in area and enclosing circle, and lie within their pictures.

    Attributes:
        size: (H, W) of the pictures.
        samples: (P, 2) int64 ids of the samples that show the two objects of each pair.
        objects: (P, 2) int64, which objects they are.
        labels: (P, 2) int64, their classes.
        lowest: (P, 2) int64 row and column, the first place at which the circles' centres can be put so that both
            objects lie within the picture.
        highest: (P, 2) int64, the last one.
        cut_outs: by sample id.
    """

    size: tuple[int, int]
    samples: Tensor
    objects: Tensor
    labels: Tensor
    lowest: Tensor
    highest: Tensor
    cut_outs: Mapping[int, CutOut]

    def __len__(self) -> int:
        return len(self.samples)

    def check_scenes(self, scenes: Tensor | None) -> Tensor:
        """The pictures (S, C, H, W) to put the objects into, or an empty tensor for None.

        Raises:
            InputError: the pictures have another size than the objects' own.
        """
        if scenes is None or len(scenes) == 0:
            return torch.empty(0, 3, *self.size)
        if tuple(scenes.shape[2:]) != self.size:
            raise InputError(
                f"pictures without objects must have the size {self.size} of the images with objects, got "
                f"{tuple(scenes.shape[2:])}; render both at one size."
            )
        return scenes

    def pixels_of(self, batch: Batch) -> dict[int, Tensor]:
        """The pixels (C, h, w) in the bounding boxes of those cut-outs that a batch shows, by sample id, on the CPU."""
        found = {}
        for place, sample in enumerate(batch.ids.tolist()):
            if sample in self.cut_outs:
                rows, columns = _box(batch.object_mask[place, 0])
                found[sample] = batch.images[place, :, rows, columns].cpu()
        return found


def alike_pairs(object_masks: Tensor, classes: Tensor, *, ratio: float = 1.2) -> Tensor:
    """All pairs of objects of two classes that are alike in area and in the radius of the smallest enclosing circle.

    Args:
        object_masks: (N, 1, H, W) bool, none empty.
        classes: (N,) int64.
        ratio: the larger of two areas, and of two radii, over the smaller, at most.

    Returns:
        (P, 2) int64 positions, the smaller first.
    """
    sizes = object_masks.sum(dim=(1, 2, 3)).double(), _circles(object_masks)[1]
    alike = classes[:, None] != classes
    for size in sizes:
        alike &= torch.maximum(size[:, None], size) <= ratio * torch.minimum(size[:, None], size)
    return alike.triu(1).nonzero()


def scene_pairs(bank: SilhouetteBank, objects: Tensor, *, count: int, seed: int) -> ScenePairs:
    """Draw pairs of objects j, k of two classes.

    The larger of their areas, and the larger of the radii of their smallest enclosing circles, is at most 1.05 times
    the smaller. Objects that touch the border of their picture are passed over, because the border is part of their
    outline. Pairs are drawn uniformly among all that there are, of at most 2,000 objects; but no object is drawn once
    more before all others that could be have been drawn as often.

    Args:
        bank: objects to draw from.
        objects: (N,) int64, which object each sample of the bank shows; two samples of one object are no pair.
        count: pairs to draw, at most.
        seed: decides the pairs, together with the sample ids.
    """
    masks, labels, ids = bank.object_masks.cpu(), bank.labels.cpu(), bank.ids.cpu()
    kept = (~touches_border(masks)).nonzero().squeeze(1)
    keys = sample_keys(seed, ids)
    kept = kept[uniform(fold_in(keys[kept], _OBJECT_STREAM)).argsort(stable=True)[:_MOST_OBJECTS]].sort().values
    centres, radii = _circles(masks[kept])
    areas = masks[kept].sum(dim=(1, 2, 3))
    boxes = torch.tensor([[*_ends(mask[0])] for mask in masks[kept]], dtype=torch.int64).reshape(-1, 2, 2)
    lowest = centres - boxes[:, 0]
    highest = torch.tensor(masks.shape[2:]) - 1 - (boxes[:, 1] - centres)
    differ = (labels[kept, None] != labels[kept]) & (objects[kept, None] != objects[kept])
    j, k = (differ & _alike(areas) & _alike(radii)).triu(1).nonzero().unbind(1)
    fits = (torch.maximum(lowest[j], lowest[k]) <= torch.minimum(highest[j], highest[k])).all(dim=1)
    j, k = j[fits], k[fits]
    pair_keys = keys[kept[j]] + fold_in(keys[kept[k]], _PAIR_STREAM)
    order = uniform(fold_in(pair_keys, _PAIR_STREAM)).argsort(stable=True)[: _CANDIDATES_A_PAIR * count]
    chosen = order[_spread(objects[kept[torch.stack([j[order], k[order]], dim=1)]], count)]
    both = torch.stack([j[chosen], k[chosen]], dim=1)
    return ScenePairs(
        size=(masks.shape[2], masks.shape[3]),
        samples=ids[kept[both]],
        objects=objects[kept[both]],
        labels=labels[kept[both]],
        lowest=lowest[both].amax(dim=1),
        highest=highest[both].amin(dim=1),
        cut_outs={
            int(ids[kept[place]]): CutOut(masks[kept[place], 0][_box(masks[kept[place], 0])], *offset.tolist())
            for place, offset in zip(both.unique(), (boxes[:, 0] - centres)[both.unique()], strict=True)
        },
    )


def scene_passes(pairs: ScenePairs, scenes: int) -> Sequence[Tensor]:
    """The rows (n,) int64 that each forward pass is about: pair x `scenes` + picture, as `ask_pass` takes them."""
    every = torch.arange(len(pairs) * scenes)
    return every.split(_ROWS_A_PASS) if len(every) else ()


def ask_pass(
    pairs: ScenePairs,
    scenes: Tensor,
    rows: Tensor,
    pixels: Mapping[int, Tensor],
    predictors: Mapping[Key, Predictor],
    plain: Mapping[Key, Callable[[Tensor], Tensor]],
    *,
    seed: int,
) -> dict[Key, ScenePulls]:
    """How far networks follow one of two shapes, and one of two objects, in pictures without objects.

    With l_j the logit of object j's class, the pull of a pair in a picture is

        d = ((l_j - l_k behind hole j) - (l_j - l_k behind hole k)) / 2,

    and the same with the objects shown in place of the holes and nothing hidden. A place within each picture is drawn
    for both holes, and all networks and methods are asked about the same holes with the same keys. Only d is kept.

    Args:
        pairs: the objects.
        scenes: (S, C, H, W) float in [0, 1], on the networks' device, as `ScenePairs.check_scenes` gives them.
        rows: one of `scene_passes`.
        pixels: of the objects by sample id, as `ScenePairs.pixels_of` gives them.
        predictors: by key; column y of their logits is class y.
        plain: what gives the logits of pictures with nothing hidden, by the same keys; one function may stand for
            several masking methods of one network, and is asked once.
        seed: decides places and fills, together with the sample ids.

    Raises:
        InputError: logits are not finite.
    """
    pair, scene = rows // len(scenes), rows % len(scenes)
    known = torch.tensor([all(sample in pixels for sample in both) for both in pairs.samples[pair].tolist()])
    hidden: dict[Key, Tensor] = {}
    shown: dict[Callable[[Tensor], Tensor], Tensor] = {}
    with torch.inference_mode():
        keys = fold_in(_pair_keys(pairs, seed)[pair], 0) + scene
        place = _places(pairs, pair, keys)
        pictures = scenes[scene.to(scenes.device)].repeat(2, 1, 1, 1)
        visible = torch.cat([_holes(pairs, pair, place, side) for side in (0, 1)]).to(scenes.device)
        fill_keys = fold_in(keys, _FILL_STREAM).repeat(2).to(scenes.device)
        for key, predictor in predictors.items():
            hidden[key] = _pulls(key, predictor(pictures, visible, fill_keys), pairs.labels[pair])
        if known.any():
            composites = torch.cat([_pasted(pairs, pair, place, side, pictures, pixels) for side in (0, 1)])
            for network, key in {network: key for key, network in plain.items()}.items():
                shown[network] = _pulls(key, network(composites), pairs.labels[pair]).where(known, torch.nan)
    unknown = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    return {
        key: ScenePulls(rows.numpy(), each.numpy(), shown.get(plain[key], unknown).numpy())
        for key, each in hidden.items()
    }


def mean_pulls(pairs: ScenePairs, scenes: int, pulls: Sequence[ScenePulls]) -> PairAnswers:
    """The pulls of pairs, averaged over the pictures.

    Args:
        pairs: the objects.
        scenes: number of pictures.
        pulls: of every pass, in any order.
    """
    asked = len(pairs) if scenes else 0
    hidden, shown = np.empty(asked * scenes), np.empty(asked * scenes)
    for each in pulls:
        hidden[each.rows], shown[each.rows] = each.hidden, each.shown
    return PairAnswers(
        scenes=scenes,
        ids=np.arange(asked),
        objects=pairs.objects[:asked].numpy(),
        hidden=hidden.reshape(asked, scenes).sum(axis=1) / max(scenes, 1),
        shown=shown.reshape(asked, scenes).sum(axis=1) / max(scenes, 1),
    )


def _pair_keys(pairs: ScenePairs, seed: int) -> Tensor:
    """(P,) int64."""
    keys = sample_keys(seed, pairs.samples)
    return keys[:, 0] + fold_in(keys[:, 1], _PLACE_STREAM)


def _places(pairs: ScenePairs, pair: Tensor, keys: Tensor) -> Tensor:
    """Row and column (n, 2) int64 of the circles' centres, uniform over those at which both objects fit."""
    lowest, highest = pairs.lowest[pair], pairs.highest[pair]
    return lowest + (uniform(fold_in(keys, _PLACE_STREAM), 2).double() * (highest - lowest + 1)).long()


def _boxes(pairs: ScenePairs, pair: Tensor, place: Tensor, side: int) -> Iterator[tuple[int, CutOut, slice, slice]]:
    """Sample id and shape of one object of each pair, and the rows and columns of its box at a place."""
    for sample, (row, column) in zip(pairs.samples[pair, side].tolist(), place.tolist(), strict=True):
        cut_out = pairs.cut_outs[sample]
        height, width = cut_out.mask.shape
        top, left = row + cut_out.top, column + cut_out.left
        yield sample, cut_out, slice(top, top + height), slice(left, left + width)


def _holes(pairs: ScenePairs, pair: Tensor, place: Tensor, side: int) -> Tensor:
    """`visible` (n, 1, H, W): all but one object of each pair."""
    visible = torch.ones(len(pair), 1, *pairs.size, dtype=torch.bool)
    for number, (_, cut_out, rows, columns) in enumerate(_boxes(pairs, pair, place, side)):
        visible[number, 0, rows, columns] = ~cut_out.mask
    return visible


def _pasted(
    pairs: ScenePairs, pair: Tensor, place: Tensor, side: int, pictures: Tensor, pixels: Mapping[int, Tensor]
) -> Tensor:
    """Pictures (n, C, H, W) with one object of each pair, where its pixels are known."""
    composites = pictures[: len(pair)].clone()
    for number, (sample, cut_out, rows, columns) in enumerate(_boxes(pairs, pair, place, side)):
        if sample in pixels:
            box, mask = composites[number, :, rows, columns], cut_out.mask.to(pictures.device)
            box.copy_(torch.where(mask, pixels[sample].to(pictures), box))
    return composites


def _pulls(asked: Hashable, logits: Tensor, labels: Tensor) -> Tensor:
    """Pulls (n,) float64 on the CPU, of logits (2 n, K), first with objects j, then with k, and labels (n, 2)."""
    logits = logits.cpu().double()
    check_finite(logits, asked, "pictures without objects")
    margins = logits.gather(1, labels.repeat(2, 1)).diff(dim=1).squeeze(1)
    with_j, with_k = margins.chunk(2)
    return (with_k - with_j) / 2  # a margin here is l_k - l_j


def touches_border(object_mask: Tensor) -> Tensor:
    """Whether objects (N, 1, H, W) bool reach the outermost row or column of their pictures, (N,) bool."""
    ends = (object_mask[..., 0, :], object_mask[..., -1, :], object_mask[..., 0], object_mask[..., -1])
    return torch.stack([end.flatten(1).any(dim=1) for end in ends]).any(dim=0)


def _circles(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) int64 and radii (N,) float64."""
    parts = [circle_geometry(part) for part in masks.split(_CHUNK)]
    if not parts:
        return torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    return torch.cat([centres for centres, _ in parts]).round().long(), torch.cat([radii for _, radii in parts])


def _ends(mask: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last row and column of an object (H, W): ((top, left), (bottom, right))."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return (int(rows[0]), int(columns[0])), (int(rows[-1]), int(columns[-1]))


def _box(mask: Tensor) -> tuple[slice, slice]:
    (top, left), (bottom, right) = _ends(mask)
    return slice(top, bottom + 1), slice(left, right + 1)


def _alike(sizes: Tensor) -> Tensor:
    """(N, N) bool."""
    return torch.maximum(sizes[:, None], sizes) <= _ALIKE * torch.minimum(sizes[:, None], sizes)


def _spread(objects: Tensor, count: int) -> Tensor:
    """Positions of up to `count` pairs (M, 2) of objects, in order, each object as seldom as the others allow."""
    remaining = list(enumerate(objects.tolist()))
    used: Counter[int] = Counter()
    chosen: list[int] = []
    most = 0
    while remaining and len(chosen) < count:
        most += 1
        passed_over = []
        for position, both in remaining:
            if len(chosen) < count and all(used[each] < most for each in both):
                chosen.append(position)
                used.update(both)
            else:
                passed_over.append((position, both))
        remaining = passed_over
    return torch.tensor(chosen, dtype=torch.int64)
