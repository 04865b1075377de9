"""What segmentation networks lose beside holes, by training and by way of hiding, for docs/segmentation.md.

    OMP_NUM_THREADS=1 nice -n 5 python docs/studies/segmentation.py runs/segmentation

Generated tiles of 64 px have four bands, a textured ground, and six discs, squares and triangles of other textures. A
small U-Net learns which pixels belong to which shape, from 600 tiles in 250 steps of 16. The arms:

    plain                 without holes
    black                 half of the tiles with blobs over 10 to 60 % of them, filled with black
    paints                the same, filled with black, the mean colour, a random colour or noise, drawn anew each time
    inpainted             the same, inpainted
    layer_masking         the same, hidden by layer masking
    partial_convolution   the same, hidden by partial convolutions (Liu et al., ECCV 2018) with a mask for each channel,
                          whose batch norms count visible positions alone

Each is trained with seeds 0 to 4, which decide weights, order and holes, and tested on the same 96 tiles, whole and
with blobs over 30 % of them, under each fill and under layer masking; partial convolutions under themselves. Nothing is
chosen by looking at the tests, and an arm that does not train is reported as it is.

PRIMARY was stated before any of these networks was trained (one with seed 99 was, to time it). Each comparison is a
difference of IoU, paired by seed and tile, with an interval over seeds and tiles that holds for all of them together
(Bonferroni, 95 %). An arm "reaches plain's clean IoU" if its own mean on whole tiles is at most 2 points below. All
other numbers are given without a test.

One file for each network; those that are there stay, so that the same command goes on after an interruption.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader

from maskrobust.augment import Batch
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.segmentation import SegmentationNetwork
from maskrobust.lm_modules.reliance.estimates.estimation import estimate, estimate_pair
from maskrobust.lm_modules.reliance.measures.pixels import changed_by_paint, pixel_iou
from maskrobust.lm_modules.reliance.pixels import ANYWHERE, BANDS, PAINTS, PixelCounts, count_pixels
from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter
from maskrobust.train.data.loading import collate

SIDE, CLASSES, TRAINED, TESTED, STEPS, BATCH = 64, 4, 600, 96, 250, 16
SEEDS, HIDDEN, BESIDE, FAR = range(5), 0.3, BANDS[0], BANDS[-1]
COLOURS: dict[str, tuple[float, ...]] = {"mean": (0.5,) * 4, "std": (0.25,) * 4}
PARTIAL = "partial_convolution"

_HOLES = {"mask_family": "blobs", "hidden_fraction": (0.1, 0.6), "mask_probability": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"masking": "none"},
    "black": {"masking": "fill", "fill": "black", **_HOLES},
    "paints": {"masking": "fill", "fill": dict.fromkeys(PAINTS, 1.0), **_HOLES},
    "inpainted": {"masking": "fill", "fill": "inpainting", **_HOLES},
    "layer_masking": {"masking": "layer_masking", **_HOLES},
    PARTIAL: {"masking": "layer_masking", **_HOLES},
}
METHODS = (*PAINTS, "inpainting", "layer_masking")

PRIMARY = (
    # arm, way of hiding, minus arm, way of hiding, hidden fraction, distance
    (("plain", "layer_masking"), ("plain", "black"), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), ("plain", "layer_masking"), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), ("black", "black"), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), ("paints", "random_colour"), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), ("inpainted", "inpainting"), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), (PARTIAL, PARTIAL), HIDDEN, BESIDE),
    (("layer_masking", "layer_masking"), ("plain", "layer_masking"), 0.0, ANYWHERE),
)


def texture(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour in [0.1, 0.9] with smooth noise, (4, SIDE, SIDE) in [0, 1]."""
    noise = ndimage.gaussian_filter(rng.standard_normal((4, SIDE, SIDE)), (0, 1, 1))
    return np.clip(rng.uniform(0.1, 0.9, (4, 1, 1)) + 0.25 * noise, 0.0, 1.0)


