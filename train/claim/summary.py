"""From outcomes to claim.json: every figure with its interval, the comparisons, and the verdict."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lm_modules.reliance import (
    Measure,
    Outcomes,
    ProbeOutcomes,
    circle_accuracy,
    clean_accuracy,
    estimate,
    estimate_magnitude_difference,
    probe_accuracy,
    retention,
    silhouette_accuracy,
    silhouette_leak,
    swap_pull,
    used_share,
)
from train.claim.config import ClaimConfig
from train.claim.verdict import CLAIM, Comparison, caveat, decide, rule_in_words
from train.figures import as_figure, figures_of, provenance

Runs = Mapping[str, Mapping[int, Mapping[str, Outcomes]]]
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
    measures = _measures(config, probe)
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
                    method: _figures_of(config, measures, runs[name], method) for method in config.evaluation.methods
                },
            }
            for name, arm in config.arms.items()
        },
        "config": config.content,
        "provenance": provenance(seconds, command),
    }


def compare(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes) -> tuple[list[Comparison], float]:
    """Every augmentation-only arm against the layer-masking arm, by the magnitudes of their used shares.

    The confidence of the intervals is 1 - (1 - rule.confidence) / number of augmentation-only arms (Bonferroni).

    Returns:
        The comparisons, and the layer-masking arm's loss of clean accuracy against the baseline.
    """
    rule = config.rule
    augmented = [name for name, arm in config.arms.items() if arm.augmentation_only]
    confidence = 1.0 - (1.0 - rule.confidence) / max(1, len(augmented))
    measure = used_share(probe)
    masked = _runs_of(config, runs, rule.layer_masking_arm)
    comparisons = []
    for name in augmented:
        difference = estimate_magnitude_difference(
            measure,
            _runs_of(config, runs, name),
            masked,
            replicates=config.evaluation.replicates,
            confidence=confidence,
        )
        loss = _clean_accuracy_loss(config, runs, name)
        comparisons.append(Comparison(name, difference, loss, loss <= rule.clean_accuracy_tolerance))
    return comparisons, _clean_accuracy_loss(config, runs, rule.layer_masking_arm)


def _measures(config: ClaimConfig, probe: ProbeOutcomes) -> dict[str, Measure]:
    return {
        "clean_accuracy": clean_accuracy(),
        "retention": retention(config.evaluation.hidden_fraction),
        "silhouette_accuracy": silhouette_accuracy(),
        "circle_accuracy": circle_accuracy(),
        "silhouette_leak": silhouette_leak(),
        "swap_pull": swap_pull(),
        "used_share": used_share(probe),
    }


def _figures_of(
    config: ClaimConfig, measures: Mapping[str, Measure], runs: Mapping[int, Mapping[str, Outcomes]], method: str
) -> dict[str, Any]:
    by_seed = {seed: run[method] for seed, run in runs.items()}
    replicates = config.evaluation.replicates
    return {
        "all_seeds": figures_of(measures, list(by_seed.values()), replicates),
        "seeds": {str(seed): figures_of(measures, [run], replicates) for seed, run in by_seed.items()},
    }


def _majority_share(outcomes: Outcomes) -> float | None:
    """Share of the most frequent class among images with a valid object; None where there is none."""
    labels = outcomes.labels[outcomes.object_valid]
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else None


def _clean_accuracy_loss(config: ClaimConfig, runs: Runs, arm: str) -> float:
    def accuracy(name: str) -> float:
        return float(np.mean([run.clean == run.labels for run in _runs_of(config, runs, name)]))

    return accuracy(config.rule.baseline) - accuracy(arm)


def _runs_of(config: ClaimConfig, runs: Runs, arm: str) -> list[Outcomes]:
    """The arm's outcomes under the method that the rule looks at, one for each seed."""
    return [run[config.arms[arm].method] for run in runs[arm].values()]
