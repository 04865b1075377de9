"""A measurement: what it asks and keeps, and that neither batches nor other networks change an answer."""

import numpy as np
import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.holes import conditions as conditions_module
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource, condition_names
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement, result_rows, under_methods
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, as_logits, shape_bank, shape_batch
from tests.lm_modules.reliance.tables import assert_equal

PLAN = ReliancePlan(
    hidden_fractions=(0.3, 0.8),
    curve_families=("slic",),
    curve_orders=("most_salient",),
    curve_fractions=(0.0, 0.4),
    transfer_families=("blobs", "silhouettes", "objects"),
    sampled_fraction=0.5,
)
BANK = shape_bank(60)


def count_visible(images, visible, keys):
    """A class from exact integer sums over visible pixels and the key: equal in any batch."""
    levels = (images * 255).long() * visible
    return as_logits((levels.sum(dim=(1, 2, 3)) + visible.sum(dim=(1, 2, 3)) + (keys & 7)) % NUM_CLASSES)


def peek(images, visible, keys):
    """Looks into the hole: logit c is the largest pixel of a quarter of the rows."""
    return images.amax(dim=(1, 3)).reshape(len(images), NUM_CLASSES, -1).amax(dim=2)


PREDICTORS = {"count": count_visible, "peek": peek}


def evaluate(batches, seed=5):
    return Measurement(
        {name: Asked(each, PLAN) for name, each in PREDICTORS.items()}, BANK, NUM_CLASSES, seed=seed
    ).run(batches)


def drawn(batch):
    return ConditionSource(BANK, PLAN, seed=5).draw(batch)


@pytest.fixture(scope="module")
def batch():
    whole = shape_batch(64, 0, first_id=1000)
    whole.object_mask[3] = False
    whole.object_mask[5, 0, ::31, ::31] = True
    return whole


@pytest.fixture(scope="module")
def expected(batch):
    return evaluate([batch])


def test_every_answer_is_the_one_under_its_condition(batch, expected):
    conditions, found = drawn(batch), expected["count"]
    names = condition_names(PLAN)
    assert {"silhouette", "retention/0.3", "curve/slic/most_salient/0", "transfer/blobs"} < set(names)
    assert [condition.name for condition in conditions.all] == names
    assert list(found.predictions) == ["clean", *names]
    for name, visible, asked, images in [
        ("clean", torch.ones_like(batch.object_mask), batch.ids >= 0, None),
        *conditions.all,
    ]:
        shown = batch.images if images is None else images
        answers = count_visible(shown, visible, conditions.fill_keys).argmax(dim=1)
        assert np.array_equal(found.predictions_under(name), answers.where(asked, -1)), name
    assert np.array_equal(found.swap_label_j, conditions.swaps.labels_j)
    assert np.array_equal(found.labels, batch.labels)
    assert np.array_equal(found.ids, batch.ids)


def test_invalid_images_have_no_answer_behind_their_holes(expected):
    for found in expected.values():
        assert np.flatnonzero(~found.object_valid).tolist() == [3, 5]
        for name in ("silhouette", "circle"):
            assert found.predictions_under(name)[[3, 5]].tolist() == [-1, -1]
            assert (found.predictions_under(name)[found.object_valid] >= 0).all()
        assert (found.predictions_under("clean") >= 0).all()


@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_answers_do_not_depend_on_batch_size_or_order(batch, expected, batch_size):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    found = evaluate([batch.select(chosen) for chosen in order.split(batch_size)])
    for name in PREDICTORS:
        assert_equal(found[name], expected[name])


class Counter:
    """A predictor that notes how many images it is asked about, pass by pass."""

    def __init__(self) -> None:
        self.passes: list[int] = []

    def __call__(self, images, visible, keys):
        self.passes.append(len(images))
        return count_visible(images, visible, keys)


def test_passes_are_filled_over_all_conditions_and_ask_nothing_twice(batch):
    counter = Counter()
    some = batch.select(torch.arange(16))
    Measurement({"count": Asked(counter, PLAN)}, BANK, NUM_CLASSES, seed=5).ask(some)
    conditions = drawn(some)
    asked = [int((each.applies & ~each.visible.flatten(1).all(dim=1)).sum()) for each in conditions.all]
    clean, *rest = counter.passes
    assert clean == 16
    assert sum(rest) == sum(asked)
    assert all(size == 64 for size in rest[:-1])


