"""Tables of the study of doses, by its plan, and all its rows: python dose_response.py DIR ...

A folder for each stage, where `claim` has written, and of which the fill is read. Writes dose_response.csv beside this
file: each network under each way of hiding, as fractions.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats

FAMILIES = ("patches", "blobs", "silhouettes")
MEASURES = ("clean_accuracy", "retention", "shape_choice", "silhouette_accuracy", "circle_accuracy")
"""`retention` here is the accuracy with half of the patches hidden."""


def main(folders: list[Path]) -> None:
    """Print the tables and write the rows."""
    rows = [row for folder in folders for row in _stage(folder)]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["fill", "training", "tested", "seed", *MEASURES])
        writer.writerows(rows)


def _stage(folder: Path) -> Iterator[list[str | int]]:
    """Print the tables of one fill; its rows."""
    claim = json.loads((folder / "claim.json").read_text())
    seeds, arms = claim["seeds"], claim["arms"]
    (fill,) = (method for method in claim["methods"] if method != "layer_masking")
    of = {}  # measure, arm, method: values by seed
    for row in claim["rows"]:
        if row["measure"] in MEASURES and row["seed"] is not None and not row["compared_with"]:
            of.setdefault((row["measure"], row["network"], row["method"]), {})[row["seed"]] = row["value"]
    values = {key: np.array([found[seed] for seed in seeds]) for key, found in of.items()}
    growth = {arm: _growth(folder, arm, seeds) for arm in arms}

    tested = (fill, "layer masking")
    columns = [
        "training",
        *(f"choices, {each}" for each in tested),
        "clean",
        *(f"half hidden, {each}" for each in tested),
    ]
    print(f"\n| {' | '.join(columns)} | growth |\n|{'---|' * 7}")
    for arm, settings in arms.items():
        cells = [_interval(values["shape_choice", arm, method]) for method in (fill, "layer_masking")]
        cells += [f"{100 * values['clean_accuracy', arm, fill].mean():.1f} %"]
        cells += [f"{100 * values['retention', arm, method].mean():.1f} %" for method in (fill, "layer_masking")]
        print(f"| {settings['title']} | {' | '.join(cells)} | {100 * growth[arm]:+.1f} |")

    pairs, clean = {}, {}
    for family in FAMILIES:
        augmented = values["shape_choice", f"{family}_60", fill]
        pairs[f"{family} − no masks, {fill}"] = augmented - values["shape_choice", "no_masks", fill]
        pairs[f"{family} − layer masking"] = augmented - values["shape_choice", "layer_masking", "layer_masking"]
        clean[family] = values["clean_accuracy", f"{family}_60", fill] - values["clean_accuracy", "no_masks", fill]
    corrected = _holm([float(stats.ttest_1samp(each, 0).pvalue) for each in pairs.values()])
    print("\n| pair, at 60 % of images | points | p, Holm |\n|---|---|---|")
    for (name, difference), p in zip(pairs.items(), corrected, strict=True):
        print(f"| {name} | {_interval(difference)} | {p:.2g} |")
    print("\nclean accuracy minus no masks:", {family: _interval(each) for family, each in clean.items()})

    for arm in arms:
        for method in claim["methods"]:
            for place, seed in enumerate(seeds):
                measured = [f"{values[measure, arm, method][place]:.6g}" for measure in MEASURES]
                yield [fill, arm, method, seed, *measured]


def _growth(folder: Path, arm: str, seeds: list[int]) -> float:
    """How much the mean validation accuracy over seeds grows in the last epoch."""
    curves = [[*_curve(folder / "arms" / arm / f"seed-{seed}" / "log" / "metrics.csv")] for seed in seeds]
    last, before = (np.mean([curve[place] for curve in curves]) for place in (-1, -2))  # one resumed lacks the first
    return float(last - before)


def _curve(path: Path) -> Iterator[float]:
    with path.open(newline="") as file:
        yield from (float(row["val/accuracy"]) for row in csv.DictReader(file) if row.get("val/accuracy"))


def _interval(values: np.ndarray) -> str:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]".replace("-", "−")


def _holm(p_values: list[float]) -> list[float]:
    """Holm's correction: the k-th smallest of n times n - k + 1, and no less than the one before it."""
    corrected, before = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        before = max(before, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = before
    return corrected


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
