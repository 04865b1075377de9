"""Masked pre-training on solar cells, the table of docs/research-pretraining.md.

    python docs/studies/solar_cells.py runs/solar_cells --cells FOLDER

FOLDER is that of the elpv-dataset (PyPI) with labels.csv and images. A cell counts as defective where its label says so
with a probability above one half. Pictures are 64 px. Each seed keeps 500 cells for the test, pre-trains a small_resnet
on all pictures without labels, and fine-tunes it, or one with random weights, on 50, 200 and all other labelled cells.
The number is the area under the ROC curve (chance: 50 %). One file for each seed; those that are there stay, so that
the same command goes on after an interruption. On one core.
"""

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.data.sets.folder import Folder
from maskrobust.train.data.sets.images import Images

sys.path.append(str(Path(__file__).parent))
from pretraining_study import Numbers, holm, interval, trainer

IMAGE_SIZE, PATCH_SIZE, TESTED = 64, 8, 500
CLASSES = ("0 intact", "1 defective")
LABELLED = {50: 60, 200: 25, None: 8}
"""Number of labelled cells, None for all, and epochs of fine-tuning."""

COLOURS: dict[str, tuple[float, float, float]] = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def read_cells(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 64, 64), and labels (N,): 1 where defective."""
    lines = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
    pictures = [cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE) for name, *_ in lines]
    small = [cv2.resize(each, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA) for each in pictures]
    return np.stack(small), np.array([float(line[1]) > 0.5 for line in lines], dtype=np.int64)


def write_pictures(folder: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write pictures as FOLDER/CLASS/NUMBER.png."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        cv2.imwrite(str(folder / CLASSES[label] / f"{index}.png"), picture)


def pretrained(folder: Path, seed: int, epochs: int) -> nn.Module:
    """small_resnet after pre-training on all pictures below a folder."""
    pl.seed_everything(seed, verbose=False)
    network = build_network("small_resnet", len(CLASSES))
    module = MaskedPretraining(
        network, len(CLASSES), patch_size=PATCH_SIZE, decoder_width=16, learning_rate=2e-3, seed=seed, **COLOURS
    )
    trainer(epochs).fit(
        module, datamodule=Images(str(folder), image_size=IMAGE_SIZE, num_workers=0, seed=seed, **COLOURS)
    )
    return network


def tuned(network: nn.Module, folder: Path, seed: int, epochs: int) -> nn.Module:
    """The network after fine-tuning without masks on the labelled pictures of a folder."""
    pl.seed_everything(seed, verbose=False)
    model = MaskRobustClassifier(network, len(CLASSES), masking="none", seed=seed, **COLOURS)
    data = Folder(str(folder), image_size=IMAGE_SIZE, batch_size=16, num_workers=0, seed=seed, **COLOURS)
    trainer(epochs).fit(model, datamodule=data)
    return network.eval()


@torch.inference_mode()
def area(network: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """The area under the ROC curve."""
    mean, std = (torch.tensor(each)[:, None, None] for each in COLOURS.values())
    images = torch.from_numpy(pictures)[:, None].expand(-1, 3, -1, -1) / 255
    logits = torch.cat([network((each - mean) / std) for each in images.split(100)])
    return float(roc_auc_score(labels, (logits[:, 1] - logits[:, 0]).numpy()))


def run(out: Path, pictures: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, epochs: int) -> Numbers:
    """All numbers of one seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    test, others = order[:TESTED], order[TESTED:]
    write_pictures(out / "all", pictures, labels)
    pl.seed_everything(seed, verbose=False)
    starts = {
        "random weights": build_network("small_resnet", len(CLASSES)),
        "pre-trained": pretrained(out / "all", seed, epochs),
    }
    found: Numbers = {}
    for count, tuning in LABELLED.items():
        some = others[:count]
        folder = out / f"{seed}-{len(some)}"
        for split, cells in {"train": some, "val": test}.items():
            write_pictures(folder / split, pictures[cells], labels[cells])
        for name, start in starts.items():
            network = tuned(copy.deepcopy(start), folder, seed, tuning)
            found[f"{name}, {len(some)} labels"] = area(network, pictures[test], labels[test])
    return found


def table(results: Sequence[Numbers]) -> str:
    """Areas in percent with 95 % intervals over seeds, and the paired differences, tested by Student's t with Holm."""
    of = {key: 100 * np.array([each[key] for each in results]) for key in results[0]}
    counts = [key.removeprefix("pre-trained, ") for key in of if key.startswith("pre-trained")]
    differences = {count: of[f"pre-trained, {count}"] - of[f"random weights, {count}"] for count in counts}
    adjusted = holm(differences)
    lines = ["| labelled cells | random weights | pre-trained | difference | p by Holm |", "|---|---|---|---|---|"]
    for count in counts:
        values = (of[f"random weights, {count}"], of[f"pre-trained, {count}"], differences[count])
        cells = ["{:.1f} ± {:.1f}".format(*interval(each)) for each in values]
        lines.append(f"| {count} | {' | '.join(cells)} | {adjusted[count]:.3g} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the seeds that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--cells", type=Path, required=True, help="folder of labels.csv and images")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=20, help="of the pre-training")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures, labels = read_cells(options.cells)
    results = []
    for seed in range(options.seeds):
        path = options.out / f"seed-{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(options.out, pictures, labels, seed, options.epochs)), encoding="utf-8")
        results.append(json.loads(path.read_text(encoding="utf-8")))
    (options.out / "solar_cells.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
