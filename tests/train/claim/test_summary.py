"""From outcomes to a verdict: methods chosen, comparisons' signs, the rule, and numbers that are not defined."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.estimates.comparison import ComparedMagnitude
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.measures.information import mutual_information
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row, only
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.claim.runs import MeasuredRun
from maskrobust.train.claim.summary import compare, summarise
from maskrobust.train.claim.verdict import CASES, Comparison, choose_cases, decide, rule_in_words
from maskrobust.train.report.pages import render_claim
from maskrobust.train.report.results import Results
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.storage.files import read_json, write_json
from tests.lm_modules.reliance.tables import answering, make_outcomes, misled
from tests.train.tiny import tiny_claim

IMAGES = 400
Change = Callable[[Outcomes], Outcomes]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    further = "--evaluation.plan.shape_measures=[swap_pull, hidden_pixel_sensitivity]"
    parsed = parse_config([f"--config={path}", f"--out={folder}", further])
    return replace(parsed, seeds=[*range(1, 6)])


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    """Intervals of chance from few permutations, which nothing here looks at."""
    monkeypatch.setitem(mutual_information.__kwdefaults__, "permutations", 20)


def runs_of(config, skills, change=lambda run: run):
    """Made-up outcomes of every arm; a negative skill reads the outline as well as a positive one, and is misled."""

    def outcomes(place, arm, seed):
        skill = skills.get(arm, 0.0)
        made = make_outcomes(IMAGES, seed=1 + seed + 10 * place, skill=abs(skill))
        made = answering(made, clean=made.labels)
        return change(misled(made) if skill < 0 else made)

    return {
        arm: {seed: run_with(config, outcomes(place, arm, seed)) for seed in config.seeds}
        for place, arm in enumerate(config.arms)
    }


def run_with(config, outcomes):
    """The same answers under every masking method, on both splits."""
    by_method = dict.fromkeys(config.evaluation.methods, outcomes)
    return MeasuredRun(by_method, by_method, {})


def outcome_of(claim, case):
    """What has come of one of the two claims, by the rule's own tolerance."""
    (found,) = (each for each in Results.read("claim", claim).verdicts if each["case"] == case)
    return found


def summarised(config, runs):
    some = runs["no_masks"][config.seeds[0]].outcomes["black"]
    probe = ProbeOutcomes(some.ids, some.labels, some.labels)
    return summarise(config, runs, probe, seconds=1.0, command="maskrobust claim").as_json()


@pytest.mark.parametrize(
    ("augmented", "masked", "outcome"),
    [
        *((0.6, 0.3, "supported"), (-0.6, -0.3, "supported")),
        *((0.6, -0.3, "supported"), (-0.3, -0.6, "refuted")),
    ],
)
def test_an_arm_that_is_misled_relies_on_the_outline_as_one_that_is_helped(config, augmented, masked, outcome):
    arms = [name for name, arm in config.arms.items() if arm.augmentation_only]
    claim = summarised(config, runs_of(config, {**dict.fromkeys(arms, augmented), "layer_masking": masked}))
    assert [outcome_of(claim, case)["outcome"] for case in CASES] == [outcome] * 2
    assert claim["caveat"] is None


def test_nothing_is_decided_where_the_baseline_has_learned_nothing(config):
    runs = runs_of(config, dict.fromkeys(config.arms, 0.6) | {"layer_masking": 0.0})
    assert outcome_of(summarised(config, runs), "own")["outcome"] == "supported"

    def unlearned(run):
        outcomes = {method: answering(each, clean=(each.labels + 1) % 4) for method, each in run.outcomes.items()}
        return run._replace(outcomes=outcomes)

    runs["no_masks"] = {seed: unlearned(run) for seed, run in runs["no_masks"].items()}
    claim = summarised(config, runs)
    for case in CASES:
        found = outcome_of(claim, case)
        assert found["outcome"] == "undecided"
        assert found["reason"].startswith("'No masks' has learned nothing: its accuracy with nothing hidden, 0.0")
    runs["no_masks"][1] = runs["layer_masking"][1]  # one seed has learned
    assert outcome_of(summarised(config, runs), "own")["outcome"] == "supported"


