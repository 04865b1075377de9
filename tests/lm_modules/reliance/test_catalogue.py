"""The catalogue: every measure says all about itself, and a stranger's measure is asked like ours."""

import copy
import string
from typing import get_args

import numpy as np
import pytest

from maskrobust.augment.families.registry import FAMILIES
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance import catalogue as catalogue_module
from maskrobust.lm_modules.reliance.catalogue import (
    HEADLINE,
    Context,
    Group,
    catalogue,
    measure,
    measure_members,
)
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, right_answers
from maskrobust.lm_modules.reliance.holes.conditions import condition_names
from maskrobust.lm_modules.reliance.measurement import result_rows
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import only, select
from tests.lm_modules.reliance.tables import make_outcomes

EVERYTHING = ReliancePlan(
    hidden_fractions=(0.25, 0.5),
    curve_families=("patches", "slic"),
    curve_orders=("random", "most_salient"),
    curve_fractions=(0.0, 0.5),
    transfer_families=tuple(FAMILIES),
    features=True,
    layers=("layer1",),
    margins=(0, 4),
    leak_controls=True,
    scenes=2,
)
ENTRIES = catalogue()


@pytest.fixture
def own_entries(monkeypatch):
    """A copy of the catalogue that a test may add to."""
    own = copy.copy(catalogue_module.MEASURES)
    monkeypatch.setattr(catalogue_module, "MEASURES", own)
    return own


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_says_all_about_itself(entry):
    assert entry.definition.endswith(".")
    members = entry.members(EVERYTHING)
    named = {name for _, name, _, _ in string.Formatter().parse(entry.title) if name}
    assert all(named <= set(parameters) for parameters in members)
    headings = {entry.heading(parameters) for parameters in members}
    assert all(heading and "{" not in heading for heading in headings)


def test_entries_stand_by_group_and_the_headline_first():
    places = [get_args(Group).index(entry.group) for entry in ENTRIES.values()]
    assert places == sorted(places)
    assert next(iter(ENTRIES)) == HEADLINE


def test_a_measure_without_what_it_needs_is_not_asked():
    asked = {each.measure.name for each in measure_members(Context(ReliancePlan(shapes=False, hidden_fractions=())))}
    assert asked == {"clean_accuracy"}
    without_probe = {each.measure.name for each in measure_members(Context(EVERYTHING))}
    outcomes = make_outcomes(10, 0)
    with_probe = Context(EVERYTHING, ProbeOutcomes(outcomes.ids, outcomes.labels, outcomes.labels))
    asked = {each.measure.name for each in measure_members(with_probe)}
    assert asked - without_probe == {"used_share", "probe_accuracy"}


def test_a_measure_of_ones_own_is_one_function(own_entries):
    @measure(title="Wrong behind the outline", definition="Errors with the object hidden along its outline.")
    def silhouette_error() -> Statistic:
        return Statistic(
            lambda outcomes: right_answers(outcomes, "silhouette"), lambda means: np.asarray(1.0 - means[..., 0])
        )

    outcomes = {seed: make_outcomes(80, seed) for seed in range(2)}
    rows = list(result_rows("net", "black", outcomes, Context(ReliancePlan()), replicates=20, by_seed=True))
    accuracy, error = (only(rows, measure=key, seed=None) for key in ("silhouette_accuracy", "silhouette_error"))
    assert accuracy is not None and error is not None
    assert accuracy.value is not None and error.value == pytest.approx(1.0 - accuracy.value)
    assert [row.seed for row in select(rows, measure="silhouette_error")] == [None, 0, 1]


def test_a_measure_in_a_module_of_ones_own_is_imported_by_its_name(own_entries, tmp_path, monkeypatch):
    (tmp_path / "stranger_measures.py").write_text(
        "from maskrobust.lm_modules.reliance.catalogue import measure\n"
        "from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, right_answers\n"
        "@measure(title='Twice right', definition='Right in both ways.')\n"
        "def twice_right():\n"
        "    return Statistic(lambda outcomes: right_answers(outcomes, 'silhouette', 'circle'), lambda m: m.prod(-1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked = measure_members(Context(ReliancePlan(own_measures=("stranger_measures.twice_right",))))
    assert asked[-1].measure.name == "twice_right" and asked[-1].measure.group == "own"
    with pytest.raises(InputError, match="'stranger_measures' registers no 'other'; decorate"):
        measure_members(Context(ReliancePlan(own_measures=("stranger_measures.other",))))
    with pytest.raises(InputError, match=r"'no_such_module\.x', whose module cannot be imported"):
        measure_members(Context(ReliancePlan(own_measures=("no_such_module.x",))))


def test_a_plan_that_unites_others_asks_all_that_they_ask():
    one = ReliancePlan(shapes=False, hidden_fractions=(0.5,), transfer_families=("blobs",))
    other = ReliancePlan(hidden_fractions=(0.3, 0.5), features=True)
    both = ReliancePlan.union([one, other])
    assert set(condition_names(one)) | set(condition_names(other)) == set(condition_names(both))
    assert both.features and both.shapes
