"""The catalogue of measures, what a plan refuses, and outcomes on disk and across ranks."""

import string
from dataclasses import replace

import numpy as np
import pytest

from maskrobust.augment.families.mask_family import FAMILIES
from maskrobust.lm_modules.reliance.catalogue import Context, catalogue, measure, measure_members
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, right_answers
from maskrobust.lm_modules.reliance.holes.conditions import condition_names
from maskrobust.lm_modules.reliance.measurement import result_rows
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import only, select
from tests.conftest import refused
from tests.lm_modules.reliance.tables import assert_equal, make_outcomes, take

EVERYTHING = ReliancePlan(
    hidden_fractions=(0.25, 0.5),
    curve_families=("patches", "slic"),
    curve_orders=("random", "most_salient"),
    curve_fractions=(0.0, 0.5),
    transfer_families=tuple(FAMILIES),
    scenes=2,
    own_holes=2,
)
ENTRIES = catalogue()


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_says_all_about_itself(entry):
    assert entry.definition.endswith(".")
    members = entry.members(EVERYTHING)
    named = {name for _, name, _, _ in string.Formatter().parse(entry.title) if name}
    assert all(named <= set(parameters) for parameters in members)
    headings = {entry.title.format(**parameters) for parameters in members}
    assert all(heading and "{" not in heading for heading in headings)


def test_a_measure_without_what_it_needs_is_not_asked():
    asked = {each.measure.name for each in measure_members(Context(ReliancePlan(shapes=False, hidden_fractions=())))}
    assert asked == {"clean_accuracy"}
    without_holes = {each.measure.name for each in measure_members(Context(EVERYTHING))}
    assert {*catalogue()} - without_holes == {
        "holes_tell", "holes_pull", "reliance", "pixel_iou", "pixel_accuracy", "changed_by_paint",
    }  # fmt: skip


@pytest.mark.usefixtures("registries")
def test_a_measure_of_ones_own_is_one_function():
    @measure(title="Wrong behind the outline", definition="Errors with the object hidden along its outline.")
    def silhouette_error() -> Statistic:
        return Statistic(
            lambda outcomes: right_answers(outcomes, "silhouette"), lambda means: np.asarray(1.0 - means[..., 0])
        )

    outcomes = {seed: make_outcomes(80, seed) for seed in range(2)}
    rows = list(result_rows("net", "black", outcomes, Context(ReliancePlan()), by_seed=True))
    accuracy, error = (only(rows, measure=key, seed=None) for key in ("silhouette_accuracy", "silhouette_error"))
    assert accuracy.value is not None and error.value == pytest.approx(1.0 - accuracy.value)
    assert [row.seed for row in select(rows, measure="silhouette_error")] == [None, 0, 1]


def test_a_plan_that_unites_others_asks_all_that_they_ask():
    one = ReliancePlan(shapes=False, hidden_fractions=(0.5,), transfer_families=("blobs",))
    other = ReliancePlan(hidden_fractions=(0.3, 0.5))
    both = ReliancePlan.union([one, other])
    assert set(condition_names(one)) | set(condition_names(other)) == set(condition_names(both))
    assert both.shapes


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"hidden_fractions": (1.5,)}, "got 1.5"),
        ({"sampled_fraction": 0.0}, "got 0.0"),
        ({"patch_size": 0}, "got 0"),
        ({"curve_families": ("felzenszwalb",)}, "got 'felzenszwalb'"),
        ({"curve_families": ("slic",), "curve_orders": ()}, "got none"),
        ({"transfer_families": ("stripes",)}, "got 'stripes'"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(options, given):
    with pytest.raises(ValueError, match=rf"{given}; .*\.$"):
        ReliancePlan(**options)


def test_what_is_named_twice_is_asked_once():
    twice = ReliancePlan(hidden_fractions=(0.5, 0.3, 0.5), transfer_families=("patches", "patches"))
    assert twice == ReliancePlan(hidden_fractions=(0.5, 0.3), transfer_families=("patches",))


def test_what_is_saved_is_loaded(tmp_path):
    saved = make_outcomes(20, seed=0)
    saved.save(tmp_path / "run.outcomes")
    loaded = Outcomes.load(tmp_path / "run.outcomes")
    assert isinstance(loaded.num_classes, int) and loaded.scenes is not None
    assert_equal(loaded, saved)


def test_answers_about_scenes_are_those_of_the_first_part_that_has_some():
    whole = make_outcomes(20, seed=0)
    without = replace(whole, scenes=None)
    assert_equal(Outcomes.merge([without, whole]), whole)
    assert Outcomes.merge([without]).scenes is None


@pytest.mark.parametrize("damage", [lambda whole: whole[:200], lambda _: b"", lambda _: b"no archive at all"])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "run.npz"
    make_outcomes(20, seed=0).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with refused(ValueError, match=r"run\.npz' must be a readable npz archive.*; delete it"):
        Outcomes.load(path)


def test_merging_sorts_by_id_and_keeps_the_first_of_a_repeated_one():
    whole = make_outcomes(30, seed=1)
    order = np.random.default_rng(0).permutation(30)
    parts = [take(whole, order[:12]), take(whole, order[10:]), take(whole, order[[3, 3]])]
    merged = Outcomes.merge(parts)
    assert_equal(merged, whole)
    assert len(merged) == 30


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Outcomes.merge([])
    with pytest.raises(ValueError, match="share classes and conditions"):
        Outcomes.merge([make_outcomes(5, seed=0), make_outcomes(5, seed=0, fractions=(0.7,))])
    batch = make_outcomes(5, seed=0)
    with pytest.raises(ValueError, match=f"an id of its own, but {batch.ids[1]} is that of images with different lab"):
        Outcomes.merge([batch, replace(batch, labels=batch.labels + (batch.ids == batch.ids[1]))])
