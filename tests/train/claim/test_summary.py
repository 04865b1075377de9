"""From made-up outcomes to claim.json: the comparisons' signs, and numbers that are not defined."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.measures.information import mutual_information
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row, only
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.runs import MeasuredRun
from maskrobust.train.claim.summary import ArmRuns, compare, summarise
from maskrobust.train.claim.verdict import CASES, choose_cases
from maskrobust.train.report.pages import render_claim
from maskrobust.train.report.results import Results
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.storage.files import read_json, write_json
from tests.lm_modules.reliance.tables import answering, make_outcomes, misled
from tests.train.tiny import tiny_claim

IMAGES = 400
Change = Callable[[Outcomes], Outcomes]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ClaimConfig:
    folder = tmp_path_factory.mktemp("summary")
    parsed = parse_config([f"--config={tiny_claim('claim_cues.yaml', folder / 'claim.yaml')}", f"--out={folder}"])
    return replace(parsed, seeds=[*range(1, 6)])


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of chance from few permutations, which nothing here looks at."""
    monkeypatch.setitem(mutual_information.__kwdefaults__, "permutations", 20)


def runs_of(config: ClaimConfig, skills: Mapping[str, float], change: Change = lambda run: run) -> ArmRuns:
    """Made-up outcomes of every arm; a negative skill reads the outline as well as a positive one, and is misled."""

    def outcomes(place: int, arm: str, seed: int) -> Outcomes:
        skill = skills.get(arm, 0.0)
        made = make_outcomes(IMAGES, seed=1 + seed + 10 * place, skill=abs(skill))
        made = answering(made, clean=made.labels)
        return change(misled(made) if skill < 0 else made)

    return {
        arm: {seed: run_with(config, outcomes(place, arm, seed)) for seed in config.seeds}
        for place, arm in enumerate(config.arms)
    }


def run_with(config: ClaimConfig, outcomes: Outcomes) -> MeasuredRun:
    """The same answers under every masking method, on both splits."""
    by_method = dict.fromkeys(config.evaluation.methods, outcomes)
    return MeasuredRun(by_method, by_method, {})


def outcome_of(claim: Mapping[str, Any], case: str) -> dict[str, Any]:
    """What has come of one of the two claims, by the rule's own tolerance."""
    (found,) = (each for each in Results.read("claim", claim).verdicts if each["case"] == case)
    return found


def summarised(config: ClaimConfig, runs: ArmRuns) -> dict[str, Any]:
    some = runs["no_masks"][config.seeds[0]].outcomes["black"]
    probe = ProbeOutcomes(some.ids, some.labels, some.labels)
    return summarise(config, runs, probe, seconds=1.0, command="maskrobust claim").as_json()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("augmented", "masked", "outcome"),
    [(0.6, 0.0, "supported"), (0.6, 0.3, "supported"), (0.3, 0.6, "refuted"), (0.6, -0.3, "supported")],
)
def test_an_arm_that_is_misled_relies_on_the_outline_as_one_that_is_helped(
    config: ClaimConfig, augmented: float, masked: float, outcome: str, sign: int
) -> None:
    arms = [name for name, arm in config.arms.items() if arm.augmentation_only]
    runs = runs_of(config, {**dict.fromkeys(arms, sign * augmented), "layer_masking": sign * masked})
    claim = summarised(config, runs)
    assert [outcome_of(claim, case)["outcome"] for case in CASES] == [outcome] * 2


def test_a_misled_layer_masking_arm_lends_no_support(config: ClaimConfig) -> None:
    claim = summarised(config, runs_of(config, {"layer_masking": -0.6}))
    assert [outcome_of(claim, case)["outcome"] for case in CASES] == ["refuted"] * 2


@pytest.mark.parametrize(("baseline", "said"), [(0.0, True), (0.9, False)])
def test_a_refuted_claim_says_where_the_fill_does_it_and_not_the_training(
    config: ClaimConfig, baseline: float, said: bool
) -> None:
    verdict = outcome_of(summarised(config, runs_of(config, {"no_masks": baseline, "layer_masking": 0.6})), "best")
    sentence = " So does that of 'No masks', which was never trained on masks, under black fill: the fill does it, not "
    assert verdict["outcome"] == "refuted" and (sentence in verdict["reason"]) is said


