"""Does layer masking help a network that returns maps? A small U-Net on generated scenes with no-data regions.

    python docs/dense_holes.py --seeds 5 --out dense_holes.json

Each scene holds four shapes of random colours on a textured ground; the U-Net says of each pixel whether it belongs to
the ground, a disc, a square or a triangle. A quarter to a half of each scene is no data: irregular regions, whose place
says nothing of the shapes. Six ways to present these regions are compared, each with a U-Net that was trained on whole
scenes and with one that was trained with holes presented in that way. The error is the fraction of wrong pixels, among
visible ones alone, by the coverage of what the network reads there. Seeded, and on one core. The same command goes on
with the seeds that --out lacks; the table is printed, and written beside it as Markdown.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor, nn

from maskrobust import LayerMasking, apply_fill, sample_keys
from maskrobust.train.storage.files import write_text

SIZE, BATCH = 48, 16
CLASSES = ("ground", "disc", "square", "triangle")
METHODS = ("layer masking, mean", "layer masking, mirror", "black", "mean colour", "inpainting", "exemplar")
BINS = {"0 to 0.6": (0.0, 0.6), "0.6 to 0.8": (0.6, 0.8), "0.8 to 1": (0.8, 1.0), "all": (0.0, 1.1)}
MEAN = (0.5, 0.5, 0.5)

Errors = dict[str, dict[str, dict[str, float]]]
"""By training, by method, by coverage."""


def draw_scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) float32 in [0, 1], and the class of each pixel (N, H, W) int64."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    images, labels = np.empty((count, 3, SIZE, SIZE), np.float32), np.zeros((count, SIZE, SIZE), np.int64)
    for image, label in zip(images, labels, strict=True):
        image[...] = _texture(rng)
        for shape in rng.integers(1, len(CLASSES), 4):
            down, across, radius = rng.uniform(8, SIZE - 8), rng.uniform(8, SIZE - 8), rng.uniform(5, 9)
            v, u = y - down, x - across
            inside = {
                1: u**2 + v**2 < radius**2,
                2: np.maximum(abs(u), abs(v)) < 0.886 * radius,  # all of one area
                3: (v < 0.9 * radius) & (v > 2 * abs(u) - 1.6 * radius),
            }[int(shape)]
            image[:, inside] = _texture(rng)[:, inside]
            label[inside] = shape
    return torch.from_numpy(images), torch.from_numpy(labels)


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random colour with smooth noise."""
    noise = ndimage.gaussian_filter(rng.standard_normal((3, SIZE, SIZE)), (0, 1, 1))
    return (rng.uniform(0.1, 0.9, (3, 1, 1)) + 0.25 * noise).clip(0, 1).astype(np.float32)


