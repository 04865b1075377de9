"""The rule that decides the claim, as a pure function of the comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lm_modules.reliance import Finding
from train.claim.config import Rule

CLAIM = "Training with mask augmentation alone does not stop a network from reading the shape of the hole."

Outcome = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """One augmentation-only arm against the layer-masking arm.

    Attributes:
        arm: name of the augmentation-only arm.
        difference: its used share minus the layer-masking arm's, with the interval of the corrected confidence.
        clean_accuracy_loss: clean accuracy of the baseline minus that of the arm.
        eligible: whether that loss is within the rule's tolerance.
    """

    arm: str
    difference: Finding
    clean_accuracy_loss: float
    eligible: bool


@dataclass(frozen=True)
class Verdict:
    """What the rule says.

    Attributes:
        outcome: "supported", "refuted" or "undecided".
        reason: why, in one or two sentences.
    """

    outcome: Outcome
    reason: str


def rule_in_words(rule: Rule) -> list[str]:
    """The rule as sentences, for the report."""
    return [
        f"An arm counts when its clean accuracy is at most {rule.clean_accuracy_tolerance:.1%} below that of "
        f"'{rule.baseline}'; the layer-masking arm '{rule.layer_masking_arm}' must count too.",
        "Every augmentation-only arm that counts is compared by its used share, under the masking method stated for "
        "it, with that of the layer-masking arm under its own. The intervals hold all comparisons together with "
        f"{rule.confidence:.0%} confidence (Bonferroni).",
        f"Supported: every difference's lower bound lies above the margin of {rule.margin:g}.",
        f"Refuted: some difference's upper bound lies below the margin of {rule.margin:g}.",
        "Undecided: otherwise, or where no arm counts.",
    ]


def decide(rule: Rule, comparisons: Sequence[Comparison], layer_masking_loss: float) -> Verdict:
    """Apply the rule.

    Args:
        rule: margin and tolerance.
        comparisons: one for each augmentation-only arm.
        layer_masking_loss: clean accuracy of the baseline minus that of the layer-masking arm.
    """
    if layer_masking_loss > rule.clean_accuracy_tolerance:
        return Verdict(
            "undecided",
            f"The layer-masking arm loses {layer_masking_loss:.1%} of clean accuracy against the baseline, more than "
            f"the tolerance of {rule.clean_accuracy_tolerance:.1%}, so its reliance cannot be compared.",
        )
    counted = [comparison for comparison in comparisons if comparison.eligible]
    if not counted:
        return Verdict("undecided", "No augmentation-only arm keeps its clean accuracy within the tolerance.")
    undefined = [comparison for comparison in counted if comparison.difference.estimate is None]
    if undefined:
        return Verdict(
            "undecided",
            f"The used share of '{undefined[0].arm}' is undefined: {undefined[0].difference.undefined_because}",
        )
    bounds = {each.arm: each.difference.estimate for each in counted if each.difference.estimate is not None}
    within = [arm for arm, estimate in bounds.items() if estimate.high < rule.margin]
    if within:
        return Verdict(
            "refuted",
            f"{_list(within)} is within the margin of {rule.margin:g} of the layer-masking arm, upper bound included.",
        )
    unclear = [arm for arm, estimate in bounds.items() if estimate.low <= rule.margin]
    if unclear:
        return Verdict(
            "undecided",
            f"For {_list(unclear)} the interval of the difference reaches below the margin of {rule.margin:g}, and no "
            "arm is wholly within it; more seeds or more test images would narrow it.",
        )
    return Verdict(
        "supported",
        f"Every augmentation-only arm that counts ({_list(list(bounds))}) reads the outline by more than "
        f"{rule.margin:g} of used share above the layer-masking arm, lower bound included.",
    )


def _list(arms: Sequence[str]) -> str:
    return ", ".join(f"'{arm}'" for arm in arms)
