"""The masking methods that an arm is looked at under: its own, and the fill under which it is at its best.

The best is chosen on the validation split, and for half of the seeds by the answers of the other half, so that what is
measured is not the best of several tries: neither of the pictures nor of the trainings.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from maskrobust.lm_modules.methods import MaskingMethod, is_fill
from maskrobust.lm_modules.reliance.estimates.estimation import right_answers
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.config import ClaimConfig

CaseName = Literal["own", "best"]
CASES: tuple[CaseName, ...] = ("own", "best")

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
