"""The rule that decides the two claims, as a pure function of the comparisons.

A network that reads the outline does so whether the outline helps it (a positive leak, hence a positive used share) or
misleads it (a negative one). So reliance is the magnitude of the used share, and an arm is compared with the
layer-masking arm by |used share| - |used share|: with the plain difference, an arm that is misled would look like one
that does not read, and a layer-masking arm that is misled would lend support to the claim. How the interval of this
difference avoids the bias of estimated magnitudes is said at `MagnitudeDifference` of
`lm_modules.reliance.estimates.comparison`, and how its bounds hold for all arms together at `compare_magnitudes` there.
"Every arm exceeds" is wrong only where the bound of an arm that does not is wrong, too; "some arm does not" has as many
chances to be wrong as there are arms.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.estimates.comparison import ComparedMagnitude, ComparisonResult
from maskrobust.train.claim.cases import CaseName
from maskrobust.train.claim.config import DecisionRule
from maskrobust.train.report.wording import listed

CLAIMS: Mapping[CaseName, str] = {
    "own": "Training with mask augmentation does not stop a network from reading the shape of the hole, as long as the "
    "hole is filled as in training.",
    "best": "Layer masking is needed: no fill makes a network that was trained with mask augmentation rely on the "
    "outline as little, at the same accuracy with patches hidden.",
}
"""By the case in which an arm is looked at."""

REFUTES = "within the margin"

_READINGS: dict[ComparisonResult, str] = {
    "above": "above the margin",
    "below": REFUTES,
    "not settled": "not settled",
    "undefined": "undefined",
}

_TOO_LITTLE = "keeps too little"

Outcome = Literal["supported", "refuted", "undecided"]


class Comparison(NamedTuple):
    """One augmentation-only arm against the layer-masking arm.

    Attributes:
        arm: name of the augmentation-only arm.
        title: of that arm, for sentences.
        method: masking method that it is looked at under; two joined by "/" where one half of the seeds chose another
            than the other half.
        compared: magnitude of its used share minus that of the layer-masking arm's; the upper bound at Holm's level
            among the arms that count, at the rule's own for any other.
        eligible: whether the clean accuracy that the arm loses against the baseline is within the rule's tolerance.
        keeps_retention: whether this case must keep no accuracy with patches hidden, or keeps what the rule asks for.
    """

    arm: str
    title: str
    method: MaskingMethod
    compared: ComparedMagnitude
    eligible: bool
    keeps_retention: bool = True

    def reading(self, margin: float) -> str:
        """What the comparison says, in words."""
        if not self.eligible:
            return "does not count"
        return _READINGS[self.compared.reading(margin)] if self.keeps_retention else _TOO_LITTLE


class Verdict(NamedTuple):
    """What the rule says.

    Attributes:
        outcome: "supported", "refuted" or "undecided".
        reason: why, in one or two sentences.
    """

    outcome: Outcome
    reason: str


def rule_in_words(rule: DecisionRule, titles: Mapping[str, str]) -> list[str]:
    """The rule as sentences, for the report.

    Args:
        rule: of the claim.
        titles: of the arms, by name.
    """
    level = (1.0 - rule.confidence) / 2.0
    baseline, reference = titles[rule.baseline], titles[rule.layer_masking_arm]
    return [
        f"An arm counts when its clean accuracy on the validation split is at most "
        f"{100 * rule.clean_accuracy_tolerance:.1f} points below that of '{baseline}'; the layer-masking arm "
        f"'{reference}' must count too.",
        "The first claim looks at each augmentation-only arm under its own method, the one that its training has "
        "prepared it for.",
        "The second claim looks at each at its best: of the fills that keep its accuracy with patches hidden within "
        f"{100 * rule.retention_tolerance:.1f} points of that of '{reference}', the one with the least silhouette leak "
        "by magnitude. It is chosen on the validation split, for half of the seeds by the other half. An arm that no "
        "fill keeps so accurate does not count there.",
        "Reliance is the magnitude of the used share: a share below zero is reliance too, on an outline that misleads. "
        "The difference is the reliance of an augmentation-only arm minus that of the layer-masking arm under its own "
        "method, on the split that is measured.",
        "Its bounds are t intervals over seeds and images, which hold whatever the signs of the two used shares are.",
        f"Supported: every difference's lower bound, at a one-sided level of {level:.3g}, lies above the margin of "
        f"{rule.margin:g}. A false claim is called supported in at most {level:.1%} of experiments (an "
        "intersection-union test).",
        f"Refuted: some difference's upper bound lies below the margin of {rule.margin:g}. A true claim is called "
        f"refuted in at most {level:.1%} of experiments, by Holm's step-down procedure: the clearest of m arms has a "
        f"level of {level:.3g} / m, the next one of {level:.3g} / (m - 1), and so on while bounds lie below it.",
        "Undecided: otherwise, or where no arm counts.",
    ]


def caveat(seeds: int) -> str | None:
    """What must be said about intervals that rest on a single seed; None from two on.

    Args:
        seeds: number of runs of each arm, at least 1.
    """
    if seeds > 1:
        return None
    return "With one seed the intervals are over images alone and leave open what another seed would give; use five."


def decide(rule: DecisionRule, comparisons: Sequence[Comparison], layer_masking_loss: float) -> Verdict:
    """Apply the rule to one claim.

    Args:
        rule: margin and tolerance.
        comparisons: one for each augmentation-only arm.
        layer_masking_loss: clean accuracy of the baseline minus that of the layer-masking arm.
    """
    if layer_masking_loss > rule.clean_accuracy_tolerance:
        return Verdict(
            "undecided",
            f"The layer-masking arm loses {100 * layer_masking_loss:.1f} points of clean accuracy against the "
            f"baseline, more than the tolerance of {100 * rule.clean_accuracy_tolerance:.1f}, so its "
            "reliance cannot be compared.",
        )
    counted = [comparison for comparison in comparisons if comparison.eligible]
    rivals = [comparison for comparison in counted if comparison.keeps_retention]
    if not rivals:
        return Verdict(
            "undecided",
            "No fill keeps the accuracy with patches hidden of an augmentation-only arm that counts "
            f"({_list([each.title for each in counted])}) within {100 * rule.retention_tolerance:.1f} points of layer "
            "masking's."
            if counted
            else "No augmentation-only arm keeps its clean accuracy within the tolerance.",
        )
    arms = {
        reading: [each.title for each in rivals if each.compared.reading(rule.margin) == reading]
        for reading in _READINGS
    }
    if arms["below"]:
        return Verdict(
            "refuted",
            f"{_list(arms['below'])}: reliance on the outline exceeds that of the layer-masking arm by less than the "
            f"margin of {rule.margin:g}, upper bound included.",
        )
    if arms["undefined"]:
        undefined = next(each for each in rivals if each.title == arms["undefined"][0])
        return Verdict(
            "undecided",
            f"The used share of '{undefined.title}' is undefined: {undefined.compared.difference.undefined_because}",
        )
    if arms["not settled"]:
        return Verdict(
            "undecided",
            f"For {_list(arms['not settled'])} the interval of the difference reaches below the margin of "
            f"{rule.margin:g}, and no interval lies wholly below it; more seeds or more test images would narrow it.",
        )
    keeps = "" if len(counted) == len(rivals) else ", and that some fill keeps as accurate as layer masking"
    return Verdict(
        "supported",
        f"Every augmentation-only arm that counts{keeps} ({_list(arms['above'])}) "
        "relies on the outline more than "
        f"the layer-masking arm does, by more than {rule.margin:g} of used share, lower bound included.",
    )


def _list(titles: Sequence[str]) -> str:
    return listed([f"'{title}'" for title in titles])
