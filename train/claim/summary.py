"""From outcomes to claim.json: the result table, the comparisons, and the verdict."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from maskrobust.augment import read_choice
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.estimates.comparison import ComparedMagnitude, compare_magnitudes
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, estimate_difference, mean_fraction_interval
from maskrobust.lm_modules.reliance.measurement import data_rows, result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance, clean_accuracy
from maskrobust.lm_modules.reliance.measures.shape import reliance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.claim.config import ClaimConfig, DecisionRule
from maskrobust.train.claim.runs import CHECK_IMAGES, MeasuredRun, check_in_words
from maskrobust.train.claim.verdict import (
    CASES,
    CLAIMS,
    REFUTES,
    CaseName,
    Comparison,
    Selection,
    Verdict,
    caveat,
    choose_cases,
    decide,
    rule_in_words,
)
from maskrobust.train.report.results import TRAINING, Results
from maskrobust.train.report.wording import in_sentence, listed, method_title
from maskrobust.train.storage.provenance import provenance

ArmRuns = Mapping[str, Mapping[int, MeasuredRun]]
"""By arm and seed."""


def summarise(config: ClaimConfig, runs: ArmRuns, probe: ProbeOutcomes, *, seconds: float, command: str) -> Results:
    """Everything that claim.json holds.

    Args:
        config: the claim.
        runs: of every arm and seed.
        probe: outcomes of the mask-only probe on the same images.
        seconds: how long the command took, without what it found on disk.
        command: as typed.
    """
    rule, titles = config.rule, {name: arm.title for name, arm in config.arms.items()}
    replicates = config.evaluation.replicates
    augmentation_only = [name for name, arm in config.arms.items() if arm.augmentation_only]
    cases = choose_cases(config, {arm: [run.validation for run in found.values()] for arm, found in runs.items()})
    differences = {
        name: _clean_accuracy_difference(config, runs, name)
        for name in dict.fromkeys((rule.layer_masking_arm, *augmentation_only))
    }
    losses = {name: -difference.value for name, difference in differences.items() if difference.value is not None}

    @cache  # most tolerances leave the same arms, and each comparison costs a bootstrap
    def compared(case: CaseName, *eligible: str) -> tuple[list[Comparison], str]:
        found = compare(config, runs, cases, case, probe, eligible)
        return found, _without_training(config, runs, found, probe)

    unlearned = _at_chance(config, runs)
    rows: list[Row] = []
    verdicts: list[dict[str, Any]] = []
    for case, tolerance in itertools.product(CASES, sorted({rule.clean_accuracy_tolerance, *rule.further_tolerances})):
        at = replace(rule, clean_accuracy_tolerance=tolerance)
        comparisons, without_training = compared(case, *(n for n in augmentation_only if losses[n] <= tolerance))
        found = decide(at, comparisons, losses[rule.layer_masking_arm])
        if unlearned:
            found = Verdict("undecided", unlearned)
        reason = found.reason + without_training * (found.outcome == "refuted")
        verdicts.append({"case": case, "tolerance": tolerance, "outcome": found.outcome, "reason": reason})
        rows += _comparison_rows(at, comparisons, case)
    rows = [
        *rows,
        *(
            Row.of(
                difference,
                network=arm,
                method=config.arms[arm].method,
                measure="clean_accuracy",
                compared_with=rule.baseline,
            )
            for arm, difference in differences.items()
        ),
        *data_rows(
            _own_runs(config, runs, rule.baseline)[0],
            Context(config.plans_of(rule.baseline)[config.arms[rule.baseline].method], probe),
            replicates=replicates,
        ),
        *(
            row
            for arm in config.arms
            for method, plan in config.plans_of(arm).items()
            for row in result_rows(
                arm,
                method,
                {seed: run.outcomes[method] for seed, run in runs[arm].items()},
                Context(plan, probe),
                replicates=replicates,
                by_seed=True,
            )
        ),
        *manipulation_check_rows(config, runs),
    ]
    content = {
        "question": config.question,
        "claims": dict(CLAIMS),
        "verdicts": verdicts,
        "caveat": caveat(len(config.seeds)),
        "rule": {"text": rule_in_words(config.rule, titles), **config.content["rule"]},
        "chance": 1.0 / config.data.num_classes,
        "methods": list(config.evaluation.methods),
        "hidden_fraction": config.evaluation.hidden_fraction,
        "seeds": config.seeds,
        "arms": {
            name: {
                "title": arm.title,
                "augmentation_only": arm.augmentation_only,
                "method": arm.method,
                "cases": {case: list(dict.fromkeys(found)) for case, found in cases[name].methods.items()},
                "keeps_retention": cases[name].keeps_retention,
                "validation": {method: each._asdict() for method, each in cases[name].candidates.items()},
                "training": arm.model,
                "trained_on": _trained_on(config.models[name]),
                "manipulation_check": ""
                if (check := config.manipulation_checks.get(name)) is None
                else check_in_words(check),
            }
            for name, arm in config.arms.items()
        },
        "config": config.content,
        "provenance": provenance(seconds, command),
    }
    return Results("claim", content, rows)


def _at_chance(config: ClaimConfig, runs: ArmRuns) -> str:
    """Why nothing can be decided where no seed of the baseline is better than chance; empty where one is."""
    reasons = [at_chance(outcomes) for outcomes in _own_runs(config, runs, config.rule.baseline)]
    title = config.arms[config.rule.baseline].title
    return f"'{title}' has learned nothing: {reasons[0]}. Train for more epochs, or on more images." * all(reasons)


def _without_training(
    config: ClaimConfig, runs: ArmRuns, comparisons: Sequence[Comparison], probe: ProbeOutcomes
) -> str:
    """A sentence where a baseline without masks reads as little under fills that refute the claim; empty otherwise."""
    rule = config.rule
    refuting = [each for each in comparisons if each.reading(rule.margin) == REFUTES]
    if not refuting or config.models[rule.baseline]["masking"] != "none":
        return ""
    methods = dict.fromkeys(method for each in refuting for method in each.method.split("/"))
    untrained = {method: _runs_of(runs, rule.baseline, [method] * len(config.seeds)) for method in methods}
    compared = _beyond_layer_masking(config, runs, untrained, probe)
    fills = [
        in_sentence(method_title(method)) for method, found in compared.items() if found.reading(rule.margin) == "below"
    ]
    if not fills:
        return ""
    named = f"'{config.arms[rule.baseline].title}', which was never trained on masks, under {listed(fills)}"
    return f" So does that of {named}: the fill does it, not the training."


def compare(
    config: ClaimConfig,
    runs: ArmRuns,
    cases: Mapping[str, Selection],
    case: CaseName,
    probe: ProbeOutcomes,
    eligible: Collection[str],
) -> list[Comparison]:
    """Every augmentation-only arm against the layer-masking arm, by the magnitudes of their used shares.

    The arms that count, and keep what the case asks for, share the confidence of the upper bounds
    (`compare_magnitudes`); any other has all of it.

    Args:
        config: the claim.
        runs: of every arm and seed.
        cases: the masking methods of every arm.
        case: under which of them it is looked at.
        probe: outcomes of the mask-only probe on the same images.
        eligible: the arms that lose no more clean accuracy than the rule tolerates.
    """
    names = [name for name, arm in config.arms.items() if arm.augmentation_only]
    keeps = {name: case == "own" or cases[name].keeps_retention for name in names}
    rivals = [name for name in names if name in eligible and keeps[name]]
    compared = {
        name: found
        for family in (rivals, *([name] for name in names if name not in rivals))
        for name, found in _beyond_layer_masking(
            config, runs, {name: _runs_of(runs, name, cases[name].methods[case]) for name in family}, probe
        ).items()
    }
    return [
        Comparison(
            name,
            config.arms[name].title,
            "/".join(dict.fromkeys(cases[name].methods[case])),
            compared[name],
            name in eligible,
            keeps[name],
        )
        for name in names
    ]


def _beyond_layer_masking(
    config: ClaimConfig,
    runs: ArmRuns,
    looked_at: Mapping[str, Sequence[Outcomes]],
    probe: ProbeOutcomes,
) -> dict[str, ComparedMagnitude]:
    """Outcomes by name, one for each seed, against those of the layer-masking arm under its own method."""
    rule = config.rule
    reference = _own_runs(config, runs, rule.layer_masking_arm)
    return compare_magnitudes(
        reliance(probe),
        {name: (found, reference) for name, found in looked_at.items()},
        margin=rule.margin,
        confidence=rule.confidence,
        all_above=True,
        replicates=config.evaluation.replicates,
    )


def manipulation_check_rows(config: ClaimConfig, runs: ArmRuns) -> Iterator[Row]:
    """How well each arm that trains on masks, and the baseline, do in what the former was trained for.

    The value is a mean over seeds; from two seeds on it has an interval over seeds, see `mean_fraction_interval`.
    """
    for training, network in itertools.product(config.manipulation_checks, config.arms):
        if network in (training, config.rule.baseline):
            found = [run.manipulation_check.get(training) for run in runs[network].values()]
            values = [value for value in found if value is not None]
            if values:
                low, high = mean_fraction_interval(values)
                yield Row(
                    network,
                    TRAINING,
                    "manipulation_check",
                    float(np.mean(values)),
                    low,
                    high,
                    images=CHECK_IMAGES,
                    left_out=0,
                    parameters={"training": training},
                )


def _comparison_rows(rule: DecisionRule, comparisons: Sequence[Comparison], case: CaseName) -> Iterator[Row]:
    for each in comparisons:
        yield Row.of(
            each.compared.difference,
            network=each.arm,
            method=each.method,
            measure="reliance",
            parameters={"case": case, "tolerance": rule.clean_accuracy_tolerance},
            compared_with=rule.layer_masking_arm,
            level_low=each.compared.level_low,
            level_high=each.compared.level_high,
            reading=each.reading(rule.margin),
        )


def _trained_on(model: Mapping[str, Any]) -> dict[str, list[str]]:
    """Mask families and fills of a training, by name; none where it masks nothing, no fill under layer masking."""
    masked, filled = model["masking"] != "none", model["masking"] in ("fill", "mixture")
    return {
        "families": list(read_choice(model["mask_family"], "mask_family")) if masked else [],
        "fills": list(read_choice(model["fill"], "fill")) if filled else [],
    }


def _clean_accuracy_difference(config: ClaimConfig, runs: ArmRuns, arm: str) -> Estimate:
    """Of an arm minus the baseline, on the validation split."""
    arms = (
        [run.validation[config.arms[name].method] for run in runs[name].values()]
        for name in (arm, config.rule.baseline)
    )
    return estimate_difference(clean_accuracy(), *arms, replicates=config.evaluation.replicates)


def _runs_of(runs: ArmRuns, arm: str, methods: Sequence[MaskingMethod]) -> list[Outcomes]:
    """The arm's outcomes, one for each seed, under the masking method of each."""
    return [run.outcomes[method] for run, method in zip(runs[arm].values(), methods, strict=True)]


def _own_runs(config: ClaimConfig, runs: ArmRuns, arm: str) -> list[Outcomes]:
    return [run.outcomes[config.arms[arm].method] for run in runs[arm].values()]
