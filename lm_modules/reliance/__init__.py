"""Measures of shape reliance: how much of a prediction comes from the outline of what was hidden."""

from lm_modules.reliance.conditions import FILL_STREAM, HOLE_STREAM, Conditions, draw_conditions
from lm_modules.reliance.estimation import Finding, estimate, estimate_difference, estimate_magnitude_difference
from lm_modules.reliance.information import Information, hole_information, mutual_information
from lm_modules.reliance.measures import (
    Columns,
    Measure,
    broken_mask_accuracy,
    circle_accuracy,
    clean_accuracy,
    hidden_pixel_sensitivity,
    probe_accuracy,
    retention,
    retention_score,
    silhouette_accuracy,
    silhouette_leak,
    swap_pull,
    unchanged_predictions,
    used_share,
    whole_mask_accuracy,
    whole_over_broken,
)
from lm_modules.reliance.outcomes import Outcomes
from lm_modules.reliance.probe import OutlineProbe, ProbeOutcomes, probe_outcomes, train_probe
from lm_modules.reliance.statistics import (
    Estimate,
    bootstrap_means,
    hierarchical_bootstrap_means,
    percentile_estimate,
)
from lm_modules.reliance.suite import RelianceSuite
from lm_modules.reliance.swaps import SwapIndex, SwapTriples, swap_index, swap_triples

__all__ = [
    "FILL_STREAM",
    "HOLE_STREAM",
    "Columns",
    "Conditions",
    "Estimate",
    "Finding",
    "Information",
    "Measure",
    "Outcomes",
    "OutlineProbe",
    "ProbeOutcomes",
    "RelianceSuite",
    "SwapIndex",
    "SwapTriples",
    "bootstrap_means",
    "broken_mask_accuracy",
    "circle_accuracy",
    "clean_accuracy",
    "draw_conditions",
    "estimate",
    "estimate_difference",
    "estimate_magnitude_difference",
    "hidden_pixel_sensitivity",
    "hierarchical_bootstrap_means",
    "hole_information",
    "mutual_information",
    "percentile_estimate",
    "probe_accuracy",
    "probe_outcomes",
    "retention",
    "retention_score",
    "silhouette_accuracy",
    "silhouette_leak",
    "swap_index",
    "swap_pull",
    "swap_triples",
    "train_probe",
    "unchanged_predictions",
    "used_share",
    "whole_mask_accuracy",
    "whole_over_broken",
]
