"""The rule on pairs of an arm and a fill: what decides, at which level, in which words; and what a design can show."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import claim_levels
from maskrobust.lm_modules.reliance.estimates.comparison import MagnitudeDifference
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Part, WithError
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.claim.power import (
    IMAGE_DEVIATION,
    SEED_DEVIATION,
    chance_to_show,
    least_difference,
    power_in_words,
)
from maskrobust.train.claim.verdict import Pair, decide, few_seeds, fills_in_words, readings, rule_in_words
from maskrobust.train.report.wording import decimal

RULE = DecisionRule(baseline="plain", layer_masking_arm="masked", margin=0.05, clean_accuracy_tolerance=0.03)
TITLES = {"plain": "No masks", "masked": "Layer masking"}
SOME = Estimate(0.0, -0.1, 0.1, images=100, left_out=0)
UNDEFINED = Estimate(
    None, None, None, images=100, left_out=0, undefined_because="undefined because outlines hold nothing."
)


def pair(less=0.5, enough=0.5, more=0.5, little=0.5, **changes):
    """A pair with these p-values; of 'Arm' under the black fill of its training unless `changes` say otherwise."""
    made = Pair("arm", "Arm", "black", True, True, SOME, SOME, less, enough, more, little)
    return made._replace(**changes)


RELIES_MORE, KEEPS_LESS = {"more": 0.001}, {"less": 0.001}
AS_WELL = {"enough": 0.001, "little": 0.001}
OTHER = {"fill": "mean", "is_own": False}


@pytest.mark.parametrize(
    ("pairs", "own", "needed"),
    [
        ([pair(**RELIES_MORE)], "supported", "supported"),
        ([pair(**RELIES_MORE), pair(**RELIES_MORE, **OTHER)], "supported", "supported"),
        ([pair(**RELIES_MORE), pair(**KEEPS_LESS, **OTHER)], "supported", "supported"),  # no fill keeps the accuracy
        ([pair(**KEEPS_LESS)], "undecided", "supported"),
        ([pair(**RELIES_MORE), pair(**OTHER)], "supported", "undecided"),
        ([pair(**RELIES_MORE), pair(**AS_WELL, **OTHER)], "supported", "refuted"),
        ([pair(**RELIES_MORE), pair(little=0.001, **OTHER)], "supported", "undecided"),
        ([pair(**RELIES_MORE), pair(enough=0.001, **OTHER)], "supported", "undecided"),
        ([pair(little=0.001)], "refuted", "undecided"),
        ([pair(little=0.001, **KEEPS_LESS)], "refuted", "supported"),
        ([pair(**AS_WELL, counts=False), pair(**RELIES_MORE)], "supported", "supported"),
        ([pair(**AS_WELL, counts=False)], "undecided", "undecided"),
        ([], "undecided", "undecided"),
    ],
)
def test_every_pair_must_fail_one_that_does_as_well_is_enough(pairs, own, needed):
    found = decide(RULE, pairs)
    assert (found["own"].outcome, found["needed"].outcome) == (own, needed)


@pytest.mark.parametrize(
    ("p_values", "own", "needed"),
    [
        ({"more": 0.0166}, "supported", "undecided"),  # a third is left for arms that do not count
        ({"more": 0.0168}, "undecided", "undecided"),
        ({"more": 0.0083}, "supported", "supported"),  # the second claim has two ways to be shown
        ({"less": 0.0083}, "undecided", "supported"),
        ({"less": 0.0084, "more": 0.0084}, "supported", "undecided"),
    ],
)
def test_each_of_two_ways_to_fail_has_a_third_of_the_level(p_values, own, needed):
    found = decide(RULE, [pair(**p_values)])
    assert (found["own"].outcome, found["needed"].outcome) == (own, needed)


@pytest.mark.parametrize(("p_value", "outcome"), [(0.0124, "refuted"), (0.0126, "undecided")])
def test_refuting_takes_holms_level_over_arms_and_over_pairs(p_value, outcome):
    two = [pair(little=p_value), pair(arm="other", title="Other")]
    assert decide(RULE, two)["own"].outcome == outcome
    pairs = [pair(enough=p_value, little=p_value), pair(**OTHER)]
    assert decide(RULE, pairs)["needed"].outcome == outcome
    assert (
        decide(RULE, [pair(little=p_value), pair(**OTHER)])["own"].outcome == "refuted"
    )  # one arm alone has the level
    clearest_first = [pair(**AS_WELL), pair(enough=0.024, little=0.024, **OTHER)]
    assert readings(RULE, clearest_first) == ["does as well", "does as well"]


def test_a_pair_is_read_once_in_words():
    found = [pair(**KEEPS_LESS), pair(**RELIES_MORE), pair(**KEEPS_LESS, **RELIES_MORE), pair(), pair(counts=False)]
    assert readings(RULE, found) == [
        "keeps less",
        "relies more",
        "keeps less and relies more",
        "open",
        "does not count",
    ]


def test_reasons_name_pairs_the_fills_of_each_arm_together():
    left = [pair(), pair(**OTHER), pair(arm="b", title="B", **RELIES_MORE)]
    assert "Open: 'Arm' under black fill and mean colour fill; more seeds" in decide(RULE, left)["needed"].reason
    supported = decide(RULE, [pair(**RELIES_MORE), pair(**KEEPS_LESS, **OTHER)])["needed"].reason
    assert "2 pairs in all: 1 keep less" in supported
    assert decide(RULE, [pair(**AS_WELL)])["needed"].reason.startswith("'Arm' under black fill: shown to keep")


def test_an_undefined_share_leaves_a_pair_open_says_why_and_hides_no_other():
    undefined = pair(reliance=UNDEFINED, more=1.0, little=1.0)
    assert decide(RULE, [undefined])["own"].reason.endswith(
        "the used share is undefined because outlines hold nothing."
    )
    assert decide(RULE, [undefined, pair(**AS_WELL, arm="b", title="B")])["needed"].outcome == "refuted"
    assert decide(RULE, [undefined._replace(keeps_less=0.001)])["needed"].outcome == "supported"


def real_verdicts(found):
    """The verdicts of both claims for each experiment of the simulation, by the rule's own code."""
    trials, arms, fills = found.minus[0].shape
    images = np.inf

    def number(values, scale, *place):
        value, variance = values
        of_images = 2 * (scale * found.errors.images) ** 2
        return WithError(float(value[place]), Part(float(variance[place]), found.seeds - 1), Part(of_images, images))

    def pair_of(*place):
        reliance = MagnitudeDifference(number(found.minus, 1, *place), number(found.plus, 1, *place))
        kept = number(found.kept, 0.5, *place)
        return pair(
            kept.negated().level_above(RULE.retention_tolerance),
            kept.level_above(-RULE.retention_tolerance),
            reliance.level_to_exceed(RULE.margin),
            reliance.level_to_fall_below(RULE.margin),
            is_own=place[2] == 0,
            counts=number(found.clean, 0.5, place[0], place[1], 0).high(0.025 / 3) >= -RULE.clean_accuracy_tolerance,
        )

    return [
        {
            claim: verdict.outcome
            for claim, verdict in decide(
                RULE, [pair_of(trial, arm, fill) for arm in range(arms) for fill in range(fills)]
            ).items()
        }
        for trial in range(trials)
    ]


