"""Figures as plain values, as claim.json and reliance.json hold them, and where they come from."""

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

from maskrobust.lm_modules.reliance import (
    Finding,
    Measure,
    Outcomes,
    ProbeOutcomes,
    broken_mask_accuracy,
    circle_accuracy,
    clean_accuracy,
    estimate,
    hidden_pixel_sensitivity,
    hole_information,
    retention,
    silhouette_accuracy,
    silhouette_leak,
    swap_pull,
    used_share,
    whole_mask_accuracy,
    whole_over_broken,
)


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


def main_measures(hidden_fractions: Mapping[str, float], probe: ProbeOutcomes) -> dict[str, Measure]:
    """The measures of accuracy and of shape reliance by name, in the order of reports.

    Args:
        hidden_fractions: share of hidden patches of each retention measure, by the measure's name.
        probe: the mask-only probe's outcomes on the same images.
    """
    return {
        "clean_accuracy": clean_accuracy(),
        **{name: retention(fraction) for name, fraction in hidden_fractions.items()},
        "silhouette_accuracy": silhouette_accuracy(),
        "circle_accuracy": circle_accuracy(),
        "silhouette_leak": silhouette_leak(),
        "swap_pull": swap_pull(),
        "used_share": used_share(probe),
        "whole_mask_accuracy": whole_mask_accuracy(),
        "broken_mask_accuracy": broken_mask_accuracy(),
        "whole_over_broken": whole_over_broken(),
    }


def figures_of(measures: Mapping[str, Measure], runs: Sequence[Outcomes], replicates: int) -> dict[str, Any]:
    """Every measure over the runs of one network and masking method, with what both holes tell and what leaks.

    Args:
        measures: by name.
        runs: outcomes on the same images, one for each seed.
        replicates: bootstrap resamples behind each interval.

    Returns:
        Figures by name: the measures, "information_silhouette", "information_circle", "hidden_pixel_sensitivity".
    """
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


def provenance(seconds: float, command: str) -> dict[str, Any]:
    """Where figures come from: versions, machine, time, commit and command, as plain values."""
    return {
        "maskrobust": version("maskrobust"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {device_name(_default_device())}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "commit": _commit(),
        "command": command,
    }


def device_name(device: torch.device) -> str:
    """The card's name, or the number of threads on a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
