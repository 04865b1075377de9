"""From outcomes to claim.json: every figure with its interval, the comparisons, and the verdict."""

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lm_modules.reliance import (
    Finding,
    Measure,
    Outcomes,
    ProbeOutcomes,
    circle_accuracy,
    clean_accuracy,
    estimate,
    estimate_magnitude_difference,
    hidden_pixel_sensitivity,
    hole_information,
    probe_accuracy,
    retention,
    silhouette_accuracy,
    silhouette_leak,
    swap_pull,
    used_share,
)
from train.claim.config import ClaimConfig
from train.claim.verdict import CLAIM, Comparison, caveat, decide, rule_in_words

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
        "provenance": _provenance(seconds, command),
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


def as_figure(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    value, low, high = finding.estimate if finding.estimate is not None else (None, None, None)
    return {
        "value": value,
        "low": low,
        "high": high,
        "images": finding.images,
        "left_out": finding.left_out,
        "undefined_because": finding.undefined_because,
    }


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
    return {
        "all_seeds": _figures(config, measures, list(by_seed.values())),
        "seeds": {str(seed): _figures(config, measures, [run]) for seed, run in by_seed.items()},
    }


def _figures(config: ClaimConfig, measures: Mapping[str, Measure], runs: Sequence[Outcomes]) -> dict[str, Any]:
    replicates = config.evaluation.replicates
    figures: dict[str, Any] = {
        name: as_figure(estimate(measure, runs, replicates=replicates)) for name, measure in measures.items()
    }
    for hole in ("silhouette", "circle"):
        found = [hole_information(run, hole) for run in runs]
        means = {name: np.mean([getattr(each, name) for each in found]) for name in ("bits", "null_low", "null_high")}
        figures[f"information_{hole}"] = _where_finite(means, runs)
    changes = np.max([hidden_pixel_sensitivity(run) for run in runs])
    figures["hidden_pixel_sensitivity"] = _where_finite({"value": changes}, runs)
    return figures


def _where_finite(figure: Mapping[str, np.floating[Any]], runs: Sequence[Outcomes]) -> dict[str, Any]:
    """The numbers of a figure as JSON can hold them; where one is not finite all are None, with the reason."""
    if all(np.isfinite(number) for number in figure.values()):
        return {name: float(number) for name, number in figure.items()} | {"undefined_because": None}
    seen = any(run.object_valid.any() for run in runs)
    reason = "undefined because a logit is not finite." if seen else "undefined because no image is valid for it."
    return dict.fromkeys(figure) | {"undefined_because": reason}


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


def _provenance(seconds: float, command: str) -> dict[str, Any]:
    return {
        "maskrobust": version("maskrobust"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {_device_name()}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "commit": _commit(),
        "command": command,
    }


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _commit() -> str | None:
    """The commit of the source tree, with "+" where files differ from it; None outside a git checkout."""
    if shutil.which("git") is None:
        return None
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None