@pytest.mark.parametrize(("baseline", "said"), [(0.0, True), (0.9, False)])
def test_a_refuted_claim_says_where_the_fill_does_it_and_not_the_training(config, baseline, said):
    verdict = outcome_of(summarised(config, runs_of(config, {"no_masks": baseline, "layer_masking": 0.6})), "best")
    sentence = " So does that of 'No masks', which was never trained on masks, under black fill: the fill does it, not "
    assert verdict["outcome"] == "refuted" and (sentence in verdict["reason"]) is said


def test_only_arms_that_count_share_the_level_and_only_of_their_upper_bounds(config):
    runs = runs_of(config, {"patches_mean": 0.6, "silhouettes_random_colour": 0.6})
    some = runs["no_masks"][config.seeds[0]].outcomes["black"]
    probe = ProbeOutcomes(some.ids, some.labels, some.labels)

    cases = choose_cases(config, {arm: [run.validation for run in of.values()] for arm, of in runs.items()})
    losses = dict.fromkeys(config.arms, 0.0)

    def levels():
        eligible = [arm for arm, loss in losses.items() if loss <= config.rule.clean_accuracy_tolerance]
        return [
            [each.compared.level_low, each.compared.level_high]
            for each in compare(config, runs, cases, "own", probe, eligible)
        ]

    assert np.sort(levels(), axis=0) == pytest.approx(np.array([[0.025, 0.0125], [0.025, 0.0125]]))
    losses["patches_mean"] = 1.0
    assert np.array(levels()) == pytest.approx(0.025)


def no_valid_object(run):
    nothing = np.zeros(len(run), dtype=np.bool_)
    hidden = np.full(len(run), -1)
    blind = answering(run, **dict.fromkeys(("silhouette", "circle", "whole", "broken"), hidden))
    return replace(blind, object_valid=nothing, sensitivity=np.full(len(run), float("nan")))


def row_of(claim, measure):
    """Of the arm without masks under black fill, over all seeds."""
    of = {"network": "no_masks", "method": "black", "seed": None, "compared_with": ""}
    row = only([Row(**each) for each in claim["rows"]], measure=measure, **of)
    assert row is not None
    return row


def shown(claim):
    console = Console(width=120, file=StringIO())
    console.print(results_table(Results.read("claim", claim)))
    console.print(verdict_panel(Results.read("claim", claim)))
    return render_claim(Results.read("claim", claim), [])


def test_a_claim_without_any_valid_object_is_written_and_says_what_is_undefined(config, tmp_path):
    claim = summarised(config, runs_of(config, {}, no_valid_object))
    write_json(tmp_path / "claim.json", claim)
    claim = read_json(tmp_path / "claim.json")
    assert [outcome_of(claim, case)["outcome"] for case in CASES] == ["undecided"] * 2
    reason = "undefined because no image is valid for it."
    for measure in ("hidden_pixel_sensitivity", "information_circle", "information_silhouette", "silhouette_leak"):
        row = row_of(claim, measure)
        assert (row.value, row.low, row.high, row.undefined_because) == (None, None, None, reason)
    assert row_of(claim, "retention").value is not None
    assert reason in shown(claim)


def test_a_sensitivity_that_is_not_finite_is_null_with_the_reason(config):
    def overflown(run):
        return replace(run, sensitivity=np.where(run.ids == run.ids[3], np.inf, run.sensitivity))

    claim = summarised(config, runs_of(config, {}, overflown))
    json.dumps(claim, allow_nan=False)
    found = row_of(claim, "hidden_pixel_sensitivity")
    assert (found.value, found.undefined_because) == (None, "undefined because a logit is not finite.")
    assert "a logit is not finite" in shown(claim)


def test_clean_accuracy_counts_on_the_validation_split_alone(config):
    """On the measured split the arm fails; on the validation split it does as well as the baseline."""
    runs = {
        arm: dict(of) for arm, of in runs_of(config, {"patches_mean": 0.6, "silhouettes_random_colour": 0.6}).items()
    }
    for seed, run in runs["patches_mean"].items():
        failed = answering(run.outcomes["mean"], clean=(run.outcomes["mean"].labels + 1) % 4)
        runs["patches_mean"][seed] = run._replace(outcomes=dict.fromkeys(run.outcomes, failed))
    rows = [Row(**each) for each in summarised(config, runs)["rows"]]
    of_rule = {"case": "own", "tolerance": config.rule.clean_accuracy_tolerance}
    compared = only(rows, network="patches_mean", measure="reliance", parameters=of_rule)
    assert compared is not None and compared.reading != "does not count"
    lost = only(rows, network="patches_mean", measure="clean_accuracy", compared_with="no_masks")
    assert lost is not None and lost.value == 0.0


