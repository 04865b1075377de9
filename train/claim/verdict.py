"""The rule of a claim: support by contrast with layer masking, refutation by an arm alone.

A network that reads the outline does so whether the outline helps it (shape choices above one half) or misleads it
(below one half). So reliance is the distance of shape choices from one half. A claim is supported by arms that rely
more than the layer-masking arm, by more than the margin. It is refuted by an arm whose own reliance is shown to lie
within the margin, in the mean over trainings and, by a sign test, in more than the fraction `trainings` of them: a mean
alone hides that some trainings rely. An arm that relies as much as a layer-masking arm that relies, too, refutes
nothing. How bounds of |a| - |b| avoid the bias of estimated magnitudes is said at `MagnitudeDifference` of
`lm_modules.reliance.estimates.comparison`.

"Every pair ..." is shown wrongly only where a pair of which it is false is shown to be so, and needs no correction for
the number of pairs (an intersection-union test; Berger, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 1982). "Some pair ..." has as many chances to be shown wrongly as there are pairs, and gets Holm's.
`scripts/benchmarks/claim_levels.py` simulates both claims.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.estimates.comparison import holm_levels
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, WithError
from maskrobust.train.claim.config import ClaimConfig, DecisionRule
from maskrobust.train.report.wording import PERCENT, in_sentence, in_words, listed, method_title, points

ClaimName = Literal["own", "needed"]
Outcome = Literal["supported", "refuted", "undecided"]

CLAIMS: Mapping[ClaimName, str] = {
    "own": "Mask augmentation is not sufficient: under a fill by which a network trained without masks relies on the "
    "outline of the hole, every network trained with masks in that fill still relies on it.",
    "needed": "Nothing tried replaces layer masking: under every fill, each network trained with mask augmentation "
    "relies more on the outline than the network with layer masking, or keeps less accuracy with patches hidden.",
}

LEAST_VARIED = 0.1
"""Fraction of predictions behind circles that must be other than the most frequent one.

A network that gives nearly one answer behind every hole prefers one class whatever the shape.
"""

LEAST_SEEDS = 3
"""With two, Student's quantile for a bound of reliance is 25, with three it is 6; with one there is none."""

_TENTH = 0.1
"""One-sided level at which a single training is shown not to rely.

With one standard error in its place, 4.5 % of claims on 20 trainings, of which half rely by 6 points, are refuted.
"""

PLAIN_FILLS = frozenset(("black", "mean", "image_mean", "random_colour"))
"""Fills of one colour."""


class Pair(NamedTuple):
    """One augmentation-only arm under one fill, over all seeds.

    Every p-value is small where what its name says is shown.

    Attributes:
        arm: name of the augmentation-only arm.
        title: how sentences call that arm.
        fill: the fill that it is asked under.
        is_own: whether that is the fill of its training that it is asked under in the first claim.
        counts: whether the arm is not shown to lose more clean accuracy against the baseline than the rule tolerates.
        accuracy: accuracy with patches hidden minus that of the layer-masking arm, with its 95 % interval.
        reliance: minus that of the layer-masking arm; with its 95 % interval.
        less_than_bare: the same minus the baseline's under the same fill.
        keeps_less: p-value of accuracy with patches hidden below layer masking's by more than the tolerance.
        keeps_enough: p-value of the same above that.
        relies_more: p-value of reliance above layer masking's by more than the margin.
        relies_little: p-value of reliance within the margin, in the mean and in most trainings (`level_of_most`).
        sees: p-value of accuracy with patches hidden above chance by more than the tolerance, and of predictions behind
            circles of which more than `LEAST_VARIED` are not the most frequent one.
        clean_kept: p-value of clean accuracy that is no more below the baseline's than tolerated.
        something_to_prevent: p-value of the baseline's reliance, under the same fill, beyond the margin.
        nothing_to_prevent: p-value of the same within the margin.
    """

    arm: str
    title: str
    fill: MaskingMethod
    is_own: bool
    counts: bool
    accuracy: Estimate
    reliance: Estimate
    less_than_bare: Estimate
    keeps_less: float
    keeps_enough: float
    relies_more: float
    relies_little: float
    sees: float
    clean_kept: float
    something_to_prevent: float
    nothing_to_prevent: float

    def failures(self, rule: DecisionRule) -> list[str]:
        """In which ways the fill is shown to fail."""
        shown = {"keeps less": self.keeps_less, "relies more": self.relies_more}
        return [way for way, p_value in shown.items() if p_value < third_of_level(rule)]


