"""The study of docs/own-holes.md on photographs of garments: which training keeps a network from following holes.

    python docs/studies/own_holes.py runs/own_holes

Fashion-MNIST's pullovers, dresses, coats and shirts (chance: 25 %), dark on a light ground, 28 px. A hole hides about a
tenth of a picture. In a fraction of the pictures, the dose, it goes with the class: by its shape (disc, bar, triangle,
cross; anywhere), by its place (one of four quarters; any shape), or by its presence (dresses and shirts have one,
pullovers and coats have none). In the other pictures it is that of a random class.

Each training of a small ResNet, one of `ARMS`, sees 2,000 pictures. The network then names 1,000 others with their own
holes, with those of other pictures drawn at random ("exchanged"), and with none, in the way of its training and by
layer masking. What the holes hide is known here, so that nothing is inpainted. In a first trial holes of other pictures
helped more in all training pictures than in half of them, so the planned trainings have them in all.

Planned before any training of seeds 0 to 5, after a look at seed 99 to time it: `PLAN`, for each of shape, place and
presence at dose 0.9, in accuracy with exchanged holes, paired by seed, by Student's t with Holm's correction over all
15. Everything else is described and not tested: the trainings that no planned comparison names, dose 0 of the shape, a
control, and holes of other pictures in half of the training pictures. EfficientNet-Lite0 on stamps over photographs is
not part of this study. `PASSES` are run in turn. If the time does not suffice, the last trainings are missing, whatever
the first ones show. Rows that are there stay, so that the same command goes on after an interruption; own_holes.md gets
the tables. On one core.

The first plan had 3,000 pictures and 8 epochs. It was halved for time after two trainings of seed 0, of which no number
was looked at.
"""

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment import Batch, HoleBank
from maskrobust.lm_modules.callbacks.holes_tell import LOOKED_AT
from maskrobust.lm_modules.reliance.hole_reader import read_holes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data.base import InMemoryDataModule, drawn_batch
from maskrobust.train.data_options import Split

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "scripts" / "drawing"))
from fashion import OfficialSplit, find_files, read_garments
from pretraining_study import holm, interval, trainer

from tiles import draw_gap

GARMENTS = {2: "pullover", 3: "dress", 4: "coat", 6: "shirt"}
"""Names by Fashion-MNIST's numbers."""

SIDE, PATCH_SIZE, EPOCHS = 28, 7, 6
COUNTS: Mapping[Split, int] = {"train": 2000, "test": 1000}
PATCHES, EXCHANGED, HALF = {"mask_probability": 0.3}, {"exchange_holes": 1.0}, {"exchange_holes": 0.5}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "whole": {"masking": "none"},
    "black, patches": {"masking": "fill", **PATCHES},
    "black, exchanged": {"masking": "fill", **EXCHANGED},
    "black, patches, exchanged": {"masking": "fill", **PATCHES, **EXCHANGED},
    "layers": {"masking": "layer_masking"},
    "layers, patches": {"masking": "layer_masking", **PATCHES},
    "layers, exchanged": {"masking": "layer_masking", **EXCHANGED},
    "black, half exchanged": {"masking": "fill", **HALF},
    "layers, half exchanged": {"masking": "layer_masking", **HALF},
}
"""Trainings: on pictures without holes, or with holes painted black or hidden by layer masking, with random patches or
holes of other pictures beside them."""

KINDS = (("shape", 0.9), ("place", 0.9), ("presence", 0.9))
"""What of a hole goes with the class, and in which fraction of the pictures."""

_PLANNED = ("black, patches", "black, exchanged", "black, patches, exchanged", "layers", "layers, exchanged")
PASSES = (
    (6, tuple((*kind, _PLANNED) for kind in KINDS)),
    (6, (*((*kind, ("whole", "layers, patches")) for kind in KINDS), ("shape", 0.0, ("black, patches", "layers")))),
    (3, tuple((*kind, ("black, half exchanged", "layers, half exchanged")) for kind in KINDS)),
)
"""Number of seeds, and what is trained for each."""

