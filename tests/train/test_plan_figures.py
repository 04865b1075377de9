"""Figures of the optional parts of a plan, as JSON holds them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from maskrobust.train.plan_figures import plan_figures, transfer_figures, worst_cell

from maskrobust.lm_modules.reliance import curve_accuracy
from maskrobust.lm_modules.reliance.conditions import transfer_condition
from maskrobust.lm_modules.reliance.curves import curve_condition
from maskrobust.lm_modules.reliance.estimation import estimate
from maskrobust.lm_modules.reliance.measures.retention_curves import curve_similarity_score
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.tables import NUM_CLASSES, make_outcomes

PLAN = ReliancePlan(
    curve_families=("slic",),
    curve_orders=("random", "most_salient"),
    curve_fractions=(0.0, 0.5, 1.0),
    transfer_families=("blobs", "objects"),
    features=True,
)
SIMILARITY = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])


@pytest.fixture
def run() -> Outcomes:
    made, rng = make_outcomes(120, seed=2), np.random.default_rng(0)
    names = [curve_condition("slic", order, share) for order in PLAN.curve_orders for share in PLAN.curve_fractions]
    names += [transfer_condition(family) for family in PLAN.transfer_families]
    names += [f"features/{hole}{layer}" for hole in ("silhouette", "circle") for layer in ("", "/layer1")]
    guesses = {name: rng.integers(0, NUM_CLASSES, 120) for name in names}
    return replace(made, predictions={**made.predictions, **guesses})


def numbers(figure: Mapping[str, Any]) -> tuple[float, float, float]:
    return figure["value"], figure["low"], figure["high"]


def test_a_curve_has_a_point_for_each_fraction_and_a_score(run: Outcomes) -> None:
    curve = plan_figures(PLAN, [run], replicates=50)["curves"]["slic"]["most_salient"]
    assert list(curve) == ["accuracy", "unchanged", "class_entropy"]
    assert [point["hidden_fraction"] for point in curve["accuracy"]["points"]] == list(PLAN.curve_fractions)
    expected = estimate(curve_accuracy("slic", "most_salient", 0.5), [run], replicates=50).estimate
    assert numbers(curve["accuracy"]["points"][1]) == expected
    values = [point["value"] for point in curve["accuracy"]["points"]]
    assert curve["accuracy"]["score"]["value"] == pytest.approx(np.mean(values))


def test_similarity_is_a_metric_where_the_classes_have_one(run: Outcomes) -> None:
    curve = plan_figures(PLAN, [run], replicates=50, similarity=SIMILARITY)["curves"]["slic"]["random"]
    score = curve_similarity_score("slic", "random", PLAN.curve_fractions, SIMILARITY)
    assert numbers(curve["wordnet_similarity"]["score"]) == estimate(score, [run], replicates=50).estimate


def test_features_are_told_for_the_head_and_for_each_layer(run: Outcomes) -> None:
    figures = plan_figures(PLAN, [run], replicates=50, layers=("layer1",))
    for found in (figures, figures["layers"]["layer1"]):
        difference = found["features_silhouette"]["value"] - found["features_circle"]["value"]
        assert found["carried_information"]["value"] == pytest.approx(difference)
    assert figures["carried_information"] != figures["layers"]["layer1"]["carried_information"]


def test_nothing_is_told_of_what_was_not_asked(run: Outcomes) -> None:
    assert plan_figures(ReliancePlan(), [run], replicates=50) == {}


def test_the_worst_cell_leaves_out_what_hides_the_object() -> None:
    matrix = {
        "black": {"blobs": {"value": 0.4}, "objects": {"value": 0.1}},
        "mean": {"blobs": {"value": 0.3}, "objects": {"value": None}},
    }
    assert worst_cell(matrix) == {"method": "mean", "family": "blobs", "value": 0.3}  # type: ignore[arg-type]
    assert worst_cell({"black": {"objects": {"value": 0.1}}}) is None


def test_a_matrix_has_a_row_for_each_method(run: Outcomes) -> None:
    matrix = transfer_figures(PLAN.transfer_families, {"black": [run]}, replicates=50)
    answers = run.behind(transfer_condition("blobs"))
    assert matrix["black"]["blobs"]["value"] == pytest.approx((answers == run.labels).mean())
