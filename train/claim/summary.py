"""From outcomes to claim.json: every figure with its interval, the comparisons, and the verdict."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maskrobust.augment import read_choice
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance import (
    Measure,
    Outcomes,
    ProbeOutcomes,
    compare_magnitudes,
    estimate,
    probe_accuracy,
    used_share,
)
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.verdict import CLAIM, Comparison, caveat, decide, rule_in_words
from maskrobust.train.figures import as_figure, figures_of, main_measures, provenance
from maskrobust.train.plan_figures import plan_figures, transfer_figures, worst_cell

Runs = Mapping[str, Mapping[int, Mapping[MaskingMethod, Outcomes]]]
"""Outcomes by arm, seed and masking method."""


def summarise(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes, *, seconds: float, command: str) -> dict[str, Any]:
    """Everything that claim.json holds, as plain values.

    Args:
        config: the claim.
        runs: outcomes of every arm, seed and masking method.
        probe: outcomes of the mask-only probe on the same images.
        seconds: how long the command took, without what it found on disk.
        command: as typed.
    """
    measures = main_measures({"retention": config.evaluation.hidden_fraction}, probe)
    comparisons, layer_masking_loss = compare(config, runs, probe)
    verdict = decide(config.rule, comparisons, layer_masking_loss)
    first = _runs_of(config, runs, config.rule.baseline)[0]
    return {
        "format": 2,
        "question": config.question,
        "claim": CLAIM,
        "verdict": {
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "caveat": caveat(len(config.seeds)),
            "comparisons": [
                {
                    "arm": each.arm,
                    "difference": as_figure(each.difference),
                    "clean_accuracy_loss": each.clean_accuracy_loss,
                    "eligible": each.eligible,
                    "level_low": each.level_low,
                    "level_high": each.level_high,
                }
                for each in comparisons
            ],
        },
        "rule": {"text": rule_in_words(config.rule), **config.content["rule"]},
        "probe": {
            "accuracy": as_figure(estimate(probe_accuracy(probe), [first], replicates=config.evaluation.replicates)),
            "majority_share": _majority_share(first),
            "chance": 1.0 / config.data.num_classes,
        },
        "methods": list(config.evaluation.methods),
        "hidden_fraction": config.evaluation.hidden_fraction,
        "seeds": config.seeds,
        "arms": {
            name: {
                "title": arm.title,
                "augmentation_only": arm.augmentation_only,
                "method": arm.method,
                "training": arm.model,
                "methods": {
                    method: _figures_of(config, measures, name, runs[name], method)
                    for method in config.evaluation.methods
                },
                **_matrix(config, name, runs[name]),
            }
            for name, arm in config.arms.items()
        },
        "config": config.content,
        "provenance": provenance(seconds, command),
    }


def compare(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes) -> tuple[list[Comparison], float]:
    """Every augmentation-only arm against the layer-masking arm, by the magnitudes of their used shares.

    The arms that count share the rule's confidence (`compare_magnitudes`); any other has all of it.

    Returns:
        The comparisons, and the layer-masking arm's loss of clean accuracy against the baseline.
    """
    rule = config.rule
    losses = {
        name: _clean_accuracy_loss(config, runs, name) for name, arm in config.arms.items() if arm.augmentation_only
    }
    counted = [name for name, loss in losses.items() if loss <= rule.clean_accuracy_tolerance]
    families = [counted, *([name] for name in losses if name not in counted)]
    compared = {
        name: found
        for family in families
        for name, found in compare_magnitudes(
            used_share(probe),
            {name: _runs_of(config, runs, name) for name in family},
            _runs_of(config, runs, rule.layer_masking_arm),
            margin=rule.margin,
            confidence=rule.confidence,
            replicates=config.evaluation.replicates,
        ).items()
    }
    comparisons = [
        Comparison(
            name, compared[name].difference, loss, name in counted, compared[name].level_low, compared[name].level_high
        )
        for name, loss in losses.items()
    ]
    return comparisons, _clean_accuracy_loss(config, runs, rule.layer_masking_arm)


def _figures_of(
    config: ClaimConfig,
    measures: Mapping[str, Measure],
    arm: str,
    runs: Mapping[int, Mapping[MaskingMethod, Outcomes]],
    method: MaskingMethod,
) -> dict[str, Any]:
    by_seed = {seed: run[method] for seed, run in runs.items()}
    replicates, plan, layers = config.evaluation.replicates, config.plans_of(arm)[method], config.evaluation.layers
    return {
        "all_seeds": figures_of(measures, list(by_seed.values()), replicates)
        | plan_figures(plan, list(by_seed.values()), replicates, layers),
        "seeds": {str(seed): figures_of(measures, [run], replicates) for seed, run in by_seed.items()},
    }


def _matrix(config: ClaimConfig, arm: str, runs: Mapping[int, Mapping[MaskingMethod, Outcomes]]) -> dict[str, Any]:
    """The transfer matrix of an arm, its worst cell, and what its training has seen; nothing where none was asked."""
    families = config.evaluation.transfer_families
    if not families:
        return {}
    by_method = {method: [run[method] for run in runs.values()] for method in config.plans_of(arm)}
    matrix = transfer_figures(families, by_method, config.evaluation.replicates)
    return {"transfer": matrix, "worst_cell": worst_cell(matrix), "trained_on": _trained_on(config.models[arm])}


def _trained_on(model: Mapping[str, Any]) -> dict[str, list[str]]:
    """Mask families and fills of a training, by name; none where it masks nothing, no fill under layer masking."""
    masked, filled = model["masking"] != "none", model["masking"] in ("fill", "mixture")
    return {
        "families": list(read_choice(model["mask_family"], "mask_family")) if masked else [],
        "fills": list(read_choice(model["fill"], "fill")) if filled else [],
    }


def _majority_share(outcomes: Outcomes) -> float | None:
    """Share of the most frequent class among images with a valid object; None where there is none."""
    labels = outcomes.labels[outcomes.object_valid]
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else None


def _clean_accuracy_loss(config: ClaimConfig, runs: Runs, arm: str) -> float:
    def accuracy(name: str) -> float:
        return float(np.mean([run.behind("clean") == run.labels for run in _runs_of(config, runs, name)]))

    return accuracy(config.rule.baseline) - accuracy(arm)


def _runs_of(config: ClaimConfig, runs: Runs, arm: str) -> list[Outcomes]:
    """The arm's outcomes under the method that the rule looks at, one for each seed."""
    return [run[config.arms[arm].method] for run in runs[arm].values()]