def test_sentences_call_arms_by_their_titles(config: ClaimConfig) -> None:
    arms = [name for name, arm in config.arms.items() if arm.augmentation_only]
    for skills in ({}, dict.fromkeys(arms, 0.6), {"layer_masking": 0.6}):
        found = summarised(config, runs_of(config, skills))
        said = [*found["rule"]["text"], *(each["reason"] for each in found["verdicts"])]
        assert [name for name in config.arms if any(f"'{name}'" in sentence for sentence in said)] == []
        assert any(f"'{config.arms['layer_masking'].title}'" in sentence for sentence in said)


def test_only_arms_that_count_share_the_level_and_only_of_their_upper_bounds(
    config: ClaimConfig,
) -> None:
    runs = runs_of(config, {"patches_mean": 0.6, "silhouettes_random_colour": 0.6})
    some = runs["no_masks"][config.seeds[0]].outcomes["black"]
    probe = ProbeOutcomes(some.ids, some.labels, some.labels)

    cases = choose_cases(config, {arm: [run.validation for run in of.values()] for arm, of in runs.items()})
    losses = dict.fromkeys(config.arms, 0.0)

    def levels() -> list[list[float]]:
        eligible = [arm for arm, loss in losses.items() if loss <= config.rule.clean_accuracy_tolerance]
        return [
            [each.compared.level_low, each.compared.level_high]
            for each in compare(config, runs, cases, "own", probe, eligible)
        ]

    assert np.sort(levels(), axis=0) == pytest.approx(np.array([[0.025, 0.0125], [0.025, 0.0125]]))
    losses["patches_mean"] = 1.0
    assert np.array(levels()) == pytest.approx(0.025)


def no_valid_object(run: Outcomes) -> Outcomes:
    nothing = np.zeros(len(run), dtype=np.bool_)
    hidden = np.full(len(run), -1)
    blind = answering(run, **dict.fromkeys(("silhouette", "circle", "whole", "broken"), hidden))
    return replace(blind, object_valid=nothing, sensitivity=np.full(len(run), float("nan")))


def row_of(claim: Mapping[str, Any], measure: str) -> Row:
    """Of the arm without masks under black fill, over all seeds."""
    of = {"network": "no_masks", "method": "black", "seed": None, "compared_with": ""}
    row = only([Row(**each) for each in claim["rows"]], measure=measure, **of)
    assert row is not None
    return row


def shown(claim: Mapping[str, Any]) -> str:
    console = Console(width=120, file=StringIO())
    console.print(results_table(Results.read("claim", claim)))
    console.print(verdict_panel(Results.read("claim", claim)))
    return render_claim(Results.read("claim", claim), [])


def test_a_claim_without_any_valid_object_is_written_and_says_what_is_undefined(
    config: ClaimConfig, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize("change", [float("nan"), float("inf")])
def test_a_sensitivity_that_is_not_finite_is_null_with_the_reason(config: ClaimConfig, change: float) -> None:
    def overflown(run: Outcomes) -> Outcomes:
        return replace(run, sensitivity=np.where(run.ids == run.ids[3], change, run.sensitivity))

    claim = summarised(config, runs_of(config, {}, overflown))
    json.dumps(claim, allow_nan=False)
    found = row_of(claim, "hidden_pixel_sensitivity")
    assert (found.value, found.undefined_because) == (None, "undefined because a logit is not finite.")
    assert "a logit is not finite" in shown(claim)


def test_clean_accuracy_counts_on_the_validation_split_alone(config: ClaimConfig) -> None:
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


def test_a_single_seed_is_a_caveat_in_the_claim(config: ClaimConfig) -> None:
    assert summarised(config, runs_of(config, {}))["caveat"] is None
    single = replace(config, seeds=config.seeds[:1])
    assert "With one seed" in summarised(single, runs_of(single, {}))["caveat"]
