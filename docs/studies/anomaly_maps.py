"""The study of docs/detectors.md: PatchCore beside a region to ignore.

    python docs/studies/anomaly_maps.py OUT lite0.safetensors SEED...

runs each seed that has no OUT/SEED.json yet, and prints the table over all seeds in OUT.

PatchCore is that of the page, on maps of EfficientNet-Lite0 (weights as in docs/research-networks.md). Pictures are
crops of 128 px of scikit-image's brick, grass and gravel. The left half of a texture gives 12 normal pictures to
remember, and the right half 12 normal and 12 defective ones for the test. A defect is a disc, 24 px wide, of which 30 %
is scikit-image's coffee, a photograph in colour, and the rest the texture. A stamp of 32 x 64 px with random blocks
lies on every picture of the test, at least 4 px from the disc, and either on all normal pictures that are remembered or
on none of them.

The measure is the area under the ROC curve (AUROC) of the highest score of a picture (chance: 50 %). Under every method
the map is set to 0 at the stamp first. "No stamp" shows, over the same positions, that the defect can be found. A first
run with discs of coffee alone found all of them under every method (99.8 to 100 %), so 30 % was chosen by what "no
stamp" finds with seed 99. Planned before seeds 0 to 4 were run so: layer masking minus each other method, paired by
seed. Intervals of 95 % are Student's t over seeds of the mean over textures.
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from detector_regions import interval, run_seeds
from numpy.typing import NDArray
from safetensors.torch import load_file
from skimage import data
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

COUNT, SIDE, RADIUS, GAP, STRENGTH = 12, 128, 12, 4, 0.3
STAMP = slice(48, 80), slice(32, 96)
TEXTURES = ("brick", "grass", "gravel")
METHODS = ("no stamp", "stamp seen, map set to 0 there", "painted black", "painted in the mean colour", "layer masking")
COLOURS = {"painted black": 0.0, "painted in the mean colour": 0.498}
CONDITIONS = ("normal pictures without a stamp", "normal pictures with a stamp")


class Lite0(nn.Module):
    """Maps (B, 40, H / 8, W / 8) and (B, 112, H / 16, W / 16) of EfficientNet-Lite0, of images in [0, 1]."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.network = timm.create_model("tf_efficientnet_lite0")
        self.network.load_state_dict(load_file(path))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Both maps."""
        x = self.network.bn1(self.network.conv_stem((x - 0.498) / 0.502))
        fine = self.network.blocks[:3](x)
        return [fine, self.network.blocks[3:5](fine)]


def page_code(line: str) -> dict[str, Any]:
    """What the block of docs/detectors.md with this line defines."""
    page = (Path(__file__).parents[1] / "detectors.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(next(block for block in re.findall(r"(?ms)^```python\n(.*?)^```", page) if line in block), names)
    return names


def crop(photograph: NDArray[np.uint8], draws: np.random.Generator) -> NDArray[np.float64]:
    """(3, SIDE, SIDE) in [0, 1] of (H, W) or (H, W, 3)."""
    row, column = (draws.integers(0, side - SIDE + 1) for side in photograph.shape[:2])
    cropped = photograph[row : row + SIDE, column : column + SIDE] / 255
    return np.moveaxis(cropped, 2, 0) if cropped.ndim == 3 else np.repeat(cropped[None], 3, 0)


def add_defect(picture: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    """The picture with a disc of another one that does not touch the stamp."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    while True:
        row, column = draws.integers(RADIUS, SIDE - RADIUS, 2)
        distance = np.hypot(rows - row, columns - column)
        if distance[STAMP].min() > RADIUS + GAP:
            return picture + STRENGTH * (distance <= RADIUS) * (crop(data.coffee(), draws) - picture)


def draw(half: NDArray[np.uint8], draws: np.random.Generator, *, is_defective: bool = False) -> tuple[Tensor, Tensor]:
    """Pictures (COUNT, 3, SIDE, SIDE) in [0, 1] from half of a texture, without a stamp and with one."""
    plain = [crop(half, draws) for _ in range(COUNT)]
    if is_defective:
        plain = [add_defect(picture, draws) for picture in plain]
    stamped = np.stack(plain)
    stamped[:, :, *STAMP] = draws.random((COUNT, 3, 8, 16)).repeat(4, 2).repeat(4, 3)
    return torch.from_numpy(np.stack(plain)).float(), torch.from_numpy(stamped).float()


def run(patchcore: Any, network: nn.Module, seed: int) -> dict[str, list[float]]:
    """AUROC (%) of each method under each condition, by texture."""
    everything = torch.ones(COUNT, 1, SIDE, SIDE, dtype=torch.bool)
    outside = everything.clone()
    outside[:, 0, *STAMP] = False
    beside = F.avg_pool2d(outside.float(), 8)[:, 0] == 1
    coverage = patchcore(network).patches.coverage(outside[:1])

    def known_coverage(visible: Tensor) -> Tensor:
        """That of all masks of this study; to compute it anew takes most of the time."""
        return torch.where(visible.all(), 1.0, coverage).expand(len(visible), -1, -1, -1)

    found: dict[str, list[float]] = {}
    for number, texture in enumerate(TEXTURES):
        draws = np.random.default_rng([seed, number])
        photograph = getattr(data, texture)()
        normal = draw(photograph[:, :256], draws)
        tested = [draw(photograph[:, 256:], draws, is_defective=each) for each in (False, True)]
        for is_remembered, condition in enumerate(CONDITIONS):
            for method in METHODS[is_remembered:]:
                core, is_stamped = patchcore(network), method != "no stamp"
                core.patches.coverage = known_coverage
                visible = outside if method == "layer masking" else everything
                seen = partial(paint, outside=outside, colour=COLOURS.get(method))
                torch.manual_seed(seed)
                if is_remembered:
                    core.fit(seen(normal[1]), visible)
                else:
                    core.fit(normal[0], everything)
                maps = torch.cat([core.map(seen(each[is_stamped]), visible) for each in tested])
                scores = maps.masked_fill(~beside.repeat(2, 1, 1), 0.0).amax((1, 2))
                area = 100 * float(roc_auc_score([0] * COUNT + [1] * COUNT, scores))
                found.setdefault(f"{condition}: {method}", []).append(area)
    return found


def paint(pictures: Tensor, outside: Tensor, colour: float | None) -> Tensor:
    """The pictures with the stamp in one colour, or as they are."""
    return pictures if colour is None else pictures.where(outside, colour)


def main(folder: str, weights: str, *seeds: str) -> None:
    """Run the seeds that are missing, and print a row for each condition and method."""
    patchcore, network = page_code("class PatchCore")["PatchCore"], Lite0(weights).eval()
    done = run_seeds(folder, seeds, lambda seed: run(patchcore, network, seed))
    print(f"| condition: method | AUROC (%) | {' | '.join(TEXTURES)} | layer masking minus this |\n{'|---' * 6}|")
    for name in done[0] if len(done) > 1 else ():
        keys = name, f"{name.split(':')[0]}: layer masking"
        values, masked = (np.array([each[key] for each in done]) for key in keys)
        by_texture = " | ".join(f"{value:.0f}" for value in values.mean(0))
        print(f"| {name} | {interval(values.mean(1))} | {by_texture} | {interval((masked - values).mean(1))} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