@pytest.mark.parametrize(("seeds", "arms", "fills", "share"), [(3, 1, 2, 0.3), (8, 2, 2, 0.12), (8, 2, 1, 0.02)])
def test_the_simulation_decides_as_the_rule_does(seeds, arms, fills, share):
    rng = np.random.default_rng(seeds)
    shares = np.full((arms, fills), share)
    kept = rng.normal(0, 0.08, (arms, fills))
    clean = rng.normal(-RULE.clean_accuracy_tolerance, 0.03, (arms, 1))
    found = claim_levels.draw(shares, 0.02, kept, clean, seeds, claim_levels.Errors(0.03, 0.01), rng, 25)
    verdicts = real_verdicts(found)
    outcomes = []
    for claim, decide_all in (("own", claim_levels.first_claim), ("needed", claim_levels.second_claim)):
        for outcome, given in zip(("supported", "refuted"), decide_all(found), strict=True):
            assert given.tolist() == [verdict[claim] == outcome for verdict in verdicts]
            outcomes += given.tolist()
    assert any(outcomes) and not all(outcomes)


@pytest.mark.parametrize(("seeds", "arms", "fills"), [(2, 1, 1), (3, 2, 1), (8, 1, 2), (3, 2, 2)])
def test_a_wrong_verdict_is_as_seldom_as_stated(seeds, arms, fills):
    trials = 1500
    worst = claim_levels.false_verdicts(seeds, arms, fills, trials, np.random.default_rng(seeds))
    assert worst.keys() == set(claim_levels.COLUMNS)
    for name, frequency in worst.items():
        count = round(frequency * trials)
        assert stats.binomtest(count, trials, claim_levels.LEVEL, alternative="greater").pvalue > 1e-4, name


