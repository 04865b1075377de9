"""Write claim.json: the result table, the comparisons and the verdict."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.estimates.comparison import magnitude_difference
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Estimate,
    estimate_pair,
    estimate_with_error,
)
from maskrobust.lm_modules.reliance.measurement import result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import (
    answers_behind_circles,
    at_chance,
    chance_level,
    clean_accuracy,
    retention,
)
from maskrobust.lm_modules.reliance.measures.shape import reliance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.runs import MeasuredRun
from maskrobust.train.claim.verdict import (
    CLAIMS,
    LEAST_SEEDS,
    LEAST_VARIED,
    Pair,
    Verdict,
    decide,
    few_seeds,
    fills_in_words,
    known_before,
    level_of,
    level_of_most,
    nothing_to_prevent,
    readings,
    refuting,
    third_of_level,
    undecided,
    without_training,
)
from maskrobust.train.report.results import Results
from maskrobust.train.storage.provenance import provenance

ArmRuns = Mapping[str, Mapping[int, MeasuredRun]]
"""By arm and seed."""


class _Loss(NamedTuple):
    """Clean accuracy of an arm against the baseline.

    Attributes:
        difference: that of the arm minus that of the baseline, with its 95 % interval.
        is_shown: whether it is shown to lie below what the rule tolerates, so that the arm does not count.
        is_kept: p-value, small where it is shown to lie above that.
    """

    difference: Estimate
    is_shown: bool
    is_kept: float


def summarise(config: ClaimConfig, runs: ArmRuns, *, seconds: float) -> Results:
    """Everything that claim.json holds.

    Args:
        config: the claim.
        runs: the runs, one for each arm and seed.
        seconds: how long the command took, without what it found on disk.
    """
    rule = config.rule
    augmentation_only = [name for name, arm in config.arms.items() if arm.augmentation_only]
    losses = {
        name: _clean_accuracy_loss(config, runs, name)
        for name in dict.fromkeys((rule.layer_masking_arm, *augmentation_only))
    }
    pairs = [
        compare(config, runs, arm, fill, loss=losses[arm])
        for arm, fill in itertools.product(augmentation_only, config.evaluation.fills)
    ]
    reason = _why_undecided(config, runs, losses[rule.layer_masking_arm])
    verdicts = undecided(reason) if reason else decide(rule, pairs)
    besides = without_training(rule, config.arms[rule.baseline].title, refuting(rule, "needed", pairs))
    if verdicts["needed"].outcome == "refuted":
        verdicts["needed"] = Verdict("refuted", f"{verdicts['needed'].reason}{besides}")
    content = {
        "question": config.question,
        "claims": dict(CLAIMS),
        "verdicts": [{"case": claim, **found._asdict()} for claim, found in verdicts.items()],
        "asked": [each.arm for each in pairs if each.is_own and each.counts and not nothing_to_prevent(rule, each)],
        "fills": fills_in_words(config.evaluation.fills),
        "known_before": " ".join(known_before(config)),
        "rule": {**config.content["rule"], "least_varied": LEAST_VARIED, "least_seeds": LEAST_SEEDS},
        "chance": 1.0 / config.data.num_classes,
        "methods": list(config.evaluation.methods),
        "hidden_fraction": config.evaluation.hidden_fraction,
        "seeds": config.seeds,
        "arms": {
            name: {
                "title": arm.title,
                "augmentation_only": arm.augmentation_only,
                "method": arm.method,
                "training": arm.model,
            }
            for name, arm in config.arms.items()
        },
        "config": config.content,
        "provenance": provenance(seconds),
    }
    return Results("claim", content, [*_rows(config, runs, pairs, losses)])


def _rows(config: ClaimConfig, runs: ArmRuns, pairs: Sequence[Pair], losses: Mapping[str, _Loss]) -> Iterator[Row]:
    """Rows of pairs, of clean accuracy against the baseline, of the data, and of every arm under every method."""
    rule = config.rule
    for pair, reading in zip(pairs, readings(rule, pairs), strict=True):
        yield from _pair_rows(config, pair, reading)
    for arm, loss in losses.items():
        of = {"network": arm, "method": config.arms[arm].method, "compared_with": rule.baseline}
        yield Row.of(loss.difference, measure="clean_accuracy", **of)
    of_data = {0: _own_runs(config, runs, rule.baseline)[0]}
    asked = Context(config.plans_of(rule.baseline)[config.arms[rule.baseline].method])
    yield from result_rows("", "", of_data, asked, wanted=lambda measure: measure.of_data)
    for arm in config.arms:
        for method, plan in config.plans_of(arm).items():
            of_seeds = {seed: run[method] for seed, run in runs[arm].items()}
            yield from result_rows(arm, method, of_seeds, Context(plan), by_seed=True)


def _why_undecided(config: ClaimConfig, runs: ArmRuns, loss: _Loss) -> str:
    """Why nothing can be decided, whatever the pairs; empty otherwise.

    Args:
        config: the claim.
        runs: the runs, one for each arm and seed.
        loss: what the layer-masking arm loses.
    """
    reasons = [at_chance(outcomes) for outcomes in _own_runs(config, runs, config.rule.baseline)]
    if all(reasons):
        title = config.arms[config.rule.baseline].title
        return f"'{title}' has learned nothing: {reasons[0]}. Train for more epochs, or on more images."
    if loss.is_shown:
        return (
            f"The layer-masking arm loses {-100 * (loss.difference.value or 0.0):.1f} points of clean accuracy against "
            f"the baseline, and is shown to lose more than the tolerance of "
            f"{100 * config.rule.clean_accuracy_tolerance:.1f}, so its reliance cannot be compared."
        )
    own, tolerance = _own_runs(config, runs, config.rule.layer_masking_arm), config.rule.retention_tolerance
    kept = estimate_with_error(retention(config.evaluation.hidden_fraction), own)
    if few := few_seeds(len(config.seeds)):
        return few
    if kept is None or kept.level_above(chance_level(own[0])[0] + tolerance) >= level_of(config.rule):
        return (
            f"The layer-masking arm is not shown to be more than {100 * tolerance:.1f} points better than chance with "
            "patches hidden, so nothing can be compared with it. Train for more epochs, or on more images."
        )
    return ""


def compare(config: ClaimConfig, runs: ArmRuns, arm: str, fill: MaskingMethod, *, loss: _Loss) -> Pair:
    """An arm under a fill, alone, against the layer-masking arm under its own method, and against the baseline.

    Args:
        config: the claim.
        runs: the runs, one for each arm and seed.
        arm: name of the arm.
        fill: masking method that it is asked under.
        loss: clean accuracy of the arm against the baseline.
    """
    rule = config.rule
    asked, bare = ([run[fill] for run in runs[name].values()] for name in (arm, rule.baseline))
    reference = _own_runs(config, runs, rule.layer_masking_arm)
    kept_accuracy = retention(config.evaluation.hidden_fraction)
    accuracy, signed = estimate_pair(kept_accuracy, asked, reference)
    reliance_of, magnitude = magnitude_difference(reliance(), asked, reference)
    less_than_bare, below = magnitude_difference(reliance(), asked, bare)
    assert signed is not None  # accuracy divides by nothing, and every image counts
    kept, tolerance = signed[0], rule.retention_tolerance
    own, of_bare = (estimate_with_error(reliance(), each) for each in (asked, bare))
    of_seeds = [each for run in asked if (each := estimate_with_error(reliance(), [run]))]
    seen, varied = (estimate_with_error(each, asked) for each in (kept_accuracy, answers_behind_circles()))
    chance = chance_level(asked[0])[0]
    return Pair(
        arm,
        config.arms[arm].title,
        fill,
        is_own=fill == config.arms[arm].method,
        counts=not loss.is_shown,
        accuracy=accuracy.within(kept.interval(rule.confidence)),
        reliance=reliance_of if magnitude is None else reliance_of.within(magnitude.interval(*[level_of(rule)] * 2)),
        less_than_bare=less_than_bare
        if below is None
        else less_than_bare.within(below.interval(*[level_of(rule)] * 2)),
        keeps_less=kept.negated().level_above(tolerance),
        keeps_enough=kept.level_above(-tolerance),
        relies_more=1.0 if magnitude is None else magnitude.level_to_exceed(rule.margin),
        relies_little=1.0 if own is None else max(own.level_within(rule.margin), level_of_most(of_seeds, rule)),
        sees=1.0
        if seen is None or varied is None
        else max(seen.level_above(chance + tolerance), varied.level_above(LEAST_VARIED)),
        clean_kept=loss.is_kept,
        something_to_prevent=1.0 if of_bare is None else of_bare.level_outside(rule.margin),
        nothing_to_prevent=1.0 if of_bare is None else of_bare.level_within(rule.margin),
    )


def _pair_rows(config: ClaimConfig, pair: Pair, reading: str) -> Iterator[Row]:
    """Rows of the differences of a pair; the row of reliance against layer masking says what was shown."""
    of = {"network": pair.arm, "method": pair.fill, "compared_with": config.rule.layer_masking_arm}
    hidden = {"hidden_fraction": config.evaluation.hidden_fraction}
    yield Row.of(pair.accuracy, measure="retention", parameters=hidden, **of)
    yield Row.of(pair.reliance, measure="reliance", reading=reading, **of)
    yield Row.of(pair.less_than_bare, measure="reliance", **{**of, "compared_with": config.rule.baseline})


def _clean_accuracy_loss(config: ClaimConfig, runs: ArmRuns, arm: str) -> _Loss:
    arms = (_own_runs(config, runs, name) for name in (arm, config.rule.baseline))
    found, signed = estimate_pair(clean_accuracy(), *arms)
    assert signed is not None  # accuracy divides by nothing, and every image counts
    lost, tolerance = signed[0].negated(), config.rule.clean_accuracy_tolerance
    is_shown = lost.level_above(tolerance) < third_of_level(config.rule) / 2.0
    return _Loss(found.within(signed[0].interval()), is_shown, signed[0].level_above(-tolerance))


def _own_runs(config: ClaimConfig, runs: ArmRuns, arm: str) -> list[Outcomes]:
    return [run[config.arms[arm].method] for run in runs[arm].values()]