def test_a_single_seed_is_a_caveat_in_the_claim(config):
    single = replace(config, seeds=config.seeds[:1])
    assert "With one seed" in summarised(single, runs_of(single, {}))["caveat"]


FEWER = 200
"""Retention and leak by masking method."""


@pytest.fixture(scope="module")
def small_claim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    return parse_config([f"--config={tiny_claim('claim_cues.yaml', folder / 'claim.yaml')}", f"--out={folder}"])


def answers_with(retention, leak):
    """Answers with this very retention and leak."""
    made = make_outcomes(FEWER, seed=0)
    wrong = (made.labels + 1) % made.num_classes

    def right_in(fraction):
        return np.where(np.arange(FEWER) < round(fraction * FEWER), made.labels, wrong)

    holes = {"silhouette": right_in(0.5 + leak / 2), "circle": right_in(0.5 - leak / 2)}
    return answering(made, **holes, **{retention_condition(0.5): right_in(retention)})


def cases_of(small_claim, arm, *truths, reference=0.7):
    """The cases of one arm, by seed; the layer-masking arm keeps `reference` under its own method."""
    dull = {method: (reference, 0.0) for method in small_claim.evaluation.methods}
    by_arm = dict.fromkeys(small_claim.arms, (dull,) * len(truths)) | {arm: truths}
    runs = {
        name: [{method: answers_with(*each) for method, each in of.items()} for of in by_seed]
        for name, by_seed in by_arm.items()
    }
    return choose_cases(small_claim, runs)[arm]


def test_the_best_case_is_the_least_leak_by_magnitude_among_those_that_keep_retention(small_claim):
    truth = {"black": (0.4, 0.0), "mean": (0.67, -0.2), "layer_masking": (0.9, 0.0)}
    found = cases_of(small_claim, "patches_mean", truth)
    assert found.methods == {"best": ("mean",), "own": ("mean",)} and found.keeps_retention
    found = cases_of(small_claim, "silhouettes_random_colour", truth | {"black": (0.68, 0.1)})
    assert found.methods == {"best": ("black",), "own": ("black",)}
    assert found.candidates["black"] == pytest.approx((0.68, 0.1))


def test_every_other_seed_chooses_the_best_case_for_the_rest(small_claim):
    black = {"black": (0.7, 0.0), "mean": (0.7, 0.2), "layer_masking": (0.9, 0.0)}
    mean = black | {"black": (0.7, 0.2), "mean": (0.7, 0.0)}
    found = cases_of(small_claim, "patches_mean", black, mean, black)
    assert found.methods == {"best": ("mean", "black", "mean"), "own": ("mean",) * 3}
    inaccurate = {"black": (0.5, 0.0), "mean": (0.4, 0.0), "layer_masking": (0.9, 0.0)}
    assert not cases_of(small_claim, "patches_mean", black, inaccurate).keeps_retention


def test_where_none_keeps_retention_the_one_that_keeps_most_is_taken_and_said(small_claim):
    found = cases_of(
        small_claim, "patches_mean", {"black": (0.5, 0.3), "mean": (0.4, 0.0), "layer_masking": (0.9, 0.0)}
    )
    assert found.methods["best"] == ("black",) and not found.keeps_retention


def test_layer_masking_is_a_candidate_for_the_arm_whose_own_it_is_alone(small_claim):
    truth = {"black": (0.6, 0.3), "mean": (0.6, 0.2), "layer_masking": (0.7, 0.0)}
    assert cases_of(small_claim, "layer_masking", truth).methods["best"] == ("layer_masking",)
    assert cases_of(small_claim, "no_masks", truth).methods["best"] == ("black",)


def test_arms_without_a_valid_object_are_looked_at_by_their_retention(small_claim, tmp_path):
    nothing = np.full(FEWER, -1)
    blind = answering(answers_with(0.7, 0.0), silhouette=nothing, circle=nothing)
    runs = {name: [dict.fromkeys(small_claim.evaluation.methods, blind)] for name in small_claim.arms}
    assert all(case.candidates["black"].leak == 0.0 for case in choose_cases(small_claim, runs).values())


