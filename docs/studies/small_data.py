"""The study of docs/research-training.md: what training with holes brings when there are three hundred images.

    python docs/studies/small_data.py runs/small_data --weights lite0.safetensors

Photographs of objects (Debian's package tuxpaint-stamps-default) on photographs of scenes, of 112 px, in nine classes.
Each seed splits the objects anew: about 290 are shown once, to train on and, a sixth of them, to say when to stop; the
other 190 are tested on, in two pictures each. `small_folder.yaml` trains EfficientNet-Lite0 from its ImageNet
weights, its last two stages and the head, in three ways; `maskrobust evaluate --quick` asks each network with
none, a quarter and half of the patches hidden, under the mean colour and under layer masking. Data, runs and
evaluations that are there already stay, so that the same command goes on after an interruption; at the end
small_data.md has the table. On one core.
"""

import argparse
import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch
from cutouts import Cutouts, find_cutouts
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from maskrobust.train.cli import main as maskrobust

IMAGE_SIZE, PATCH_SIZE, TEST_VIEWS = 112, 16, 2
CLASSES = {
    "mammals": ("animals/mammals", "animals/marsupials"),
    "birds": ("animals/birds",),
    "insects": ("animals/insects",),
    "food": ("food",),
    "plants": ("plants",),
    "vehicles": ("vehicles",),
    "clothes": ("clothes",),
    "household": ("household",),
    "buildings": ("town/houses", "town/monuments"),
}
"""Folders of Debian's package by class."""

FRACTIONS = (0.25, 0.5)
MEASURES = ("clean_accuracy", *(f"hidden_fraction={each}" for each in FRACTIONS))
ARMS = {
    "no masks": ["--config", "overlays/no_masks.yaml"],
    "mask augmentation": ["--config", "overlays/mask_augmentation.yaml"],
    "layer masking": [],
}
METHODS = {"mean": "mean colour", "layer_masking": "layer masking"}
REFERENCE = "no masks", "mean"
"""What the differences are from: a network that has seen no hole, with holes in the mean colour."""

Accuracies = dict[tuple[str, str], list[float]]
"""By arm and method: nothing, a quarter and half hidden."""


def write_images(folder: Path, seed: int) -> None:
    """The pictures of one seed, in folder/SPLIT/CLASS/ID.png."""
    stamps = find_cutouts(None)
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("file", "class"))
        for name, folders in CLASSES.items():
            for path in sorted(path for each in folders for path in (stamps / each).rglob("*.png")):
                rows.writerow((path.relative_to(stamps), name))
    for split, views in {"train": 1, "val": 1, "test": TEST_VIEWS}.items():
        data = Cutouts(
            classes=folder / "classes.csv",
            training_objects="split",
            views=views,
            image_size=IMAGE_SIZE,
            seed=seed,
        )
        samples = data.samples(split)
        for name, image, label in zip(samples.ids.tolist(), samples.images, samples.labels.tolist(), strict=True):
            path = folder / split / data.class_names[label] / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