class Verdict(NamedTuple):
    """What the rule says.

    Attributes:
        outcome: "supported", "refuted" or "undecided".
        reason: why, in one or two sentences.
    """

    outcome: Outcome
    reason: str


def level_of(rule: DecisionRule) -> float:
    """The chance in (0, 1) that a verdict may have of being wrong."""
    return (1.0 - rule.confidence) / 2.0


def third_of_level(rule: DecisionRule) -> float:
    """The third of `level_of` by which an arm is shown to be out, and for each way in which a fill can fail.

    The three together are wrong in at most the level. In the first claim, with one way to fail, that has two thirds. An
    arm is out by its clean accuracy or, in the first claim, as there is nothing to prevent: each has half of a third.
    """
    return level_of(rule) / 3.0


def few_seeds(seeds: int) -> str:
    """Why a claim with so many seeds, at least 1, cannot be decided; empty where it can."""
    if seeds >= LEAST_SEEDS:
        return ""
    given = "One seed" if seeds == 1 else "Two seeds"
    return f"{given} cannot decide a claim: trainings differ from seed to seed; give {LEAST_SEEDS}, better 5 to 8."


def level_of_most(of_seeds: Iterable[WithError], rule: DecisionRule) -> float:
    """The level above which most trainings are shown not to rely: the p-value of a sign test over seeds, in [0, 1].

    A training is one that does not rely if the 80 % interval of its number over images lies within the margin. With S
    seeds of which k are, it is the chance that at least k of S are if the fraction `rule.trainings` of trainings is.

    Args:
        of_seeds: reliance of each training alone, at least one.
        rule: the decision rule.
    """
    from scipy import stats  # here: it takes a second, which the help of commands does without

    little = [each.level_within(rule.margin) < _TENTH for each in of_seeds]
    return float(stats.binom.sf(sum(little) - 1, len(little), rule.trainings))


def least_seeds(pairs: int, rule: DecisionRule) -> int:
    """How many seeds it takes to refute a claim on so many pairs, if no training relies."""
    return math.floor(math.log(level_of(rule) / pairs) / math.log(rule.trainings)) + 1


def fills_in_words(fills: Sequence[MaskingMethod]) -> str:
    """Which fills were tried, and a warning where these are of one colour alone."""
    tried = f"Fills tried: {listed([in_sentence(method_title(fill)) for fill in fills])}."
    if not PLAIN_FILLS.issuperset(fills):
        return tried
    return (
        f"{tried} Fills of one colour alone are a straw man: inpainting, linear imputation or a blurred image may hide "
        "the outline better."
    )


def decide(rule: DecisionRule, pairs: Sequence[Pair]) -> dict[ClaimName, Verdict]:
    """Decide both claims by pairs.

    Args:
        rule: margins and confidence.
        pairs: every augmentation-only arm paired with every fill.
    """
    counted = [pair for pair in pairs if pair.counts]
    if not counted:
        return undecided("Every augmentation-only arm is shown to lose more clean accuracy than the tolerance.")
    return {"own": _own(rule, [pair for pair in counted if pair.is_own]), "needed": _needed(rule, counted)}


def nothing_to_prevent(rule: DecisionRule, pair: Pair) -> bool:
    """Whether the baseline is shown not to rely under the fill, so that the first claim does not ask about it."""
    return pair.nothing_to_prevent < third_of_level(rule) / 2.0


def undecided(reason: str) -> dict[ClaimName, Verdict]:
    """Leave both claims undecided for one reason."""
    return dict.fromkeys(CLAIMS, Verdict("undecided", reason))


def readings(rule: DecisionRule, pairs: Sequence[Pair]) -> list[str]:
    """What was shown of each pair for the second claim: how it fails, that it does as well, or neither."""
    as_well = refuting(rule, "needed", pairs)

    def reading(pair: Pair) -> str:
        if not pair.counts:
            return "does not count"
        return "does as well" if pair in as_well else " and ".join(pair.failures(rule)) or "open"

    return [reading(pair) for pair in pairs]


