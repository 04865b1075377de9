"""Tables of a study of doses, by its plan, and all its rows: python dose_response.py PLAN DIR ...

PLAN is dose_response or dose_garments, DIR a folder for each stage, where `claim` has written, and of which the fill
is read. Writes beside this file PLAN.csv (each network under each way of hiding, as fractions) and PLAN_tables.csv (in
percent and points), and for dose_response the picture `doses.webp` beside the page.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import stats

FAMILIES = ("patches", "blobs", "silhouettes")
DOSES = (30, 60, 90)
MEASURES = ("clean_accuracy", "retention", "shape_choice", "silhouette_accuracy", "circle_accuracy")
"""`retention` here is the accuracy with half of the patches hidden."""


class Stage(NamedTuple):
    """What was measured of one fill.

    Attributes:
        fill: in training and test.
        seeds: of the networks.
        titles: of each arm.
        values: as fractions by seed, of (measure, arm, way of hiding).
        growth: how much each arm's mean validation accuracy over seeds grows in the last epoch.
    """

    fill: str
    seeds: list[int]
    titles: dict[str, str]
    values: dict[tuple[str, str, str], NDArray[np.float64]]
    growth: dict[str, float]

    def choices(self, arm: str, method: str) -> NDArray[np.float64]:
        """Shape choices of an arm under a way of hiding, by seed."""
        return self.values["shape_choice", arm, method]


def main(plan: str, folders: list[Path]) -> None:
    """Write rows and tables, draw the picture of a plan with all doses, and print the tables."""
    here = Path(__file__)
    stages = [read(folder) for folder in folders]
    rows = [row for stage in stages for row in rows_of(stage)]
    tables = [[stage.fill, *row] for stage in stages for row in (*trainings(stage), *pairs(stage))]
    write(here.with_name(f"{plan}.csv"), ["fill", "training", "tested", "seed", *MEASURES], rows)
    write(here.with_name(f"{plan}_tables.csv"), ["fill", "row", "column", "value", "low", "high", "p_holm"], tables)
    for row in tables:
        print(*row, sep="\t")
    if plan == "dose_response":
        draw(stages, here.parents[1] / "doses.webp")


def write(path: Path, head: list[str], rows: list[list[str | int]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def read(folder: Path) -> Stage:
    """The stage in a folder of `claim`."""
    claim = json.loads((folder / "claim.json").read_text(encoding="utf-8"))
    (fill,) = (method for method in claim["methods"] if method != "layer_masking")
    of: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in claim["rows"]:
        if row["measure"] in MEASURES and row["seed"] is not None and not row["compared_with"]:
            of.setdefault((row["measure"], row["network"], row["method"]), {})[row["seed"]] = row["value"]
    seeds, arms = claim["seeds"], claim["arms"]
    values = {key: np.array([found[seed] for seed in seeds]) for key, found in of.items()}
    growth = {arm: _growth(folder / "arms" / arm, seeds) for arm in arms}
    return Stage(fill, seeds, {name: arm["title"] for name, arm in arms.items()}, values, growth)


def _growth(folder: Path, seeds: Sequence[int]) -> float:
    curves = [[*_curve(folder / f"seed-{seed}" / "log" / "metrics.csv")] for seed in seeds]
    last, before = (np.mean([curve[place] for curve in curves]) for place in (-1, -2))  # one resumed lacks the first
    return float(last - before)


def _curve(path: Path) -> Iterator[float]:
    with path.open(newline="") as file:
        yield from (float(row["val/accuracy"]) for row in csv.DictReader(file) if row.get("val/accuracy"))


def rows_of(stage: Stage) -> Iterator[list[str | int]]:
    """All rows of a stage."""
    for arm in stage.titles:
        for method in (stage.fill, "layer_masking"):
            for place, seed in enumerate(stage.seeds):
                measured = [f"{stage.values[measure, arm, method][place]:.6g}" for measure in MEASURES]
                yield [stage.fill, arm, method, seed, *measured]


def trainings(stage: Stage) -> Iterator[list[str | int]]:
    """What each training reaches, means over seeds with their 95 % intervals."""
    for arm, title in stage.titles.items():
        for method in (stage.fill, "layer_masking"):
            yield [title, f"choices, {method}", *_interval(stage.choices(arm, method)), ""]
            yield [title, f"half hidden, {method}", *_interval(stage.values["retention", arm, method]), ""]
        yield [title, "clean", *_interval(stage.values["clean_accuracy", arm, stage.fill]), ""]
        yield [title, "growth", f"{100 * stage.growth[arm]:.1f}", "", "", ""]


def pairs(stage: Stage) -> Iterator[list[str | int]]:
    """The six planned differences, and what each family at 60 % costs in clean accuracy."""
    under = {"no masks": ("no_masks", stage.fill), "layer masking": ("layer_masking", "layer_masking")}
    found = {
        f"{family} − {title}": stage.choices(f"{family}_60", stage.fill) - stage.choices(*other)
        for family in FAMILIES
        for title, other in under.items()
    }
    corrected = _holm([float(stats.ttest_1samp(each, 0).pvalue) for each in found.values()])
    for (name, difference), p in zip(found.items(), corrected, strict=True):
        yield [name, "choices", *_interval(difference), f"{p:.2g}"]
    for family in FAMILIES:
        clean = [stage.values["clean_accuracy", arm, stage.fill] for arm in (f"{family}_60", "no_masks")]
        yield [f"{family} − no masks", "clean", *_interval(clean[0] - clean[1]), ""]


def _bounds(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return 100 * float(values.mean()), 100 * float(low), 100 * float(high)


def _interval(values: NDArray[np.float64]) -> list[str]:
    return [f"{each:.1f}" for each in _bounds(values)]


def _holm(p_values: list[float]) -> list[float]:
    """Holm's correction: the k-th smallest of n times n - k + 1, and no less than the one before it."""
    corrected, before = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        before = max(before, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = before
    return corrected


def draw(stages: Sequence[Stage], path: Path) -> None:
    """Choices against the dose, a panel for each fill, a line for each family, and a band for layer masking."""
    figure, panels = plt.subplots(
        1, len(stages), figsize=(3.2 * len(stages), 3.4), sharey=True, layout="constrained", squeeze=False
    )
    for panel, stage in zip(panels[0], stages, strict=True):
        for family, colour in zip(FAMILIES, ("#4a5a70", "#c1440e", "#8a6500"), strict=True):
            arms = ["no_masks", *(f"{family}_{dose}" for dose in DOSES)]
            value, low, high = np.transpose([_bounds(stage.choices(arm, stage.fill)) for arm in arms])
            panel.plot((0, *DOSES), value, marker="o", markersize=4, color=colour, label=f"{family}")
            panel.fill_between((0, *DOSES), low, high, color=colour, alpha=0.15, linewidth=0)
        value, low, high = _bounds(stage.choices("layer_masking", "layer_masking"))
        panel.axhline(value, color="#0b7a6b", label="layer masking, under itself")
        panel.axhspan(low, high, color="#0b7a6b", alpha=0.2, linewidth=0)
        panel.axhline(50, color="black", linestyle=":", linewidth=1, label="blind")
        panel.set(title=f"holes: {stage.fill}", xlabel="training images with a hole (%)", xticks=(0, *DOSES))
    panels[0, 0].set_ylabel("shape choices (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main(sys.argv[1], [Path(each) for each in sys.argv[2:]])