RULE = DecisionRule(baseline="plain", layer_masking_arm="masked", margin=0.05, clean_accuracy_tolerance=0.03)
TITLES = {"plain": "No masks", "masked": "Layer masking"}


def comparison(low, high, *, arm="augmented", loss=0.0):
    return of_estimate(Estimate((low + high) / 2, low, high, images=100, left_out=0), arm, loss)


def of_estimate(estimate, arm="augmented", loss=0.0):
    compared = ComparedMagnitude(estimate, 0.025, 0.025)
    return Comparison(arm, f"Title of {arm}", "mean", compared, loss <= RULE.clean_accuracy_tolerance)


@pytest.mark.parametrize(
    ("intervals", "outcome"),
    [
        ([(0.06, 0.2)], "supported"),
        ([(0.06, 0.2), (0.3, 0.4)], "supported"),
        ([(0.05, 0.2)], "undecided"),
        ([(0.04, 0.2)], "undecided"),
        ([(-0.1, 0.04)], "refuted"),
        ([(0.06, 0.2), (-0.1, 0.04)], "refuted"),
        ([(-0.1, 0.05)], "undecided"),
        ([(0.06, 0.2), (0.0, 0.2)], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_outcome_follows_the_intervals_and_the_margin(intervals, outcome):
    assert decide(RULE, [comparison(*interval) for interval in intervals], 0.0).outcome == outcome


def test_an_arm_that_lost_accuracy_does_not_count():
    weak = comparison(-0.1, 0.0, arm="weak", loss=0.04)
    assert decide(RULE, [weak, comparison(0.1, 0.2)], 0.0).outcome == "supported"
    assert decide(RULE, [weak], 0.0).outcome == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "loss", "reading"),
    [
        (0.06, 0.2, 0.0, "above the margin"),
        (-0.1, 0.04, 0.0, "within the margin"),
        (0.05, 0.2, 0.0, "not settled"),
        (0.06, 0.2, 0.04, "does not count"),
    ],
)
def test_a_comparison_is_read_once_in_words(low, high, loss, reading):
    assert comparison(low, high, loss=loss).reading(RULE.margin) == reading


def test_nothing_is_decided_when_layer_masking_lost_accuracy():
    verdict = decide(RULE, [comparison(0.1, 0.2)], layer_masking_loss=0.031)
    assert "loses 3.1 points" in verdict.reason and "tolerance of 3.0, so" in verdict.reason
    assert verdict.outcome == "undecided"


def test_an_undefined_share_leaves_the_claim_undecided_and_says_why():
    undefined = Estimate(None, None, None, images=100, left_out=0, undefined_because="outlines hold nothing.")
    verdict = decide(RULE, [of_estimate(undefined)], 0.0)
    assert verdict.outcome == "undecided"
    assert "outlines hold nothing." in verdict.reason


def test_an_undefined_share_does_not_hide_that_another_arm_refutes():
    undefined = Estimate(None, None, None, images=100, left_out=0, undefined_because="outlines hold nothing.")
    unknown = of_estimate(undefined, "unknown")
    verdict = decide(RULE, [unknown, comparison(-0.1, 0.04)], 0.0)
    assert verdict.outcome == "refuted"
    assert "'Title of augmented'" in verdict.reason and "unknown" not in verdict.reason
    assert decide(RULE, [unknown, comparison(0.06, 0.2)], 0.0).outcome == "undecided"


def test_an_arm_that_no_fill_keeps_as_accurate_decides_nothing():
    inaccurate = comparison(-0.1, 0.0, arm="inaccurate")._replace(keeps_retention=False)
    assert inaccurate.reading(RULE.margin) == "keeps too little"
    assert decide(RULE, [inaccurate, comparison(0.1, 0.2)], 0.0).outcome == "supported"
    assert decide(RULE, [inaccurate, comparison(-0.1, 0.0)], 0.0).outcome == "refuted"
    alone = decide(RULE, [inaccurate], 0.0)
    assert alone.outcome == "undecided" and alone.reason.startswith("No fill keeps the accuracy")


def test_the_rule_in_words_names_its_numbers():
    text = " ".join(rule_in_words(RULE, TITLES))
    assert all(
        part in text
        for part in ("3.0 points", "0.05", "2.5% of experiments", "0.025 / m", "'No masks'", "'Layer masking'")
    )
