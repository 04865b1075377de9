"""From outcomes to reliance.json and tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance import (
    Outcomes,
    ProbeOutcomes,
    estimate,
    estimate_difference,
    probe_accuracy,
)
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.measure import Runs
from maskrobust.train.figures import as_figure, figures_of, main_measures, provenance
from maskrobust.train.plain_text import printable
from maskrobust.train.plan_figures import plan_figures, transfer_figures, worst_cell
from maskrobust.train.report.table import FigureCell
from maskrobust.train.report.wording import Figure, bounds, decimal, method_title

_COLUMNS = {
    "silhouette_accuracy": "object hidden",
    "silhouette_leak": "leak",
    "swap_pull": "pull",
    "used_share": "used share",
}


def summarise(
    config: EvaluationConfig, runs: Runs, probe: ProbeOutcomes, *, seconds: float, command: str
) -> dict[str, Any]:
    """Everything that reliance.json holds, as plain values.

    Args:
        config: what was measured.
        runs: the networks' outcomes.
        probe: the mask-only probe's outcomes on the same images.
        seconds: how long the command took.
        command: as typed.

    Returns:
        "checkpoints": figures by checkpoint, method and name; "networks": transfer matrices; "differences": each
        further checkpoint minus the first, paired on images; "probe_accuracy", "settings" and "provenance".
    """
    measures = main_measures({f"retention_{fraction:g}": fraction for fraction in config.hidden_fractions}, probe)
    first = next(iter(runs))
    some_run = runs[first][config.methods[0]]
    similarity = class_similarity(config)
    return {
        "format": 1,
        "checkpoints": {
            path: {
                method: figures_of(measures, [by_method[method]], config.replicates)
                | plan_figures(config.plans[method], [by_method[method]], config.replicates, config.layers, similarity)
                for method in config.methods
            }
            for path, by_method in runs.items()
        },
        "networks": {path: _matrix(config, by_method) for path, by_method in runs.items()},
        "differences": {
            path: {
                method: {
                    name: as_figure(
                        estimate_difference(
                            measure, [by_method[method]], [runs[first][method]], replicates=config.replicates
                        )
                    )
                    for name, measure in measures.items()
                }
                for method in config.methods
            }
            for path, by_method in runs.items()
            if path != first
        },
        "compared_with": first,
        "probe_accuracy": as_figure(estimate(probe_accuracy(probe), [some_run], replicates=config.replicates)),
        "settings": {
            "split": config.split,
            "patch_size": config.patch_size,
            "hidden_fractions": list(config.hidden_fractions),
            "replicates": config.replicates,
            "seed": config.seed,
        },
        "provenance": provenance(seconds, command),
    }


def reliance_tables(reliance: Mapping[str, Any]) -> Iterator[Table]:
    """For each checkpoint its masking methods, with the main figures and their 95 % intervals."""
    retentions = {f"retention_{share:g}": f"{share:.0%} hidden" for share in reliance["settings"]["hidden_fractions"]}
    columns = {"clean_accuracy": "clean", **retentions, **_COLUMNS}
    for path, methods in reliance["checkpoints"].items():
        title = Text(printable(path))
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("method", min_width=len("imputation"))
        for column in columns.values():
            table.add_column(column, justify="right", overflow="fold")
        for method, figures in methods.items():
            table.add_row(method_title(method), *(_cell(figures[name]) for name in columns))
        yield table


def _cell(figure: Figure) -> FigureCell:
    if figure["value"] is None:
        return FigureCell(("undefined",), "dim")
    return FigureCell((decimal(figure["value"]), *bounds(figure, decimal).split()), "bold")


def class_similarity(config: EvaluationConfig) -> FloatArray | None:
    """Similarity (K, K) of the data's classes in WordNet; None where no WordNet is given.

    Raises:
        FileNotFoundError, InputError: WordNet cannot be read, or a class is not named by one of its ids.
    """
    if config.wordnet is None:
        return None
    return path_similarity(read_wordnet_nouns(config.wordnet), config.data.class_names)


def _matrix(config: EvaluationConfig, by_method: Mapping[MaskingMethod, Outcomes]) -> dict[str, Any]:
    """The transfer matrix of one network, and its worst cell; nothing where none was asked about."""
    if not config.transfer_families:
        return {}
    runs = {method: [run] for method, run in by_method.items()}
    matrix = transfer_figures(config.transfer_families, runs, config.replicates)
    return {"transfer": matrix, "worst_cell": worst_cell(matrix)}