def draw_visible(count: int, seed: int) -> Tensor:
    """(N, 1, H, W) bool: smooth noise below its quantile is no data, a quarter to a half of each scene."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((count, SIZE, SIZE)), (0, 5, 5))
    limits = [np.quantile(each, rng.uniform(0.25, 0.5)) for each in noise]
    return torch.from_numpy(noise > np.array(limits)[:, None, None])[:, None]


class UNet(nn.Module):
    """Two levels down and up again; reads 44 x 44 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _block(3, 16), _block(16, 32), _block(32, 32)
        self.join_second, self.join_first = _block(64, 32), _block(48, 16)
        self.head = nn.Conv2d(16, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each pixel, (B, classes, H, W)."""
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        second = self.join_second(torch.cat([second, F.interpolate(third, scale_factor=2)], 1))
        return self.head(self.join_first(torch.cat([first, F.interpolate(second, scale_factor=2)], 1)))


def _block(channels: int, made: int) -> nn.Sequential:
    layers = [
        (nn.Conv2d(each, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()) for each in (channels, made)
    ]
    return nn.Sequential(*(layer for group in layers for layer in group))


def present(method: str, images: Tensor, visible: Tensor) -> Tensor:
    """Images as a network gets them under a method, normalised; what layer masking hides is 0."""
    fills = {"black": "black", "mean colour": "mean", "inpainting": "inpainting", "exemplar": "exemplar"}
    if method not in fills:
        return (images - 0.5).where(visible, 0.0)
    keys = sample_keys(0, torch.arange(len(images)))
    return apply_fill(fills[method], images, visible, keys=keys, mean=MEAN) - 0.5


def under(method: str, network: nn.Module) -> nn.Module | None:
    """The network under layer masking; None for fills."""
    if not method.startswith("layer masking"):
        return None
    return LayerMasking(network, padding="mirror" if method.endswith("mirror") else "mean")


def train(
    images: Tensor, labels: Tensor, seed: int, steps: int, method: str = "", visible: Tensor | None = None
) -> UNet:
    """A U-Net trained on whole scenes, or with holes presented by a method; every second scene keeps none."""
    torch.manual_seed(seed)
    network = UNet()
    masked = under(method, network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        index = torch.randint(len(images), (BATCH,))
        shown, target = images[index], labels[index]
        if visible is not None:
            seen = visible[index]
            target = target.masked_fill(~seen[:, 0], 255)
        maps = network(shown) if masked is None or visible is None else masked(shown, seen)
        loss = F.cross_entropy(maps, target, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def errors(network: UNet, method: str, shown: Tensor, labels: Tensor, visible: Tensor) -> dict[str, float]:
    """The fraction of visible pixels that the network gets wrong, by coverage."""
    masked = under(method, network)
    maps = network(shown) if masked is None else masked(shown, visible)
    coverage = LayerMasking(network).coverage(visible)[:, 0]
    is_wrong = maps.argmax(1) != labels
    return {
        name: float(is_wrong[visible[:, 0] & (coverage >= least) & (coverage < most)].float().mean())
        for name, (least, most) in BINS.items()
    }


def run(seed: int, steps: int, scenes: int) -> Errors:
    """Errors of one seed: by training, by method, by coverage."""
    images, labels = draw_scenes(scenes, 10 * seed)
    test_images, test_labels = draw_scenes(scenes // 2, 10 * seed + 1)
    visible, test_visible = draw_visible(scenes, 10 * seed + 2), draw_visible(scenes // 2, 10 * seed + 3)
    visible[::2] = True
    plain = train(images - 0.5, labels, seed, steps)
    is_wrong = plain(test_images - 0.5).argmax(1) != test_labels
    found: Errors = {"trained on whole scenes": {}, "trained with holes": {}}
    found["trained on whole scenes"]["nothing hidden"] = {"all": float(is_wrong.float().mean())}
    for method in METHODS:
        shown = present(method, test_images, test_visible)
        robust = train(present(method, images, visible), labels, seed, steps, method, visible)
        found["trained on whole scenes"][method] = errors(plain, method, shown, test_labels, test_visible)
        found["trained with holes"][method] = errors(robust, method, shown, test_labels, test_visible)
        print(f"seed {seed}, {method}: {found['trained with holes'][method]['all']:.3f}", flush=True)
    return found


def table(results: Sequence[Errors]) -> str:
    """Mean error over seeds, and the difference from black with its 95 % confidence interval, paired by seed."""
    lines = [
        "| training | method | coverage | error (%) | difference from black (percentage points) |",
        "|---|---|---|---|---|",
    ]
    for training, methods in results[0].items():
        for method, by_coverage in methods.items():
            for name in by_coverage:
                values = 100 * np.array([each[training][method][name] for each in results])
                difference = ""
                if method in METHODS and method != "black":
                    against = values - 100 * np.array([each[training]["black"][name] for each in results])
                    count = len(results)
                    half = (
                        stats.t.ppf(0.975, count - 1) * against.std(ddof=1) / math.sqrt(count) if count > 1 else np.nan
                    )
                    difference = f"{against.mean():+.1f} ± {half:.1f}"
                lines.append(f"| {training} | {method} | {name} | {values.mean():.1f} | {difference} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--steps", type=int, default=150, help="training steps of each network")
    parser.add_argument("--scenes", type=int, default=512, help="training scenes; half as many are tested on")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of all errors")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = {"steps": options.steps, "scenes": options.scenes}
    results = read(options.out, settings)
    for seed in range(len(results), options.seeds):
        results.append(run(seed, options.steps, options.scenes))
        write_text(options.out, json.dumps({**settings, "seeds": results}, indent=1))
    found = table(results[: options.seeds])
    write_text(options.out.with_suffix(".md"), found + "\n")
    print(found)


def read(path: Path, settings: Mapping[str, int]) -> list[Errors]:
    """The errors of the seeds that an earlier call has measured; none where there is no file.

    Raises:
        SystemExit: it was made with other settings.
    """
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if any(found[name] != value for name, value in settings.items()):
        raise SystemExit(f"'{path}' was made with other steps or scenes than {settings}; give another --out.")
    return list(found["seeds"])


if __name__ == "__main__":
    main()