PLAN = (
    ("layers", "layers", "black, patches", "black"),
    ("layers", "layers", "black, exchanged", "black"),
    ("layers", "layers", "black, patches, exchanged", "black"),
    ("layers, exchanged", "layers", "black, exchanged", "black"),
    ("layers, exchanged", "layers", "black, exchanged", "layers"),
)
"""Comparisons: a training and how it is tested, minus another one and how that is tested."""

COLUMNS, HOLES = ("kind", "seed", "training", "tested", "holes", "percent"), ("own", "exchanged", "none")
READER = "reader of holes alone"
"""Its rows: by what it tells classes, and of how many pairs of training pictures it says whose hole is whose."""


class Garments(InMemoryDataModule):
    """Pictures with holes of one kind; labels count `GARMENTS`.

    Args:
        kind: "shape", "place" or "presence".
        dose: fraction of the pictures in which that goes with the class.
        seed: decides pictures, holes and the training order.
        with_holes: whether pictures have their holes.
    """

    num_classes, class_names = len(GARMENTS), tuple(GARMENTS.values())
    mean, std = (0.6, 0.6, 0.6), (0.35, 0.35, 0.35)

    def __init__(self, kind: str, dose: float, seed: int, *, with_holes: bool = True) -> None:
        super().__init__(64, 0, seed)
        self.kind, self.dose, self.with_holes = kind, dose, with_holes

    @property
    def splits(self) -> tuple[Split, ...]:
        """Nothing is chosen by a validation."""
        return tuple(COUNTS)

    def ids(self, split: Split) -> Tensor:
        """Numbers from 0; the test's from 60,000."""
        return torch.arange(COUNTS[split]) + 60_000 * (split == "test")

    def make_samples(self, split: Split, ids: Tensor) -> Batch:
        """The pictures of a split, and their holes as pixels without data."""
        official: OfficialSplit = "test" if split == "test" else "train"
        garments, numbers = read_garments(find_files(None), official)
        generator = np.random.default_rng([self.seed, len(official)])
        chosen = generator.permutation(np.flatnonzero(np.isin(numbers, list(GARMENTS))))[: len(ids)]
        labels = np.searchsorted(list(GARMENTS), numbers[chosen])
        pictures = np.repeat(255 - garments[chosen][..., None], 3, axis=3)
        holes = np.stack([draw_hole(generator, self.kind, self.dose, int(label)) for label in labels])
        batch = drawn_batch(ids, pictures, np.zeros(holes.shape, np.bool_), torch.from_numpy(labels))
        return batch._replace(visible=torch.from_numpy(~holes)[:, None] if self.with_holes else None)


