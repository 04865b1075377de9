"""From outcomes to a verdict: pairs, comparisons' signs, and numbers that are not defined."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.claim.checks import parse_config
from maskrobust.train.claim.summary import summarise
from maskrobust.train.claim.verdict import CLAIMS
from maskrobust.train.report.pages import render_claim
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.storage.files import read_json, write_json
from tests.lm_modules.reliance.tables import answering, make_outcomes, misled
from tests.train.report.evaluations import read_results
from tests.train.tiny import tiny_claim

IMAGES = 400


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    parsed = parse_config([f"--config={path}", f"--out={folder}"])
    return replace(parsed, seeds=[*range(1, 9)])


def runs_of(config, skills, change=lambda run: run):
    """Made-up outcomes of every arm; a negative skill reads the outline as well as a positive one, and is misled.

    The baseline reads it unless `skills` say otherwise. With patches hidden, all are right about the same images.
    """
    kept = {retention_condition(0.5): make_outcomes(IMAGES, seed=0).labels % 2}

    def outcomes(place, arm, seed):
        skill = skills.get(arm, 0.6 if arm == "no_masks" else 0.0)
        made = make_outcomes(IMAGES, seed=1 + seed + 10 * place, skill=abs(skill))
        made = answering(made, clean=made.labels, **kept)
        return change(misled(made) if skill < 0 else made)

    return {
        arm: {seed: run_with(config, outcomes(place, arm, seed)) for seed in config.seeds}
        for place, arm in enumerate(config.arms)
    }


def run_with(config, outcomes):
    """The same answers under every masking method."""
    return dict.fromkeys(config.evaluation.methods, outcomes)


def outcome_of(claim, case):
    """What has come of one of the two claims, by the rule's own tolerance."""
    (found,) = (each for each in read_results("claim", claim).content["verdicts"] if each["case"] == case)
    return found


