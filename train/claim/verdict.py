"""The rule of a claim: compare every augmentation-only arm under every fill with the layer-masking arm.

A network that reads the outline does so whether the outline helps it (a positive leak, hence a positive used share) or
misleads it (a negative one). So reliance is the magnitude of the used share, and an arm is compared with the
layer-masking arm by |used share| - |used share|. How its bounds avoid the bias of estimated magnitudes is said at
`MagnitudeDifference` of `lm_modules.reliance.estimates.comparison`.

"Every pair ..." is shown wrongly only where a pair of which it is false is shown to be so, and needs no correction for
the number of pairs (an intersection-union test; Berger, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 1982). "Some pair ..." has as many chances to be shown wrongly as there are pairs, and gets Holm's.
`scripts/benchmarks/claim_levels.py` simulates both claims.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.estimates.comparison import holm_levels
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.report.wording import in_sentence, in_words, listed, method_title, percent

ClaimName = Literal["own", "needed"]
Outcome = Literal["supported", "refuted", "undecided"]

CLAIMS: Mapping[ClaimName, str] = {
    "own": "Training with mask augmentation does not stop a network from reading the shape of the hole, as long as the "
    "hole is filled as in training.",
    "needed": "Layer masking is needed: no fill makes a network that was trained with mask augmentation rely on the "
    "outline as little, at the same accuracy with patches hidden.",
}

_LEAST_SEEDS = 3
"""With two, Student's quantile for a bound of reliance is 25, with three it is 6; with one there is none."""

PLAIN_FILLS = frozenset(("black", "mean", "image_mean", "random_colour"))
"""Fills of one colour."""


class Pair(NamedTuple):
    """One augmentation-only arm under one fill against the layer-masking arm under its own method, over all seeds.

    Attributes:
        arm: name of the augmentation-only arm.
        title: how sentences call that arm.
        fill: the fill that it is asked under.
        is_own: whether that is the fill of its training that it is asked under in the first claim.
        counts: whether the arm is not shown to lose more clean accuracy against the baseline than the rule tolerates.
        accuracy: accuracy with patches hidden minus that of the layer-masking arm, with its 95 % interval.
        reliance: minus that of the layer-masking arm; with its 95 % interval.
        keeps_less: p-value, small where accuracy is shown to lie below minus the rule's tolerance.
        keeps_enough: p-value, small where it is shown to lie above that.
        relies_more: p-value, small where reliance is shown to lie above the margin.
        relies_as_little: p-value, small where it is shown to lie below that.
    """

    arm: str
    title: str
    fill: MaskingMethod
    is_own: bool
    counts: bool
    accuracy: Estimate
    reliance: Estimate
    keeps_less: float
    keeps_enough: float
    relies_more: float
    relies_as_little: float

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


def rule_in_words(rule: DecisionRule, titles: Mapping[str, str], hidden_fraction: float) -> list[str]:
    """The rule as sentences, for the report.

    Args:
        rule: the decision rule of the claim.
        titles: how sentences call each arm, by its name.
        hidden_fraction: fraction of the patches that is hidden for the accuracy that is compared.
    """
    level, third, reference = level_of(rule), third_of_level(rule), titles[rule.layer_masking_arm]
    tolerance, margin = f"{100 * rule.retention_tolerance:.1f} points", f"{rule.margin:g}"
    return [
        f"An arm counts unless its clean accuracy on the validation split is shown to be more than "
        f"{100 * rule.clean_accuracy_tolerance:.1f} points below that of '{titles[rule.baseline]}'; the layer-masking "
        f"arm '{reference}' must count too.",
        "Reliance is the magnitude of the used share: a share below zero is reliance too, on an outline that misleads.",
        f"Each augmentation-only arm that counts is compared with '{reference}' under every fill that was measured, in "
        f"accuracy with {in_words(hidden_fraction)} of the patches hidden and in reliance, on the same seeds and "
        "images.",
        "First claim, each arm under the fill of its training. Supported: every arm is shown to rely more, by more "
        f"than the margin of {margin}. Refuted: some arm is shown to rely at most that much more.",
        f"Second claim. A fill fails if it is shown to keep less accuracy, by more than {tolerance}, or to make the "
        f"network rely more, by more than {margin}. Supported: every fill of every arm fails. Refuted: some fill is "
        "shown to be within both.",
        f"Undecided: otherwise, and with fewer than {_LEAST_SEEDS} seeds.",
        f"Either verdict is wrong in at most {percent(level)} of experiments. Bounds are Student's t over seeds and "
        "images. Support rests on three things: that an arm does not count, that a fill keeps less, and that the "
        f"network relies more. Each has a third of the level ({third:.2g}, one-sided). In the first claim relying more "
        f"has two thirds. To refute a claim, levels are Holm's: {level:.3g} / m for the clearest of m arms, or of m "
        "pairs of an arm and a fill. A bound of reliance uses half of its level for either sign that the used share "
        "may have.",
    ]


