"""The rule on pairs of an arm and a fill: what decides, at which level, in which words; and what a design can show."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

import claim_levels
from maskrobust.lm_modules.reliance.estimates.comparison import MagnitudeDifference
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Part, WithError
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.claim.verdict import (
    LEAST_VARIED,
    Pair,
    decide,
    few_seeds,
    fills_in_words,
    known_before,
    least_seeds,
    level_of_most,
    readings,
)

RULE = DecisionRule(baseline="plain", layer_masking_arm="masked", margin=0.05, clean_accuracy_tolerance=0.03)
SOME = Estimate(0.0, -0.1, 0.1, images=100, left_out=0)
UNDEFINED = Estimate(
    None, None, None, images=100, left_out=0, undefined_because="undefined because outlines hold nothing."
)


def pair(less=0.5, enough=0.5, more=0.5, little=0.5, sees=0.0, clean=0.0, relied=0.0, nothing=1.0, **changes):
    """A pair with these p-values; of 'Arm' under the black fill of its training unless `changes` say otherwise.

    It sees, keeps its clean accuracy, and has something to prevent unless other p-values are given.
    """
    p_values = less, enough, more, little, sees, clean, relied, nothing
    made = Pair("arm", "Arm", "black", True, True, SOME, SOME, SOME, *p_values)
    return made._replace(**changes)


RELIES_MORE, KEEPS_LESS = {"more": 0.001}, {"less": 0.001}
AS_WELL = {"enough": 0.001, "little": 0.001}
NOTHING = {"relied": 1.0, "nothing": 0.001}
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
        ([pair(**AS_WELL)], "refuted", "refuted"),
        ([pair(little=0.001)], "undecided", "undecided"),  # patches are not shown to be kept
        ([pair(little=0.001, **KEEPS_LESS)], "undecided", "supported"),
        ([pair(sees=0.03, **AS_WELL)], "undecided", "undecided"),  # one answer behind every hole, or chance
        ([pair(clean=0.03, **AS_WELL)], "undecided", "undecided"),
        ([pair(relied=0.03, **AS_WELL)], "undecided", "refuted"),  # nothing that the training can have prevented
        ([pair(**NOTHING, **AS_WELL)], "undecided", "refuted"),
        ([pair(**NOTHING, **AS_WELL), pair(arm="b", **RELIES_MORE)], "supported", "refuted"),
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
    as_well = {"enough": p_value, "little": p_value}
    two = [pair(**as_well), pair(arm="other", title="Other")]
    assert decide(RULE, two)["own"].outcome == outcome
    pairs = [pair(**as_well), pair(**OTHER)]
    assert decide(RULE, pairs)["needed"].outcome == outcome
    assert decide(RULE, pairs)["own"].outcome == "refuted"  # one arm alone has the level
    clearest_first = [pair(**AS_WELL), pair(enough=0.024, little=0.024, **OTHER)]
    assert readings(RULE, clearest_first) == ["does as well", "does as well"]


@pytest.mark.parametrize(("p_value", "outcome"), [(0.024, "refuted"), (0.026, "undecided")])
def test_clean_accuracy_is_shown_once_for_all_fills_of_an_arm(p_value, outcome):
    pairs = [pair(clean=p_value, **AS_WELL), pair(clean=p_value, **OTHER)]
    assert decide(RULE, pairs)["needed"].outcome == outcome


@pytest.mark.parametrize(("p_value", "is_out"), [(0.0041, True), (0.0042, False)])
def test_an_arm_is_out_of_the_first_claim_by_a_sixth_of_the_level(p_value, is_out):
    reason = decide(RULE, [pair(relied=1.0, nothing=p_value)])["own"].reason
    assert ("nothing to prevent" in reason) is is_out


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
    refuted = decide(RULE, [pair(**AS_WELL)])["needed"].reason
    assert refuted.startswith("'Arm' under black fill: it is shown that more than half of such trainings do not rely")


def test_an_undefined_share_leaves_a_pair_open_says_why_and_hides_no_other():
    undefined = pair(reliance=UNDEFINED, more=1.0, little=1.0)
    assert decide(RULE, [undefined])["own"].reason.endswith("reliance is undefined because outlines hold nothing.")
    assert decide(RULE, [undefined, pair(**AS_WELL, arm="b", title="B")])["needed"].outcome == "refuted"
    assert decide(RULE, [undefined._replace(keeps_less=0.001)])["needed"].outcome == "supported"


def real_verdicts(found):
    """The verdicts of both claims for each experiment of the simulation, by the rule's own code."""
    trials, arms, fills = found.share.value.shape

    def number(of, *place):
        value, variance = (np.broadcast_to(each, (trials, arms, fills))[place] for each in (of.value, of.of_seeds))
        return WithError(float(value), Part(float(variance), of.degrees), Part(of.of_images, np.inf))

    def pair_of(*place):
        minus, plus, kept, share, clean, bare, sees, varied = (
            number(getattr(found, name), *place)
            for name in ("minus", "plus", "kept", "share", "clean", "bare", "sees", "varied")
        )
        seeds = range(int(found.share.degrees) + 1)
        alone = share._replace(objects=Part(0.0, 1.0))
        of_seeds = [alone._replace(value=float(seed >= found.little[place])) for seed in seeds]
        return pair(
            kept.negated().level_above(RULE.retention_tolerance),
            kept.level_above(-RULE.retention_tolerance),
            MagnitudeDifference(minus, plus).level_to_exceed(RULE.margin),
            max(share.level_within(RULE.margin), level_of_most(of_seeds, RULE)),
            max(sees.level_above(RULE.retention_tolerance), varied.level_above(LEAST_VARIED)),
            clean.level_above(-RULE.clean_accuracy_tolerance),
            bare.level_outside(RULE.margin),
            bare.level_within(RULE.margin),
            arm=str(place[1]),
            is_own=place[2] == 0,
            counts=clean.high(0.025 / 6) >= -RULE.clean_accuracy_tolerance,
        )

    def verdicts(trial):
        pairs = [pair_of(trial, arm, fill) for arm in range(arms) for fill in range(fills)]
        return {claim: found.outcome for claim, found in decide(RULE, pairs).items()}

    return [verdicts(trial) for trial in range(trials)]