def draw_hole(generator: np.random.Generator, kind: str, dose: float, label: int) -> NDArray[np.bool_]:
    """A hole (28, 28), True inside, which goes with the class by its kind in a fraction of the pictures, the dose."""
    told = label if generator.random() < dose else int(generator.integers(len(GARMENTS)))
    shape = told if kind == "shape" else int(generator.integers(4))
    radius = generator.uniform(0.16, 0.21) * SIDE
    if kind == "place":
        centre = SIDE / 2 + SIDE / 6 * np.array([2 * (told % 2) - 1, 2 * (told // 2) - 1]) + generator.uniform(-2, 2, 2)
    else:
        centre = SIDE / 2 + generator.uniform(-SIDE / 5, SIDE / 5, 2)
    return draw_gap(shape, SIDE, centre, radius) & (kind != "presence" or told % 2 == 1)


def train(arm: str, data: Garments) -> MaskRobustClassifier:
    """A network after one of `ARMS`."""
    pl.seed_everything(data.seed, verbose=False)
    options = {"mask_probability": 0.0, "hidden_fraction": (0.1, 0.5), "patch_size": PATCH_SIZE, **ARMS[arm]}
    model = MaskRobustClassifier(
        "small_resnet", len(GARMENTS), mean=data.mean, std=data.std, seed=data.seed, fill="black",
        optimiser="adamw", learning_rate=0.003, weight_decay=0.02, **options,
    )  # fmt: skip
    trainer(EPOCHS).fit(model, datamodule=data)
    return model.eval()


@torch.no_grad()
def accuracies(model: MaskRobustClassifier, data: Garments) -> dict[tuple[str, str], float]:
    """Percent right by the way of hiding and the holes."""
    batch = data.samples("test").to("cpu")
    other = torch.from_numpy(np.random.default_rng([data.seed, 9]).permutation(len(batch.ids)))
    holes = {"own": batch.known, "exchanged": batch.known[other], "none": torch.ones_like(batch.known)}
    found = {}
    for name, visible in holes.items():
        for way in ("black", "layers"):
            answers = [
                (model(images * seen) if way == "black" else model(images, seen)).argmax(dim=1)
                for images, seen in zip(batch.images.split(250), visible.split(250), strict=True)
            ]
            found[way, name] = 100 * (torch.cat(answers) == batch.labels).double().mean().item()
    return found


def holes_tell(data: Garments) -> tuple[str, float]:
    """By what the holes of the training pictures tell the class, and of how many pairs, in percent; 50 is blind."""
    bank = HoleBank.from_batches([data.samples("train").select(slice(LOOKED_AT))])
    assert bank is not None
    holes = read_holes(bank)
    return " and ".join(holes.telling), 100 * (holes.readings["everything"].order.value or 0.0)


def run(seed: int, trainings: Sequence[tuple[str, float, Sequence[str]]], rows: Path) -> None:
    """Train and test for a seed what is missing of kind, dose and `ARMS`, and append it to the rows."""
    there = {(row["kind"], row["training"]) for row in read(rows) if row["seed"] == str(seed)}
    whole = None
    for kind, dose, arms in trainings:
        data, name = Garments(kind, dose, seed), f"{kind} {dose}"
        if (name, READER) not in there:
            by, order = holes_tell(data)
            append(rows, [(name, seed, READER, by, "own", order)])
        for arm in (arm for arm in arms if (name, arm) not in there):
            began = time.process_time()
            if arm == "whole":  # the same pictures, whatever their holes
                network = whole = whole or train(arm, Garments(kind, dose, seed, with_holes=False))
            else:
                network = train(arm, data)
            print(name, seed, arm, f"{time.process_time() - began:.1f} s", flush=True)
            append(rows, [(name, seed, arm, *where, value) for where, value in accuracies(network, data).items()])


def read(rows: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each by `COLUMNS`; none where there is no file yet."""
    if not rows.exists():
        return []
    with rows.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def append(rows: Path, found: Sequence[tuple[object, ...]]) -> None:
    """Append to a CSV file, which is begun where it is missing."""
    begins = not rows.exists()
    with rows.open("a", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([COLUMNS] * begins)
        table.writerows((*each[:-1], f"{each[-1]:.2f}") for each in found)


def tables(rows: Sequence[Mapping[str, str]]) -> str:
    """Mean and range over seeds, and the planned comparisons."""
    found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        found[row["kind"], row["training"], row["tested"], row["holes"]][row["seed"]] = float(row["percent"])
    lines = [
        "| holes, dose | trained with | tested with | seeds | own | exchanged | none |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, training, tested, _ in (key for key in found if key[3] == "own"):
        values = [
            [*found[kind, training, tested, holes].values()] for holes in HOLES if training != READER or holes == "own"
        ]
        cells = [f"{np.mean(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in values] + [""] * (
            3 - len(values)
        )
        lines.append(f"| {kind} | {training} | {tested} | {len(values[0])} | {' | '.join(cells)} |")
    differences = {}
    for kind, dose in KINDS:
        for training, way, other, other_way in PLAN:
            one, two = (found[f"{kind} {dose}", *each, "exchanged"] for each in ((training, way), (other, other_way)))
            seeds = sorted(one.keys() & two.keys())
            name = f"{kind}: {training} -> {way}, minus {other} -> {other_way}"
            differences[name] = np.array([one[seed] - two[seed] for seed in seeds])
    lines += ["", "| planned comparison | seeds | difference (points) | p by Holm |", "|---|---|---|---|"]
    adjusted = holm(differences)
    for name, each in differences.items():
        mean, half = interval(each)
        lines.append(f"| {name} | {len(each)} | {mean:+.1f} ± {half:.1f} | {adjusted[name]:.2g} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and test what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of own_holes.csv and own_holes.md")
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    rows = options.out / "own_holes.csv"
    for count, trainings in PASSES:
        for seed in range(0 if options.table else count):
            run(seed, trainings, rows)
    (options.out / "own_holes.md").write_text(tables(read(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