def tiles(count: int, seed: int, first: int) -> Batch:
    """So many tiles, whose ids begin with `first`: classes 0 (ground), 1 (discs), 2 (squares), 3 (triangles)."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:SIDE, :SIDE]
    images, labels = np.empty((count, 4, SIDE, SIDE), np.float32), np.zeros((count, SIDE, SIDE), np.int64)
    for image, label in zip(images, labels, strict=True):
        image[...] = texture(rng)
        for shape in rng.integers(1, CLASSES, 6):
            down, across, radius = rng.uniform(6, SIDE - 6), rng.uniform(6, SIDE - 6), rng.uniform(5, 9)
            v, u = y - down, x - across
            inside = {
                1: u**2 + v**2 < radius**2,
                2: np.maximum(abs(u), abs(v)) < 0.886 * radius,
                3: (v < 0.9 * radius) & (v > 2 * abs(u) - 1.6 * radius),
            }[int(shape)]
            image[:, inside], label[inside] = texture(rng)[:, inside], shape
    nothing = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    return Batch(torch.arange(first, first + count), torch.from_numpy(images), nothing, torch.from_numpy(labels))


def block(channels: int, width: int) -> nn.Sequential:
    """Two convolutions with batch norms."""
    pairs = ((channels, width), (width, width))
    convolutions = [(nn.Conv2d(*each, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for each in pairs]
    return nn.Sequential(*(layer for layers in convolutions for layer in layers))


class UNet(nn.Module):
    """Three scales, (B, 4, H, W) -> (B, CLASSES, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = block(4, 16), block(16, 32), block(32, 32)
        self.join_second, self.join_first = block(64, 32), block(48, 16)
        self.head = nn.Conv2d(16, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        fine = self.first(images)
        middle = self.second(F.max_pool2d(fine, 2))
        coarse = F.interpolate(self.third(F.max_pool2d(middle, 2)), scale_factor=2)
        middle = F.interpolate(self.join_second(torch.cat([middle, coarse], 1)), scale_factor=2)
        return self.head(self.join_first(torch.cat([fine, middle], 1)))


class PartialUNet(UNet):
    """The same with partial convolutions: each is divided by how much of its window is visible, and shrinks holes."""

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits; `visible` (B, 1, H, W) bool, None for all."""
        mask = torch.ones_like(images) if visible is None else visible.to(images.dtype).expand_as(images)
        fine = self._block(self.first, images, mask)
        middle = self._block(self.second, *(F.max_pool2d(each, 2) for each in fine))
        coarse = self._block(self.third, *(F.max_pool2d(each, 2) for each in middle))
        middle = self._block(self.join_second, *self._join(middle, coarse))
        return self.head(self._block(self.join_first, *self._join(fine, middle))[0])

    @staticmethod
    def _join(skip: tuple[Tensor, Tensor], below: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
        return (torch.cat([a, F.interpolate(b, scale_factor=2)], 1) for a, b in zip(skip, below, strict=True))

    def _block(self, layers: nn.Sequential, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                seen = F.avg_pool2d(mask.mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
                known = (seen > 0).to(mask.dtype)
                features = layer(features * mask) / seen.clamp(min=1e-6) * known
                mask = known.expand_as(features)
            elif isinstance(layer, nn.BatchNorm2d):
                features = self._norm(layer, features, known) * known
            else:
                features = layer(features)
        return features, mask

    @staticmethod
    def _norm(norm: nn.BatchNorm2d, features: Tensor, known: Tensor) -> Tensor:
        """Batch norm over the positions that are known."""
        if not norm.training:
            return norm(features)
        number = known.sum().clamp(min=1)
        mean = (features * known).sum((0, 2, 3)) / number
        variance = ((features - mean[:, None, None]) ** 2 * known).sum((0, 2, 3)) / number
        with torch.no_grad():
            for kept, new in ((norm.running_mean, mean), (norm.running_var, variance)):
                kept.lerp_(new.detach(), 0.1)
        scale = norm.weight / (variance + norm.eps).sqrt()
        return (features - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


class PartialSegmenter(MaskRobustSegmenter):
    """Trains a network that takes `visible` itself."""

    def _with_layer_masking(self, network: nn.Module, *, required: bool) -> nn.Module:
        return network

    def _answer(self, images: Tensor, visible: Tensor | None) -> Tensor:
        found: Tensor = self.network(self._normalise(images), visible)
        return found


class PartialNetwork(SegmentationNetwork):
    """One that is asked with `visible` itself under each way of hiding that is no fill."""

    def _network_for(self, method: str) -> nn.Module:
        return self.network


def train(arm: str, seed: int, data: Batch) -> SegmentationNetwork:
    """A network of an arm."""
    torch.manual_seed(seed)
    kind, network = (PartialSegmenter, PartialUNet()) if arm == PARTIAL else (MaskRobustSegmenter, UNet())
    options = {"learning_rate": 4e-3, "weight_decay": 1e-3, "seed": seed, **COLOURS, **ARMS[arm]}
    learner = kind(network, CLASSES, **options)
    samples = [data.select(each) for each in range(TRAINED)]
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(samples, BATCH, shuffle=True, drop_last=True, generator=order, collate_fn=collate)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=STEPS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(learner, loader)
    if arm == PARTIAL:
        return PartialNetwork(arm, learner.network, Preprocessing(**COLOURS), CLASSES)
    return learner.trained_network(arm)


def counted(out: Path, arm: str, seed: int, data: list[Batch]) -> dict[tuple[str, float], PixelCounts]:
    """The pixels of a trained network, by way of hiding and hidden fraction, from its file where there is one."""
    path = out / f"{arm}-{seed}.npz"
    methods = ("layer_masking",) if arm == PARTIAL else METHODS
    keys = [(method, fraction) for fraction in (0.0, HIDDEN) for method in (*methods, "")]
    if not path.is_file():
        network = train(arm, seed, data[0])
        found = [count_pixels({arm: network}, methods, (0.0, HIDDEN), each) for each in data[1:]]
        arrays: dict[str, Any] = {
            str(n): np.concatenate([each[arm, method, fraction] for each in found])
            for n, (method, fraction) in enumerate(keys)
        }
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, **arrays)
        path.with_suffix(".part").rename(path)
        print(f"{path.stem} done", flush=True)
    ids = np.arange(TESTED)
    with np.load(path) as arrays_of:
        named = {key: PixelCounts(ids, ids, arrays_of[str(n)]) for n, key in enumerate(keys)}
    return {(PARTIAL if arm == PARTIAL and method else method, each): of for (method, each), of in named.items()}


def main() -> None:
    """Train and test what is missing, then write rows.csv and primary.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    test = tiles(TESTED, 2, 10**6)
    data = [tiles(TRAINED, 1, 0), *(test.select(slice(start, start + 32)) for start in range(0, TESTED, 32))]
    by_arm: dict[str, list[dict[tuple[str, float], PixelCounts]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS:
        for arm in ARMS:
            by_arm[arm].append(counted(out, arm, seed, data))
    rows = []
    for arm, runs in by_arm.items():
        for method, fraction in runs[0]:
            for distance in (ANYWHERE, *BANDS) if fraction else (ANYWHERE,):
                if method or fraction:
                    of: Any = [each[method, fraction].within(distance) for each in runs]
                    found = estimate(pixel_iou() if method else changed_by_paint(), of)
                    kind = "iou" if method else "changed_by_paint"
                    rows.append((arm, method, fraction, distance, kind, found.value, found.low, found.high))
    write(out / "rows.csv", ("trained", "tested", "hidden", "distance", "measure", "value", "low", "high"), rows)
    primary = []
    for (arm, method), (other, against), fraction, distance in PRIMARY:
        pair: Any = [
            [run[way, fraction].within(distance) for run in by_arm[name]]
            for name, way in ((arm, method), (other, against))
        ]
        with_error = estimate_pair(pixel_iou(), *pair)[1]
        assert with_error is not None
        primary.append(
            (arm, method, other, against, fraction, distance, *with_error[0].interval(1 - 0.05 / len(PRIMARY)))
        )
    write(
        out / "primary.csv",
        ("trained", "tested", "minus", "under", "hidden", "distance", "value", "low", "high"),
        primary,
    )


def write(path: Path, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Write a table, and print it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    sys.stdout.write(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