def test_without_objects_only_the_other_conditions_are_asked(batch):
    counter = Counter()
    measurement = Measurement({"count": Asked(counter, ReliancePlan(hidden_fractions=()))}, BANK, NUM_CLASSES)
    empty = batch._replace(object_mask=torch.zeros_like(batch.object_mask))
    found = measurement.ask(empty)["count"]
    assert counter.passes == [64]  # clean; shapes lie over objects
    assert not found.object_valid.any()


@pytest.mark.parametrize(
    ("breaks", "shown", "value"),
    [
        (lambda visible: visible.all(), "pictures with nothing hidden", torch.nan),
        (lambda visible: ~visible.all(), "with a hole", -torch.inf),
    ],
)
def test_logits_that_are_not_finite_are_refused_with_the_name_of_the_network(breaks, shown, value):
    def broken(images, visible, keys):
        logits = count_visible(images, visible, keys)
        wrong = torch.stack([breaks(each) for each in visible])
        logits[:, 1] = logits[:, 1].where(~wrong, value)
        return logits

    for name in ("net.pt", ("net.pt", "black")):
        measurement = Measurement({name: Asked(broken, PLAN)}, BANK, NUM_CLASSES)
        with pytest.raises(InputError, match=f"'net.pt.*' must be finite.*{shown}"):
            measurement.ask(shape_batch(6, seed=1))


def test_wrong_logits_and_missing_labels_are_refused(batch):
    with pytest.raises(ValueError, match=r"\(B, at least 7\), got shape \(64, 4\)"):
        Measurement({"count": Asked(count_visible, PLAN)}, BANK, 7).ask(batch)
    for labels in (-batch.labels, batch.labels + NUM_CLASSES):  # that of another output, where a network has more
        with pytest.raises(ValueError, match=f"must have labels from 0 to {NUM_CLASSES - 1}, got "):
            Measurement({"count": Asked(count_visible, PLAN)}, BANK, NUM_CLASSES).ask(batch._replace(labels=labels))


TWO_PLANS_IN = ReliancePlan(
    patch_size=4, curve_families=("patches",), curve_orders=("random",), curve_fractions=(0.5,),
    transfer_families=("rectangles",),
)  # fmt: skip
PLANS = {
    "black": TWO_PLANS_IN,
    "layer_masking": ReliancePlan(patch_size=4),
    "mean": ReliancePlan(shapes=False, hidden_fractions=(), transfer_families=("rectangles",)),
}


def classifier(seed):
    torch.manual_seed(seed)
    return MaskRobustClassifier("small_resnet", NUM_CLASSES, seed=seed).trained_network()


def as_batches():
    batch = shape_batch(24, seed=5)
    return [batch.select(part) for part in (slice(0, 14), slice(14, 24))]


@pytest.fixture(scope="module")
def small_bank():
    return shape_bank(16)


def rows_of(networks, small_bank):
    runs = Measurement(under_methods(networks, PLANS), small_bank, NUM_CLASSES, seed=3).run(as_batches())
    return [
        row
        for (name, method), outcomes in runs.items()
        for row in result_rows(name, method, {0: outcomes}, Context(PLANS[method]))
    ], runs


def test_holes_are_drawn_once_for_each_batch_whatever_the_number_of_networks(small_bank, monkeypatch):
    drawn = []
    curve_holes = conditions_module.curve_holes
    monkeypatch.setattr(
        conditions_module, "curve_holes", lambda *given, **options: drawn.append(1) or curve_holes(*given, **options)
    )
    rows_of({name: classifier(seed) for seed, name in enumerate(("a", "b", "c"))}, small_bank)
    assert len(drawn) == 2


def test_each_method_is_asked_what_its_own_plan_says(small_bank):
    runs = rows_of({"a": classifier(0)}, small_bank)[1]
    for method, plan in PLANS.items():
        assert runs["a", method].predictions.keys() == {"clean", *condition_names(plan)}
