"""An arm at its best, as its training has prepared it, and at its worst: three masking methods to look at it under.

Best and worst are chosen on the validation split, so that what is measured on the test split is not the best of several
tries.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from maskrobust.lm_modules.methods import MaskingMethod, is_fill
from maskrobust.lm_modules.reliance.estimates.estimation import right_answers
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.config import ClaimConfig

CaseName = Literal["best", "own", "worst"]
CASES: tuple[CaseName, ...] = ("best", "own", "worst")

Validation = Mapping[str, Sequence[Mapping[MaskingMethod, Outcomes]]]
"""Outcomes on the validation split, by arm: one mapping by masking method for each seed."""


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
        methods: by case.
        candidates: what they were chosen by, for each masking method of the evaluation.
        keeps_retention: whether the best case keeps the retention that the rule asks for; otherwise it is the method
            with the highest.
    """

    methods: dict[CaseName, MaskingMethod]
    candidates: dict[MaskingMethod, Candidate]
    keeps_retention: bool


def choose_cases(config: ClaimConfig, validation: Validation) -> dict[str, Selection]:
    """The cases of every arm.

    Layer masking, or token dropping, is a candidate where it is the arm's own method alone: the claim is about networks
    that do without.

    best: of the candidates whose retention is at most `rule.retention_tolerance` below that of the layer-masking arm
    under its own method, the one with the least leak by magnitude; where there is none, the one with the highest
    retention. own: `arm.method`. worst: the candidate with the largest leak by magnitude.
    """
    candidates = {
        arm: {method: _candidate(config, [run[method] for run in runs]) for method in config.evaluation.methods}
        for arm, runs in validation.items()
    }
    rule = config.rule
    reference = candidates[rule.layer_masking_arm][config.arms[rule.layer_masking_arm].method]
    required_retention = reference.retention - rule.retention_tolerance
    return {arm: _selection(config.arms[arm].method, found, required_retention) for arm, found in candidates.items()}


def _selection(own: MaskingMethod, candidates: dict[MaskingMethod, Candidate], required_retention: float) -> Selection:
    allowed = [method for method in candidates if is_fill(method) or method == own]
    keeping = [method for method in allowed if candidates[method].retention >= required_retention - 1e-9]
    if keeping:
        best = min(keeping, key=lambda method: abs(candidates[method].leak))
    else:
        best = max(allowed, key=lambda method: candidates[method].retention)
    worst = max(allowed, key=lambda method: abs(candidates[method].leak))
    return Selection({"best": best, "own": own, "worst": worst}, candidates, bool(keeping))


def _candidate(config: ClaimConfig, runs: Sequence[Outcomes]) -> Candidate:
    hidden = retention_condition(config.evaluation.hidden_fraction)
    retention = np.mean([right_answers(run, hidden).values.mean() for run in runs])
    columns = [right_answers(run, "silhouette", "circle").values for run in runs]
    leaks = [silhouette.mean() - circle.mean() for silhouette, circle in columns if silhouette.size]
    return Candidate(float(retention), float(np.mean(leaks)) if leaks else 0.0)