def summarised(config, runs, *, rows=False):
    """What a claim says, without the rows of arms, which take most of the time, unless they are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        if not rows:
            patch.setattr("maskrobust.train.claim.summary.result_rows", lambda *_, **__: ())
        return summarise(config, runs, seconds=1.0).as_json()


@pytest.mark.parametrize(
    ("augmented", "masked", "outcome"),
    [(-0.6, -0.3, "supported"), (0.6, -0.3, "supported"), (-0.3, -0.6, "undecided"), (0.6, 0.6, "undecided")],
)
def test_an_arm_that_is_misled_relies_on_the_outline_as_one_that_is_helped(config, augmented, masked, outcome):
    arms = [name for name, arm in config.arms.items() if arm.augmentation_only]
    claim = summarised(config, runs_of(config, {**dict.fromkeys(arms, augmented), "layer_masking": masked}))
    assert [outcome_of(claim, case)["outcome"] for case in CLAIMS] == [outcome] * 2


def test_nothing_is_decided_where_the_baseline_has_learned_nothing(config):
    runs = runs_of(config, dict.fromkeys(config.arms, 0.6) | {"layer_masking": 0.0})
    assert outcome_of(summarised(config, runs), "own")["outcome"] == "supported"

    def unlearned(run):
        return {method: answering(each, clean=(each.labels + 1) % 4) for method, each in run.items()}

    runs["no_masks"] = {seed: unlearned(run) for seed, run in runs["no_masks"].items()}
    claim = summarised(config, runs)
    for case in CLAIMS:
        found = outcome_of(claim, case)
        assert found["outcome"] == "undecided"
        assert found["reason"].startswith(
            "'No masks' has learned nothing: its mean recall over classes with nothing hidden, 0.0"
        )
    runs["no_masks"][1] = runs["layer_masking"][1]  # one seed has learned
    assert outcome_of(summarised(config, runs), "own")["outcome"] == "supported"


@pytest.fixture
def wide(config):
    """The same claim with a margin that 400 images are enough for."""
    return replace(config, rule=replace(config.rule, margin=0.12))


def test_arms_that_do_not_rely_refute_whatever_layer_masking_does(wide):
    for masked in (0.0, 0.6):
        claim = summarised(wide, runs_of(wide, {"no_masks": 0.9, "layer_masking": masked}))
        assert [outcome_of(claim, case)["outcome"] for case in CLAIMS] == ["refuted"] * 2
        assert "never trained on masks" not in outcome_of(claim, "needed")["reason"]


def test_five_seeds_refute_nothing_however_little_they_rely(wide):
    few = replace(wide, seeds=wide.seeds[:5])
    claim = summarised(few, runs_of(few, {"no_masks": 0.9}))
    assert [outcome_of(claim, case)["outcome"] for case in CLAIMS] == ["undecided"] * 2
    assert "Refuting 6 pairs takes 8 seeds, got 5." in claim["known_before"]


def test_what_the_fill_does_is_not_taken_for_what_the_training_does(wide):
    claim = summarised(wide, runs_of(wide, {"no_masks": 0.0, "layer_masking": 0.0}))
    own, needed = (outcome_of(claim, case) for case in CLAIMS)
    assert own["outcome"] == "undecided" and "so there is nothing to prevent" in own["reason"]
    sentence = "'No masks', which was never trained on masks, relies as little under"
    assert needed["outcome"] == "refuted" and sentence in needed["reason"]


def test_a_baseline_that_is_not_shown_to_rely_refutes_nothing(wide):
    """Nor is it shown to rely little: whether there is something to prevent stays open."""
    own = outcome_of(summarised(wide, runs_of(wide, {"no_masks": 0.25})), "own")
    assert own["outcome"] == "undecided" and "nothing to prevent" not in own["reason"]


@pytest.mark.parametrize("condition", ["circle", "half"])
def test_an_arm_that_gives_one_answer_behind_holes_or_is_at_chance_refutes_nothing(wide, condition):
    name = {"circle": "circle", "half": retention_condition(0.5)}[condition]
    skills, arms = {"no_masks": 0.9}, [name for name, arm in wide.arms.items() if arm.augmentation_only]
    runs = runs_of(wide, skills)

    def broken(run):
        one = np.zeros_like(run["mean"].labels)
        same = {name: one} | ({"silhouette": one} if condition == "circle" else {})
        return dict.fromkeys(run, answering(run["mean"], **same))

    for arm in arms:
        runs[arm] = {seed: broken(run) for seed, run in runs[arm].items()}
    assert outcome_of(summarised(wide, runs), "own")["outcome"] == "undecided"


def test_nothing_is_decided_where_layer_masking_is_not_better_than_chance_with_patches_hidden(config):
    runs = runs_of(config, {"patches_mean": 0.9, "silhouettes_random_colour": 0.9})
    blind = {retention_condition(0.5): np.zeros(IMAGES, dtype=np.int64)}
    runs["layer_masking"] = {
        seed: {method: answering(each, **blind) for method, each in run.items()}
        for seed, run in runs["layer_masking"].items()
    }
    found = outcome_of(summarised(config, runs), "own")
    assert found["outcome"] == "undecided" and "not shown to be more than 3.0 points better" in found["reason"]


def test_pairs_have_the_differences_and_readings_of_every_arm_under_every_fill(config):
    claim = summarised(config, runs_of(config, {"patches_mean": 0.9, "silhouettes_random_colour": 0.9}), rows=True)
    rows = [Row(**each) for each in claim["rows"]]
    arms = [name for name, arm in config.arms.items() if arm.augmentation_only]
    found, bare = (
        [row for row in rows if row.measure == "reliance" and row.compared_with == name]
        for name in ("layer_masking", "no_masks")
    )
    assert [(row.network, row.method) for row in found] == [(a, m) for a in arms for m in config.evaluation.fills]
    choices = {
        name: only(rows, measure="shape_choice", network=name, method="mean", seed=None, compared_with="")
        for name in (*arms, "layer_masking", "no_masks")
    }
    for row in select(bare, method="mean"):
        of_arm, of_baseline = choices[row.network], choices["no_masks"]
        assert not row.reading
        assert row.value == pytest.approx(abs(of_arm.value - 0.5) - abs(of_baseline.value - 0.5))
    for row in select(found, method="mean"):
        of_arm, of_reference = choices[row.network], choices["layer_masking"]
        assert row.value == pytest.approx(abs(of_arm.value - 0.5) - abs(of_reference.value - 0.5))
        assert row.low > config.rule.margin and row.reading == "relies more"
        of_accuracy = {"measure": "retention", "method": "mean", "compared_with": "layer_masking"}
        kept = only(rows, network=row.network, **of_accuracy)
        assert kept.value == 0.0 and -0.01 < kept.low == -kept.high < 0.0  # no image differs


def no_valid_object(run):
    nothing = np.zeros(len(run), dtype=np.bool_)
    hidden = np.full(len(run), -1)
    blind = answering(run, **dict.fromkeys(("silhouette", "circle"), hidden))
    return replace(blind, object_valid=nothing, swap_valid=nothing)


def row_of(claim, measure):
    """Of the arm without masks under black fill, over all seeds."""
    of = {"network": "no_masks", "method": "black", "seed": None, "compared_with": ""}
    return only([Row(**each) for each in claim["rows"]], measure=measure, **of)


def shown(claim):
    console = Console(width=120, file=StringIO())
    console.print(results_table(read_results("claim", claim)))
    console.print(verdict_panel(read_results("claim", claim)))
    return render_claim(read_results("claim", claim), [])


def test_a_claim_without_any_valid_object_is_written_and_says_what_is_undefined(config, tmp_path):
    claim = summarised(config, runs_of(config, {}, no_valid_object), rows=True)
    write_json(tmp_path / "claim.json", claim)
    claim = read_json(tmp_path / "claim.json")
    assert [outcome_of(claim, case)["outcome"] for case in CLAIMS] == ["undecided"] * 2
    reason = "undefined because no image is valid for it."
    for measure in ("commonest_answer", "silhouette_leak", "shape_choice"):
        row = row_of(claim, measure)
        assert (row.value, row.low, row.high, row.undefined_because) == (None, None, None, reason)
    assert row_of(claim, "retention").value is not None
    assert reason in shown(claim)


def losing(config, arm, share):
    """Runs in which an arm is wrong on a share of the images that the baseline gets right."""
    runs = runs_of(config, {"patches_mean": 0.9, "silhouettes_random_colour": 0.9})
    for seed, run in runs[arm].items():
        clean = np.where(np.arange(IMAGES) >= share * IMAGES, run["mean"].labels, run["mean"].labels + 1)
        runs[arm][seed] = {method: answering(each, clean=clean) for method, each in run.items()}
    return runs


def test_reasons_and_comparisons_speak_of_the_accuracy_that_the_table_shows(config):
    """Not of that on other images, as on the validation split."""
    claim = summarised(config, losing(config, "layer_masking", 0.2), rows=True)
    clean = {"measure": "clean_accuracy", "method": "layer_masking"}
    rows = [Row(**each) for each in claim["rows"] if each["seed"] is None]
    lost = only(rows, network="layer_masking", measure="clean_accuracy", compared_with="no_masks")
    masked, bare = (only(rows, network=arm, **clean, compared_with="") for arm in ("layer_masking", "no_masks"))
    assert lost.value == pytest.approx(masked.value - bare.value) == pytest.approx(-0.2)
    assert f"loses {100 * (bare.value - masked.value):.1f} points" in outcome_of(claim, "needed")["reason"]


def test_nothing_is_decided_where_layer_masking_is_shown_to_cost_clean_accuracy(config):
    found = outcome_of(summarised(config, losing(config, "layer_masking", 0.2)), "needed")
    assert found["outcome"] == "undecided" and "loses 20.0 points" in found["reason"]
    assert "tolerance of 3.0, so" in found["reason"]


@pytest.mark.parametrize(
    ("share", "is_below", "counts"),
    [(0.04, False, True), (0.055, True, True), (0.2, True, False)],  # shown by no interval, by that of 95 %, by both
)
def test_an_arm_counts_unless_a_sixth_of_the_level_shows_that_it_loses_clean_accuracy(config, share, is_below, counts):
    rows = [Row(**each) for each in summarised(config, losing(config, "patches_mean", share))["rows"]]
    lost = only(rows, network="patches_mean", measure="clean_accuracy", compared_with="no_masks")
    compared = only(rows, network="patches_mean", measure="reliance", method="mean", compared_with="layer_masking")
    assert lost.value < -0.03 and (lost.high < -0.03) is is_below
    assert (compared.reading != "does not count") == counts


@pytest.mark.parametrize(("seeds", "outcome"), [(2, "undecided"), (5, "supported")])
def test_fewer_than_three_seeds_leave_both_claims_open(config, seeds, outcome):
    few = replace(config, seeds=config.seeds[:seeds])
    claim = summarised(few, runs_of(few, {"patches_mean": 0.9, "silhouettes_random_colour": 0.9}))
    assert [outcome_of(claim, case)["outcome"] for case in CLAIMS] == [outcome] * 2
    assert (
        ("cannot decide" in claim["known_before"])
        is ("cannot decide" in outcome_of(claim, "own")["reason"])
        is (seeds < 3)
    )