def run(out: Path, seed: int, model: Sequence[str], epochs: int) -> Accuracies:
    """Data, trainings and the evaluation of one seed, each only where it is not there."""
    images = out / f"images-{seed}"
    if not images.exists():
        part = out / f".images-{seed}"
        part.mkdir(exist_ok=True)
        write_images(part, seed)
        part.rename(images)
    names = []
    for arm, overlay in ARMS.items():
        name = f"{arm.replace(' ', '_')}-{seed}"
        versions = out / "runs" / name
        if not any(versions.glob("*/finished")):
            maskrobust([
                *("fit", "--config", "small_folder.yaml", *overlay, "--run_name", name),
                *(f"--seed_everything={seed}", f"--model.seed={seed}", f"--data.init_args.seed={seed}"),
                *(f"--trainer.max_epochs={epochs}", f"--trainer.default_root_dir={out / 'runs'}"),
                *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
                *(f"--data.init_args.root={images}", f"--data.init_args.image_size={IMAGE_SIZE}"),
                *("--data.init_args.num_workers=0", f"--model.patch_size={PATCH_SIZE}", *model),
            ])  # fmt: skip
            newest = max(versions.iterdir(), key=lambda version: int(version.name.removeprefix("version_")))
            (newest / "finished").touch()  # earlier ones were killed
        (finished,) = versions.glob("*/finished")
        names.append(str(finished.with_name("checkpoints") / "best.ckpt"))
    found = out / f"evaluation-{seed}" / "reliance.csv"
    if not found.exists():
        maskrobust([
            *("evaluate", "--network", f"[{', '.join(names)}]", "--methods", f"[{', '.join(METHODS)}]", "--quick"),
            *("--data", "Folder", f"--data.root={images}", f"--data.image_size={IMAGE_SIZE}", "--data.num_workers=0"),
            *(f"--plan.patch_size={PATCH_SIZE}", f"--plan.hidden_fractions={list(FRACTIONS)}"),
            *(f"--out={found.parent}", "--device=cpu"),
        ])  # fmt: skip
    return read_accuracies(found, dict(zip(names, ARMS, strict=True)))


def read_accuracies(path: Path, arms: Mapping[str, str]) -> Accuracies:
    """The accuracies in a reliance.csv; `arms` by the network's name."""
    found: Accuracies = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            measure = row["parameters"] if row["measure"] == "retention" else row["measure"]
            if measure in MEASURES and not row["compared_with"]:
                values = found.setdefault((arms[row["network"]], row["method"]), [math.nan] * len(MEASURES))
                values[MEASURES.index(measure)] = float(row["value"])
    return found


def table(results: Sequence[Accuracies]) -> str:
    """Mean accuracy over seeds, and the difference from `REFERENCE` with its 95 % interval, paired by seed."""
    lines = [
        "| training | holes are presented in | patches hidden | accuracy (%) | difference (percentage points) |",
        "|---|---|---|---|---|",
    ]
    for arm, method in results[0]:
        for place, hidden in enumerate(("none", "a quarter", "half")):
            values, reference = (
                100 * np.array([each[key][place] for each in results]) for key in ((arm, method), REFERENCE)
            )
            difference = "" if (arm, method) == REFERENCE else interval(values - reference)
            lines.append(f"| {arm} | {METHODS[method]} | {hidden} | {values.mean():.1f} | {difference} |")
    return "\n".join(lines)


def interval(differences: NDArray[np.float64]) -> str:
    """Mean and half of its 95 % interval by Student's t, as text; without an interval for one seed."""
    count, mean = len(differences), round(differences.mean(), 1) + 0.0  # no -0.0
    if count < 2:
        return f"{mean:+.1f}"
    half = stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / math.sqrt(count)
    return f"{mean:+.1f} ± {half:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data, train, evaluate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of data, runs, evaluations and small_data.md")
    parser.add_argument("--weights", help="of timm's tf_efficientnet_lite0, a file")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=8, help="of each training, at most")
    parser.add_argument("--model", help="options of fit, in place of EfficientNet-Lite0 with its weights")
    options = parser.parse_args(arguments)
    if (options.weights is None) == (options.model is None):
        parser.error("one of --weights and --model must be given")
    model = shlex.split(options.model or "") or [
        *("--model.architecture=timm/tf_efficientnet_lite0", f"--model.weights={Path(options.weights).resolve()}"),
        *("--data.init_args.mean=[0.498, 0.498, 0.498]", "--data.init_args.std=[0.502, 0.502, 0.502]"),
        *("--model.trainable=[blocks.5, blocks.6, conv_head, bn2, classifier]", "--model.learning_rate=0.0003"),
    ]
    torch.set_num_threads(1)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with chdir(out):
        results = [run(out, seed, model, options.epochs) for seed in range(options.seeds)]
    (out / "small_data.md").write_text(table(results) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