def refuting(rule: DecisionRule, claim: ClaimName, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that refute a claim by Holm's procedure: they do as well as layer masking.

    For the first claim the baseline must be shown to rely under the same fill, too: otherwise it is the fill that does
    it, and not the training.
    """
    own = claim == "own"
    asked = [
        each for each in pairs if each.counts and (not own or (each.is_own and not nothing_to_prevent(rule, each)))
    ]
    fills = Counter(pair.arm for pair in asked)  # clean accuracy is shown for all fills of an arm at once

    def p_value_of(pair: Pair) -> float:
        found = max(pair.keeps_enough, pair.relies_little, pair.sees, pair.clean_kept / fills[pair.arm])
        return max(found, pair.something_to_prevent) if own else found

    p_values = [p_value_of(pair) for pair in asked]
    levels = holm_levels(p_values, level_of(rule))
    return [pair for pair, p_value, level in zip(asked, p_values, levels, strict=True) if p_value < level]


def without_training(rule: DecisionRule, baseline: str, pairs: Sequence[Pair]) -> str:
    """A sentence where the baseline is shown not to rely, either, under fills that refute a claim; empty otherwise."""
    little = dict.fromkeys(pair.fill for pair in pairs if pair.nothing_to_prevent < level_of(rule))
    if not little:
        return ""
    fills = listed([in_sentence(method_title(fill)) for fill in little])
    return (
        f" '{baseline}', which was never trained on masks, relies as little under {fills}, so this is due to the fill."
    )


def known_before(config: ClaimConfig) -> Sequence[str]:
    """What so few seeds cannot decide, as sentences; none where there are enough."""
    seeds, arms = len(config.seeds), sum(arm.augmentation_only for arm in config.arms.values())
    if few := few_seeds(seeds):
        return [few]
    return [
        f"Refuting {pairs} pair{'s' * (pairs > 1)} takes {least} seeds, got {seeds}."
        for pairs in dict.fromkeys((arms, arms * len(config.evaluation.fills)))
        if seeds < (least := least_seeds(pairs, config.rule))
    ]


def _own(rule: DecisionRule, pairs: Sequence[Pair]) -> Verdict:
    asked = [pair for pair in pairs if not nothing_to_prevent(rule, pair)]
    left_out = [pair for pair in pairs if nothing_to_prevent(rule, pair)]
    because = "the network without masks is shown not to rely under the same fill, so there is nothing to prevent."
    besides = f" Not asked about: {_named(left_out)}, since {because}" if left_out else ""
    if pairs and not asked:
        return Verdict("undecided", f"{_named(pairs)}: {because}")
    if as_well := refuting(rule, "own", pairs):
        reason = (
            f"{_named(as_well)}: {_do_not_rely(rule)}, and that they keep their accuracy, under a fill by which the "
            f"network without masks is shown to rely.{besides}"
        )
        return Verdict("refuted", reason)
    if left := [pair for pair in asked if pair.relies_more >= 2.0 * third_of_level(rule)]:
        found = _open(left)
        return found._replace(reason=f"{found.reason}{besides}")
    more = f"more on the outline than the layer-masking arm, by over {points(rule.margin)}."
    return Verdict("supported", f"{_named(asked)}: shown to rely {more}{besides}")


def _needed(rule: DecisionRule, pairs: Sequence[Pair]) -> Verdict:
    if as_well := refuting(rule, "needed", pairs):
        return Verdict(
            "refuted",
            f"{_named(as_well)}: {_do_not_rely(rule)}, and that they keep accuracy with patches hidden within "
            f"{points(rule.retention_tolerance)} of layer masking's.",
        )
    failures = [pair.failures(rule) for pair in pairs]
    if left := [pair for pair, ways in zip(pairs, failures, strict=True) if not ways]:
        return _open(left)
    less, more = (sum(way in ways for ways in failures) for way in ("keeps less", "relies more"))
    return Verdict(
        "supported",
        f"Every fill of every arm fails, {len(pairs)} pairs in all: {less} keep less accuracy with patches hidden, and "
        f"{more} make the network rely on the outline more.",
    )


def _do_not_rely(rule: DecisionRule) -> str:
    most = f"it is shown that more than {in_words(rule.trainings)} of such trainings do not rely on the outline"
    return f"{most} (shape choices within {points(rule.margin)} of 50{PERCENT})"


def _open(pairs: Sequence[Pair]) -> Verdict:
    """Undecided: the pairs that leave a claim open, and why where one has no shape choices."""
    because = next((each.reliance.undefined_because for each in pairs if each.reliance.undefined_because), None)
    remedy = "more seeds or more test images may settle it." if because is None else f"reliance is {because}"
    return Verdict("undecided", f"Open: {_named(pairs)}; {remedy}")


def _named(pairs: Sequence[Pair]) -> str:
    """Pairs within a sentence, the fills of each arm together."""
    fills: dict[str, list[str]] = {}
    for pair in pairs:
        fills.setdefault(pair.title, []).append(in_sentence(method_title(pair.fill)))
    return listed([f"'{title}' under {listed(found)}" for title, found in fills.items()])
