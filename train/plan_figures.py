"""Figures of retention curves and of the transfer matrix, as claim.json and reliance.json hold them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from maskrobust.augment import FamilyName
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance import (
    HIDE_THE_OBJECT,
    Measure,
    Outcomes,
    ReliancePlan,
    carried_information,
    curve_accuracy,
    curve_accuracy_score,
    curve_class_entropy,
    curve_class_entropy_score,
    curve_similarity,
    curve_similarity_score,
    curve_unchanged,
    curve_unchanged_score,
    estimate,
    probed_features,
    transfer_accuracy,
    worst_family,
)
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.train.figures import as_figure

_METRICS = {
    "accuracy": (curve_accuracy, curve_accuracy_score),
    "unchanged": (curve_unchanged, curve_unchanged_score),
    "class_entropy": (curve_class_entropy, curve_class_entropy_score),
}


def plan_figures(
    plan: ReliancePlan,
    runs: Sequence[Outcomes],
    replicates: int,
    layers: Sequence[str] = (),
    similarity: FloatArray | None = None,
) -> dict[str, Any]:
    """What the optional parts of a plan found under one masking method; nothing where it has none of them.

    Args:
        plan: what was asked.
        runs: outcomes on the same images, one for each seed.
        replicates: bootstrap resamples behind each interval.
        layers: inner layers whose features were probed, too.
        similarity: of the classes; see `curve_figures`.

    Returns:
        "features_silhouette", "features_circle" and "carried_information" where features were probed, and "layers" with
        the same for each of `layers`; "curves" where there are some; "worst_family" where there is a transfer matrix.
    """
    figures: dict[str, Any] = {}
    if plan.features:
        figures |= feature_figures(runs, replicates)
    if plan.features and layers:
        figures["layers"] = {layer: feature_figures(runs, replicates, layer) for layer in layers}
    if set(plan.transfer_families) - HIDE_THE_OBJECT:
        figures["worst_family"] = as_figure(estimate(worst_family(plan.transfer_families), runs, replicates=replicates))
    if plan.curve_families:
        figures["curves"] = curve_figures(plan, runs, replicates, similarity)
    return figures


def feature_figures(runs: Sequence[Outcomes], replicates: int, layer: str | None = None) -> dict[str, Any]:
    """What a linear probe reads from features behind both object holes: the penultimate ones, or those of a layer."""
    measures = {
        "features_silhouette": probed_features("silhouette", layer),
        "features_circle": probed_features("circle", layer),
        "carried_information": carried_information(layer),
    }
    return {name: as_figure(estimate(measure, runs, replicates=replicates)) for name, measure in measures.items()}


def curve_figures(
    plan: ReliancePlan, runs: Sequence[Outcomes], replicates: int, similarity: FloatArray | None = None
) -> dict[str, Any]:
    """Retention curves of one network under one masking method.

    Args:
        plan: what was asked.
        runs: outcomes on the same images, one for each seed.
        replicates: bootstrap resamples behind each interval.
        similarity: (K, K) in [0, 1] of the classes in WordNet, for the metric "wordnet_similarity"; None leaves it out.

    Returns:
        By family, order and metric: "points", each a figure with its "hidden_fraction", and "score", the figure of the
        mean over the curve.
    """
    metrics: dict[str, tuple[Callable[..., Measure], Callable[..., Measure]]] = {**_METRICS}
    if similarity is not None:
        metrics["wordnet_similarity"] = (
            partial(curve_similarity, similarity=similarity),
            partial(curve_similarity_score, similarity=similarity),
        )
    return {
        family: {
            order: {
                metric: {
                    "points": [
                        {"hidden_fraction": fraction}
                        | as_figure(estimate(point(family, order, fraction), runs, replicates=replicates))
                        for fraction in plan.curve_fractions
                    ],
                    "score": as_figure(
                        estimate(score(family, order, plan.curve_fractions), runs, replicates=replicates)
                    ),
                }
                for metric, (point, score) in metrics.items()
            }
            for order in plan.curve_orders
        }
        for family in plan.curve_families
    }


def transfer_figures(
    families: Sequence[FamilyName], runs: Mapping[MaskingMethod, Sequence[Outcomes]], replicates: int
) -> dict[MaskingMethod, dict[str, Any]]:
    """The transfer matrix of one network: accuracy by masking method and mask family.

    Args:
        families: those of the plan.
        runs: outcomes by masking method, one for each seed.
        replicates: bootstrap resamples behind each interval.
    """
    return {
        method: {
            family: as_figure(estimate(transfer_accuracy(family), by_seed, replicates=replicates))
            for family in families
        }
        for method, by_seed in runs.items()
    }


def worst_cell(matrix: Mapping[MaskingMethod, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The cell of a transfer matrix with the lowest accuracy, with its place; None where no cell is defined.

    Cells behind which the whole object is hidden do not count: nothing is to be recognised there.

    Its interval is that of the cell on its own: as the lowest of many, it is lower than what it would be again.
    """
    cells = [
        {"method": method, "family": family, **figure}
        for method, row in matrix.items()
        for family, figure in row.items()
        if figure["value"] is not None and family not in HIDE_THE_OBJECT
    ]
    return min(cells, key=lambda cell: cell["value"], default=None)
