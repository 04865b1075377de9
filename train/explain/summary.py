"""Write the files of `maskrobust explain`: the result table, scores and the page."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.scores import evenness, shown_scores
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.explain.config import QUICK_PATCHES, ExplainConfig
from maskrobust.train.explain.measure import ExplainedImages
from maskrobust.train.explain.page import render_explanations
from maskrobust.train.report.results import rows_as_csv
from maskrobust.train.storage.files import atomic_path, write_json, write_text
from maskrobust.train.storage.provenance import provenance

FORMAT = 7
"""Format of explanations.json and explanations.npz."""


def write_results(config: ExplainConfig, explained: ExplainedImages, *, seconds: float) -> dict[str, list[Path]]:
    """Write every result into --out.

    Args:
        config: what was explained.
        explained: the explanations.
        seconds: how long the command took.

    Returns:
        The paths, by what they are.
    """
    rows = [*summary_rows(config, explained)]
    content = {
        "format": FORMAT,
        "networks": list(explained.networks),
        "methods": list(config.methods),
        "images": list(explained.images),
        "settings": settings_of(config),
        "rows": [row.as_json() for row in rows],
        "provenance": provenance(seconds),
    }
    names = ("explanations.json", "explanations.csv", "explanations.npz", "report.html")
    paths = {name: config.out / name for name in names}
    write_json(paths["explanations.json"], content)
    write_text(paths["explanations.csv"], rows_as_csv(rows))
    arrays = {"seed": np.array(config.seed)}
    for image, found in explained.images.items():
        arrays |= {f"{image}/{name}": array for name, array in found.as_arrays().items()}
    with atomic_path(paths["explanations.npz"]) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_text(paths["report.html"], render_explanations(content, explained.images, explained.class_names))
    *numbers, page = paths.values()
    return {"numbers": numbers, "report": [page]}


def settings_of(config: ExplainConfig) -> dict[str, Any]:
    """What decides the explanations, as plain values in force; without those that this command does not use."""
    others = ("segments", "targets", "image_size", "patch_size", "seed", "quick")
    chosen = {name: getattr(config, name) for name in others}
    plan = vars(config.plan) | {"visible_fraction": config.plan.visible_range, "scale": config.plan.answer_scale}
    if "patches" not in config.segments:
        del chosen["patch_size"]
    elif config.patch_size is None:
        chosen["patch_size"] = f"image side / {QUICK_PATCHES}"
    if "occlusion" not in config.plan.explainers:
        plan = {name: value for name, value in plan.items() if not name.startswith(("window", "stride"))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (chosen | plan).items()}


def summary_rows(config: ExplainConfig, explained: ExplainedImages) -> Iterator[Row]:
    """What is said of explanations, a row each.

    The probability of each class for the whole image; how well the surrogate describes the network
    (`Explanation.r_squared`); and how far all segments count alike (`evenness`).
    """
    for image, found in explained.images.items():
        classes = [explained.class_names[each] for each in found.classes]
        for (place, network), (number, name) in itertools.product(enumerate(explained.networks), enumerate(classes)):
            whole = float(found.whole[place, number])
            yield _row(network, "", "probability", whole, {"image": image, "class": name})
        for (place, network), segments, explainer, (number, name) in itertools.product(
            enumerate(explained.networks), config.segments, config.plan.explainers, enumerate(classes)
        ):
            about = {"image": image, "segments": segments, "explainer": explainer, "class": name}
            explanation = found.explanations[Explained(segments, explainer)]
            scores = explanation.scores[place, :, :, number]
            shown = shown_scores(scores, axis=1)
            for position, method in enumerate(config.methods):
                yield _row(network, method, "evenness", evenness(shown[position]), about)
                if explainer == "lime":
                    r_squared = float(explanation.r_squared[place, position, number])
                    yield _row(network, method, "r_squared", r_squared, about)


def _row(network: str, method: str, measure: str, value: float, parameters: dict[str, str | float]) -> Row:
    defined = not math.isnan(value)
    reason = None if defined else "answers, or scores, do not vary."
    return Row(network, method, measure, value if defined else None, None, None, 1, 0, reason, parameters)
