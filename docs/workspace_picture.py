"""Draw docs/workspace.png: what a workspace of Weights & Biases holds after two trainings, from their offline runs.

maskrobust fit --config cues.yaml --wandb true --run_name black --model.masking fill --model.fill black
maskrobust fit --config cues.yaml --wandb true --run_name layer_masking
python -m docs.workspace_picture runs/wandb docs/workspace.png

The curves, the pictures and the summaries are those of the files that `wandb sync` uploads; W&B's own page, which needs
its server, lays them out in its own way.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import SubFigure

from tests.train.offline_runs import OfflineRun, offline_runs

CHARTS = {
    "train": ["train/loss", "train/images_per_second", "train/data_wait"],
    "val": ["val/loss", "val/accuracy", "val/accuracy_half_hidden"],
    "reliance": ["reliance/layer_masking/retention_0.5", "reliance/black/retention_0.5", "reliance/black/used_share"],
}
"""Some of each section's charts, a line each."""

SUMMARIES = [
    ("val/accuracy", "max"),
    ("val/loss", "min"),
    ("reliance/layer_masking/retention_0.5", "last"),
    ("reliance/black/retention_0.5", "last"),
    ("reliance/black/used_share", "last"),
]
"""Columns of the table of runs: a metric, and which of its summaries."""


def main(folder: str, path: str) -> None:
    """Draw the offline runs below a folder."""
    runs = offline_runs(Path(folder))
    figure = plt.figure(figsize=(11, 11.5), layout="constrained")
    charts, table, pictures = figure.subfigures(3, 1, height_ratios=[6, 1.3, 4.2])
    _draw_charts(charts, runs)
    _draw_table(table, runs)
    _draw_pictures(pictures, runs[-1])
    figure.savefig(path, dpi=80)


def _draw_charts(figure: SubFigure, runs: list[OfflineRun]) -> None:
    for row, (section, names) in zip(figure.subfigures(len(CHARTS), 1), CHARTS.items(), strict=True):
        row.suptitle(section, x=0.01, ha="left", fontweight="bold", fontsize=10)
        for axis, name in zip(row.subplots(1, len(names)), names, strict=True):
            for run in runs:
                logged = [(step["trainer/global_step"], step[name]) for step in run.history if name in step]
                axis.plot(*zip(*logged, strict=True), marker=".", label=run.name)
            axis.set_title(name, fontsize=9)
            axis.tick_params(labelsize=7)
            axis.legend(fontsize=7)


def _draw_table(figure: SubFigure, runs: list[OfflineRun]) -> None:
    figure.suptitle("table of runs", x=0.01, ha="left", fontweight="bold", fontsize=10)
    axis = figure.subplots()
    axis.axis("off")
    cells = [[run.name, *(f"{run.summary[name][kind]:.3f}" for name, kind in SUMMARIES)] for run in runs]
    columns = ["", *("\n".join(f"{name}.{kind}".rsplit("/", 1)) for name, kind in SUMMARIES)]
    drawn = axis.table(cells, colLabels=columns, loc="center", cellLoc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.scale(1, 1.5)
    for (row, _), cell in drawn.get_celld().items():
        cell.set_edgecolor("lightgrey")
        if row == 0:
            cell.set_height(2 * cell.get_height())


def _draw_pictures(figure: SubFigure, run: OfflineRun) -> None:
    figure.suptitle(f"pictures of {run.name}", x=0.01, ha="left", fontweight="bold", fontsize=10)
    for axis, name in zip(figure.subplots(1, 2), ["train/shown", "reliance/shown"], strict=True):
        picture = run.logged(name)[-1]
        axis.imshow(plt.imread(run.folder / "files" / picture["filenames"][0]))
        axis.set_title(name, fontsize=9)
        axis.axis("off")


if __name__ == "__main__":
    main(*sys.argv[1:])
