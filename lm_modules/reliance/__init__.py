"""Measures of shape reliance: how much of a prediction comes from the outline of what was hidden."""

from lm_modules.reliance.comparison import ComparedMagnitude, compare_magnitudes
from lm_modules.reliance.conditions import (
    FILL_STREAM,
    HOLE_STREAM,
    Condition,
    Conditions,
    ConditionSource,
    retention_condition,
    transfer_condition,
)
from lm_modules.reliance.curves import CURVE_FAMILIES, CURVE_ORDERS, CurveFamily, CurveOrder, curve_condition
from lm_modules.reliance.estimation import Finding, estimate, estimate_difference
from lm_modules.reliance.features import (
    FeatureHole,
    carried_information,
    cross_validated_predictions,
    feature_condition,
    feature_key,
    probed_features,
    with_feature_predictions,
)
from lm_modules.reliance.holm import holm_levels
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
    silhouette_accuracy,
    silhouette_leak,
    swap_pull,
    used_share,
    whole_mask_accuracy,
    whole_over_broken,
)
from lm_modules.reliance.outcomes import Outcomes
from lm_modules.reliance.plan import ReliancePlan
from lm_modules.reliance.probe import OutlineProbe, ProbeOutcomes, probe_outcomes, train_probe
from lm_modules.reliance.retention_curves import (
    curve_accuracy,
    curve_accuracy_score,
    curve_class_entropy,
    curve_class_entropy_score,
    curve_similarity,
    curve_similarity_score,
    curve_unchanged,
    curve_unchanged_score,
)
from lm_modules.reliance.statistics import (
    Estimate,
    bootstrap_means,
    hierarchical_bootstrap_means,
    percentile_estimate,
)
from lm_modules.reliance.suite import FeatureExtractors, RelianceSuite
from lm_modules.reliance.swaps import SwapIndex, SwapTriples, swap_index, swap_triples
from lm_modules.reliance.transfer import transfer_accuracy, worst_family

__all__ = [
    "CURVE_FAMILIES",
    "CURVE_ORDERS",
    "FILL_STREAM",
    "HOLE_STREAM",
    "Columns",
    "ComparedMagnitude",
    "Condition",
    "ConditionSource",
    "Conditions",
    "CurveFamily",
    "CurveOrder",
    "Estimate",
    "FeatureExtractors",
    "FeatureHole",
    "Finding",
    "Information",
    "Measure",
    "Outcomes",
    "OutlineProbe",
    "ProbeOutcomes",
    "ReliancePlan",
    "RelianceSuite",
    "SwapIndex",
    "SwapTriples",
    "bootstrap_means",
    "broken_mask_accuracy",
    "carried_information",
    "circle_accuracy",
    "clean_accuracy",
    "compare_magnitudes",
    "cross_validated_predictions",
    "curve_accuracy",
    "curve_accuracy_score",
    "curve_class_entropy",
    "curve_class_entropy_score",
    "curve_condition",
    "curve_similarity",
    "curve_similarity_score",
    "curve_unchanged",
    "curve_unchanged_score",
    "estimate",
    "estimate_difference",
    "feature_condition",
    "feature_key",
    "hidden_pixel_sensitivity",
    "hierarchical_bootstrap_means",
    "hole_information",
    "holm_levels",
    "mutual_information",
    "percentile_estimate",
    "probe_accuracy",
    "probe_outcomes",
    "probed_features",
    "retention",
    "retention_condition",
    "silhouette_accuracy",
    "silhouette_leak",
    "swap_index",
    "swap_pull",
    "swap_triples",
    "train_probe",
    "transfer_accuracy",
    "transfer_condition",
    "used_share",
    "whole_mask_accuracy",
    "whole_over_broken",
    "with_feature_predictions",
    "worst_family",
]
