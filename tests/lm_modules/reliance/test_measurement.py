"""Several networks asked in one pass answer as each does alone, and share images, holes and superpixels."""

import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.holes import conditions as conditions_module
from maskrobust.lm_modules.reliance.measurement import Measurement, difference_rows, result_rows
from maskrobust.lm_modules.reliance.plan import ReliancePlan, with_transfer_methods
from maskrobust.lm_modules.reliance.results import select
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_bank, shape_batch

PLAN = ReliancePlan(
    patch_size=4, curve_families=("patches",), curve_orders=("random",), curve_fractions=(0.5,),
    transfer_families=("rectangles",), features=True,
)  # fmt: skip
PLANS = with_transfer_methods({"black": PLAN, "layer_masking": ReliancePlan(patch_size=4)}, ["mean"])


def classifier(seed):
    torch.manual_seed(seed)
    return MaskRobustClassifier("small_resnet", NUM_CLASSES, seed=seed).trained_network()


def as_batches():
    batch = shape_batch(24, seed=5)
    return [batch.select(part) for part in (slice(0, 14), slice(14, 24))]


@pytest.fixture(scope="module")
def bank():
    return shape_bank(16)


def rows_of(networks, bank):
    runs = Measurement(networks, bank, PLANS, num_classes=NUM_CLASSES, seed=3).run(as_batches())
    return [
        row
        for name, by_method in runs.items()
        for method, outcomes in by_method.items()
        for row in result_rows(name, method, {0: outcomes}, Context(PLANS[method]), replicates=20)
    ], runs


def test_rows_of_networks_side_by_side_are_those_of_calls_of_their_own(bank):
    networks = {name: classifier(seed) for seed, name in enumerate(("a", "b"))}
    together, runs = rows_of(networks, bank)
    alone = [row for name, network in networks.items() for row in rows_of({name: network}, bank)[0]]
    assert together == alone
    assert {row.measure for row in select(together, method="mean")} == {
        "clean_accuracy", "transfer_accuracy", "worst_family",
    }  # fmt: skip
    pair = ([runs["b"]["black"]], [runs["a"]["black"]])
    differences = list(difference_rows("b", "a", "black", pair, Context(PLAN), replicates=20))
    for row in differences:
        (first,), (second,) = (
            select(together, network=name, method="black", measure=row.measure, parameters=row.parameters)
            for name in ("b", "a")
        )
        if row.value is not None and first.value is not None and second.value is not None:
            assert row.value == pytest.approx(first.value - second.value)
    assert {row.compared_with for row in differences} == {"a"}


def test_holes_are_drawn_once_for_each_batch_whatever_the_number_of_networks(bank, monkeypatch):
    drawn = []
    curve_holes = conditions_module.curve_holes
    monkeypatch.setattr(
        conditions_module, "curve_holes", lambda *given, **options: drawn.append(1) or curve_holes(*given, **options)
    )
    rows_of({name: classifier(seed) for seed, name in enumerate(("a", "b", "c"))}, bank)
    assert len(drawn) == 2


def test_each_method_is_asked_what_its_own_plan_says(bank):
    runs = rows_of({"a": classifier(0)}, bank)[1]["a"]
    for method, plan in PLANS.items():
        probed = {name for name in runs[method].predictions if name.startswith(("features/", "mlp/", "neighbours/"))}
        assert runs[method].predictions.keys() - probed == {"clean", *conditions_module.condition_names(plan)}
        assert bool(probed) == plan.features


def test_a_network_whose_logits_are_not_finite_is_refused_by_its_name(bank):
    networks = {"sound": classifier(0), "broken": classifier(1)}
    with torch.no_grad():
        [*networks["broken"].parameters()][-1][1] = torch.inf
    with pytest.raises(InputError, match=r"'broken under black' must be finite.*14 of 14 pictures with nothing hidden"):
        Measurement(networks, bank, PLANS, num_classes=NUM_CLASSES, seed=3).run(as_batches())
