import pytest

from maskrobust.lm_modules.reliance.estimates.comparison import ComparedMagnitude
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.claim.verdict import Comparison, decide, rule_in_words

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