def test_the_rule_in_words_names_its_numbers_and_the_fills_that_were_tried():
    text = " ".join(rule_in_words(RULE, TITLES, 0.5))
    assert all(
        part in text for part in ("3.0 points", "0.05", "2.5\u202f% of experiments", "0.025 / m", "0.0083, one-sided")
    )
    assert "'No masks'" in text and "'Layer masking'" in text
    assert fills_in_words(["black", "mean"]).endswith("may hide the outline better.")
    assert fills_in_words(["black", "inpainting"]) == "Fills tried: black fill and inpainting."


@pytest.mark.parametrize(("seeds", "begins"), [(1, "One seed cannot"), (2, "Two seeds cannot"), (3, ""), (8, "")])
def test_fewer_than_three_seeds_decide_nothing(seeds, begins):
    assert few_seeds(seeds).startswith(begins) and bool(few_seeds(seeds)) is bool(begins)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_chance_to_show_a_difference_is_that_of_experiments(seeds):
    rng, images, level, distance = np.random.default_rng(0), 1000, 0.0125, 0.15
    of_images = IMAGE_DEVIATION / images**0.5
    runs = distance + SEED_DEVIATION * rng.normal(size=(20_000, seeds)) + of_images * rng.normal(size=(20_000, 1))
    reach = np.hypot(
        stats.t.isf(level, seeds - 1) * runs.std(axis=1, ddof=1) / seeds**0.5, stats.norm.isf(level) * of_images
    )
    expected = (runs.mean(axis=1) > reach).mean()
    assert chance_to_show(distance, seeds, images, level) == pytest.approx(expected, abs=0.015)
    assert chance_to_show(least_difference(seeds, images, level), seeds, images, level) == pytest.approx(0.8)


def design(seeds):
    arms = {name: SimpleNamespace(augmentation_only=name != "masked") for name in ("a", "b", "masked")}
    config: Any = SimpleNamespace(seeds=[*range(seeds)], rule=RULE, arms=arms)
    return power_in_words(config, 1000)


def test_the_power_is_said_and_a_design_that_cannot_decide_is_told_so():
    assert design(2) == [few_seeds(2)]
    (power, *warnings) = design(3)
    assert power.startswith("With 3 seeds and 1,000 images, 80\u202f% of experiments") and "margin is 0.05" in power
    assert any("hardly refute" in each for each in warnings)
    (power,) = design(8)
    own, needed = (decimal(0.05 + least_difference(8, 1000, 0.025 / part)) for part in (3, 6))  # half for each sign
    assert f"larger by {own} (first claim) or {needed} (second)" in power and own != needed
