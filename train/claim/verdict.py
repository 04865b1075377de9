"""The rule of a claim: under which masking methods an arm is looked at, and what the comparisons decide.

The methods are an arm's own, and the fill under which it is at its best. The best is chosen on the validation split,
and for half of the seeds by the answers of the other half, so that what is measured is not the best of several tries:
neither of the pictures nor of the trainings.

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

import numpy as np

from maskrobust.lm_modules.methods import MaskingMethod, is_fill
from maskrobust.lm_modules.reliance.estimates.comparison import ComparedMagnitude, ComparisonResult
from maskrobust.lm_modules.reliance.estimates.estimation import right_answers
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.config import ClaimConfig, DecisionRule
from maskrobust.train.report.wording import listed

CaseName = Literal["own", "best"]
CASES: tuple[CaseName, ...] = ("own", "best")

Validation = Mapping[str, Sequence[Mapping[MaskingMethod, Outcomes]]]
"""Outcomes on the validation split, by arm: one mapping by masking method for each seed."""

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


class Candidate(NamedTuple):
    """An arm under one masking method on the validation split.

    Attributes:
        retention: accuracy with patches hidden, in [0, 1].
        leak: silhouette leak; its magnitude orders an arm's methods as their used shares do, which divide it by one
            number of the data.
    """

    retention: float
    leak: float


class Selection(NamedTuple):
    """The masking methods that an arm is looked at under.

    Attributes:
        methods: by case, one for each seed.
        candidates: what they were chosen by, over all seeds, for each masking method of the evaluation.
        keeps_retention: whether the best case keeps the retention that the rule asks for, in both halves of the seeds;
            otherwise it is the method with the highest.
    """

    methods: dict[CaseName, tuple[MaskingMethod, ...]]
    candidates: dict[MaskingMethod, Candidate]
    keeps_retention: bool


def choose_cases(config: ClaimConfig, validation: Validation) -> dict[str, Selection]:
    """The cases of every arm.

    own: `arm.method`. best: of the candidates whose retention is at most `rule.retention_tolerance` below that of the
    layer-masking arm under its own method, the one with the least leak by magnitude; where there is none, the one with
    the highest retention. Every other seed chooses for the rest, and the rest for them; a single seed for itself.

    Layer masking, or token dropping, is a candidate where it is the arm's own method alone: the claims are about
    networks that do without.
    """
    seeds = len(next(iter(validation.values())))
    halves = [
        _best_methods(config, {arm: runs[first::2] for arm, runs in validation.items()})
        for first in range(min(2, seeds))
    ]
    return {
        arm: Selection(
            {
                "own": (config.arms[arm].method,) * seeds,
                "best": tuple(halves[(place + 1) % len(halves)][arm][0] for place in range(seeds)),
            },
            _candidates(config, runs),
            all(half[arm][1] for half in halves),
        )
        for arm, runs in validation.items()
    }


def _best_methods(config: ClaimConfig, validation: Validation) -> dict[str, tuple[MaskingMethod, bool]]:
    """By arm, the masking method under which it is at its best, and whether that keeps the retention asked for."""
    candidates = {arm: _candidates(config, runs) for arm, runs in validation.items()}
    reference = config.rule.layer_masking_arm
    kept_by_reference = candidates[reference][config.arms[reference].method].retention
    required = kept_by_reference - config.rule.retention_tolerance - 1e-9
    found = {}
    for arm, by_method in candidates.items():
        allowed = {
            method: each for method, each in by_method.items() if is_fill(method) or method == config.arms[arm].method
        }
        keeping = [method for method, each in allowed.items() if each.retention >= required]
        if keeping:
            found[arm] = min(keeping, key=lambda method: abs(allowed[method].leak)), True
        else:
            found[arm] = max(allowed, key=lambda method: allowed[method].retention), False
    return found


def _candidates(
    config: ClaimConfig, runs: Sequence[Mapping[MaskingMethod, Outcomes]]
) -> dict[MaskingMethod, Candidate]:
    return {method: _candidate(config, [run[method] for run in runs]) for method in config.evaluation.methods}


def _candidate(config: ClaimConfig, runs: Sequence[Outcomes]) -> Candidate:
    hidden = retention_condition(config.evaluation.hidden_fraction)
    retention = np.mean([right_answers(run, hidden).values.mean() for run in runs])
    columns = [right_answers(run, "silhouette", "circle").values for run in runs]
    leaks = [silhouette.mean() - circle.mean() for silhouette, circle in columns if silhouette.size]
    return Candidate(float(retention), float(np.mean(leaks)) if leaks else 0.0)


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