def level_of(rule: DecisionRule) -> float:
    """The chance in (0, 1) that a verdict may have of being wrong."""
    return (1.0 - rule.confidence) / 2.0


def third_of_level(rule: DecisionRule) -> float:
    """The third of `level_of` by which an arm is shown not to count, and for each way in which a fill can fail.

    The three together are wrong in at most the level. In the first claim, with one way to fail, that has two thirds.
    """
    return level_of(rule) / 3.0


def few_seeds(seeds: int) -> str:
    """Why a claim with so many seeds, at least 1, cannot be decided; empty where it can."""
    if seeds >= _LEAST_SEEDS:
        return ""
    given = "One seed" if seeds == 1 else "Two seeds"
    return f"{given} cannot decide a claim: trainings differ from seed to seed; give {_LEAST_SEEDS}, better 5 to 8."


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
    """The pairs that refute a claim by Holm's procedure: they rely as little and, for the second, keep enough, too."""
    if claim == "own":
        looked_at = [(pair, pair.relies_as_little) for pair in pairs if pair.counts and pair.is_own]
    else:
        looked_at = [(pair, max(pair.keeps_enough, pair.relies_as_little)) for pair in pairs if pair.counts]
    levels = holm_levels([p_value for _, p_value in looked_at], level_of(rule))
    return [pair for (pair, p_value), level in zip(looked_at, levels, strict=True) if p_value < level]


def _own(rule: DecisionRule, pairs: Sequence[Pair]) -> Verdict:
    more = f"more on the outline than the layer-masking arm, by over {rule.margin:g} of used share."
    if as_little := refuting(rule, "own", pairs):
        return Verdict("refuted", f"{_named(as_little)}: shown not to rely {more}")
    if left := [pair for pair in pairs if pair.relies_more >= 2.0 * third_of_level(rule)]:
        return _open(left)
    return Verdict("supported", f"{_named(pairs)}: shown to rely {more}")


def _needed(rule: DecisionRule, pairs: Sequence[Pair]) -> Verdict:
    if as_well := refuting(rule, "needed", pairs):
        return Verdict(
            "refuted",
            f"{_named(as_well)}: shown to keep accuracy with patches hidden within "
            f"{100 * rule.retention_tolerance:.1f} points of layer masking's, and to rely on the outline at most "
            f"{rule.margin:g} of used share more.",
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


def _open(pairs: Sequence[Pair]) -> Verdict:
    """Undecided: the pairs that leave a claim open, and why where one has no used share."""
    because = next((each.reliance.undefined_because for each in pairs if each.reliance.undefined_because), None)
    remedy = "more seeds or more test images may settle it." if because is None else f"the used share is {because}"
    return Verdict("undecided", f"Open: {_named(pairs)}; {remedy}")


def _named(pairs: Sequence[Pair]) -> str:
    """Pairs within a sentence, the fills of each arm together."""
    fills: dict[str, list[str]] = {}
    for pair in pairs:
        fills.setdefault(pair.title, []).append(in_sentence(method_title(pair.fill)))
    return listed([f"'{title}' under {listed(found)}" for title, found in fills.items()])