@pytest.mark.parametrize(
    "world",
    [
        claim_levels.World("", (), share=0.3),
        claim_levels.World("", (), share=0.12, kept=-0.04, clean=-0.03),
        claim_levels.World("", (), share=0.0, others=0.3, spread=0.4, clean=-0.015),
        claim_levels.World("", (), share=0.0, others=0.3, spread=0.4, bare=0.06),
        claim_levels.World("", (), share=0.0, spread=0.4, varied=0.12),
    ],
)
def test_the_simulation_decides_as_the_rule_does(world):
    for seeds, (arms, fills) in ((6, (1, 2)), (9, (2, 2))):
        rng = np.random.default_rng(seeds)
        found = claim_levels.draw(world, arms, fills, seeds, claim_levels.ERRORS[0], 4, rng)
        verdicts, given = real_verdicts(found), claim_levels.decide(found)
        for claim, name in (("own", "first"), ("needed", "second")):
            for outcome in ("supported", "refuted"):
                decided = [verdict[claim] == outcome for verdict in verdicts]
                assert given[f"{name} {outcome}"].tolist() == decided, (seeds, claim, outcome)


@pytest.mark.parametrize("seeds", [5, 20])
def test_a_wrong_verdict_is_as_seldom_as_stated(seeds):
    trials = 1500
    for world in claim_levels.WORLDS:
        rng = np.random.default_rng(seeds)
        found = claim_levels.decide(claim_levels.draw(world, 1, 2, seeds, claim_levels.ERRORS[0], trials, rng))
        for name in (claim_levels.VERDICTS[each] for each in world.wrong):
            count = int(found[name].sum())
            is_seldom = stats.binomtest(count, trials, claim_levels.LEVEL, alternative="greater").pvalue > 1e-4
            assert is_seldom, (world, name, count)


@pytest.mark.parametrize(("pairs", "seeds"), [(1, 6), (3, 7), (12, 9)])
def test_refuting_takes_as_many_seeds_as_a_sign_test_does(pairs, seeds):
    little, level = WithError(0.0, Part(0.0, 1.0), Part(0.0, 9.0)), 0.025 / pairs
    assert least_seeds(pairs, RULE) == seeds
    assert level_of_most([little] * (seeds - 1), RULE) >= level > level_of_most([little] * seeds, RULE) == 0.5**seeds
    assert least_seeds(1, replace(RULE, trainings=0.8)) == 17


def test_a_training_relies_little_where_its_interval_of_80_percent_lies_within_the_margin():
    reach = float(stats.t.isf(0.1, 9))

    def training(value, error):
        return WithError(value, Part(0.0, 1.0), Part(error**2, 9.0))

    near, unsure, far = training(-0.03, 0.0199 / reach), training(-0.03, 0.0201 / reach), training(0.06, 1e-9)
    assert [level_of_most([each] * 4, RULE) for each in (near, unsure, far)] == [0.5**4, 1.0, 1.0]
    assert level_of_most([near] * 9 + [far], RULE) == pytest.approx(11 / 2**10)


def test_the_fills_that_were_tried_are_named():
    assert fills_in_words(["black", "mean"]).endswith("may hide the outline better.")
    assert fills_in_words(["black", "inpainting"]) == "Fills tried: black fill and inpainting."


def design(seeds):
    arms = {name: SimpleNamespace(augmentation_only=name != "masked") for name in ("a", "b", "masked")}
    evaluation = SimpleNamespace(fills=["black", "mean", "inpainting"])
    config = SimpleNamespace(seeds=[*range(seeds)], rule=RULE, arms=arms, evaluation=evaluation)
    return known_before(config)


def test_a_design_that_cannot_decide_is_told_so():
    assert design(2) == [few_seeds(2)]
    assert design(3) == ["Refuting 2 pairs takes 7 seeds, got 3.", "Refuting 6 pairs takes 8 seeds, got 3."]
    assert design(8) == []
