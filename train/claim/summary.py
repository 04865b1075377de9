"""From outcomes to claim.json: the result table, the comparisons, and the verdict."""

from collections.abc import Iterator, Mapping
from typing import Any

from maskrobust.augment import read_choice
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.comparison import compare_magnitudes
from maskrobust.lm_modules.reliance.estimation import Estimate, estimate_difference
from maskrobust.lm_modules.reliance.measurement import data_rows, result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import clean_accuracy
from maskrobust.lm_modules.reliance.measures.used_share import reliance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.verdict import CLAIM, Comparison, caveat, decide, rule_in_words
from maskrobust.train.provenance import provenance
from maskrobust.train.report.results import FORMATS

Runs = Mapping[str, Mapping[int, Mapping[MaskingMethod, Outcomes]]]
"""Outcomes by arm, seed and masking method."""


def summarise(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes, *, seconds: float, command: str) -> dict[str, Any]:
    """Everything that claim.json holds, as plain values.

    Args:
        config: the claim.
        runs: outcomes of every arm, seed and masking method.
        probe: outcomes of the mask-only probe on the same images.
        seconds: how long the command took, without what it found on disk.
        command: as typed.
    """
    losses = {name: _clean_accuracy_difference(config, runs, name) for name in _compared_arms(config)}
    comparisons = compare(config, runs, probe, losses)
    verdict = decide(config.rule, comparisons, _loss(losses[config.rule.layer_masking_arm]))
    rows = [
        *_comparison_rows(config, comparisons, losses),
        *_data_rows(config, runs, probe),
        *(row for arm in config.arms for row in _arm_rows(config, arm, runs[arm], probe)),
    ]
    return {
        "format": FORMATS["claim"],
        "question": config.question,
        "claim": CLAIM,
        "verdict": {"outcome": verdict.outcome, "reason": verdict.reason, "caveat": caveat(len(config.seeds))},
        "rule": {"text": rule_in_words(config.rule), **config.content["rule"]},
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
                "trained_on": _trained_on(config.models[name]),
            }
            for name, arm in config.arms.items()
        },
        "rows": [row.as_json() for row in rows],
        "config": config.content,
        "provenance": provenance(seconds, command),
    }


def compare(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes, losses: Mapping[str, Estimate]) -> list[Comparison]:
    """Every augmentation-only arm against the layer-masking arm, by the magnitudes of their used shares.

    The arms that count share the rule's confidence (`compare_magnitudes`); any other has all of it.

    Args:
        config: the claim.
        runs: outcomes of every arm, seed and masking method.
        probe: outcomes of the mask-only probe on the same images.
        losses: clean accuracy of each arm minus that of the baseline.
    """
    rule = config.rule
    names = [name for name, arm in config.arms.items() if arm.augmentation_only]
    counted = [name for name in names if _loss(losses[name]) <= rule.clean_accuracy_tolerance]
    common = _runs_of(config, runs, rule.layer_masking_arm)
    families = [counted, *([name] for name in names if name not in counted)]
    compared = {
        name: found
        for family in families
        for name, found in compare_magnitudes(
            reliance(probe),
            {name: (_runs_of(config, runs, name), common) for name in family},
            margin=rule.margin,
            confidence=rule.confidence,
            replicates=config.evaluation.replicates,
        ).items()
    }
    return [Comparison(name, compared[name], name in counted) for name in names]


def _compared_arms(config: ClaimConfig) -> list[str]:
    """The arms that the rule looks at, beside the baseline."""
    named = (config.rule.layer_masking_arm, *(name for name, arm in config.arms.items() if arm.augmentation_only))
    return list(dict.fromkeys(named))


def _comparison_rows(
    config: ClaimConfig, comparisons: list[Comparison], losses: Mapping[str, Estimate]
) -> Iterator[Row]:
    for each in comparisons:
        yield Row.of(
            each.compared.difference,
            network=each.arm,
            method=config.arms[each.arm].method,
            measure="reliance",
            compared_with=config.rule.layer_masking_arm,
            level_low=each.compared.level_low,
            level_high=each.compared.level_high,
            reading=each.reading(config.rule.margin),
        )
    for arm, difference in losses.items():
        yield Row.of(
            difference,
            network=arm,
            method=config.arms[arm].method,
            measure="clean_accuracy",
            compared_with=config.rule.baseline,
        )


def _data_rows(config: ClaimConfig, runs: Runs, probe: ProbeOutcomes) -> list[Row]:
    baseline = config.rule.baseline
    plan = config.plans_of(baseline)[config.arms[baseline].method]
    first = _runs_of(config, runs, baseline)[0]
    return data_rows(first, Context(plan, probe), replicates=config.evaluation.replicates)


def _arm_rows(
    config: ClaimConfig, arm: str, runs: Mapping[int, Mapping[MaskingMethod, Outcomes]], probe: ProbeOutcomes
) -> Iterator[Row]:
    for method, plan in config.plans_of(arm).items():
        by_seed = {seed: run[method] for seed, run in runs.items()}
        yield from result_rows(
            arm, method, by_seed, Context(plan, probe), replicates=config.evaluation.replicates, by_seed=True
        )


def _trained_on(model: Mapping[str, Any]) -> dict[str, list[str]]:
    """Mask families and fills of a training, by name; none where it masks nothing, no fill under layer masking."""
    masked, filled = model["masking"] != "none", model["masking"] in ("fill", "mixture")
    return {
        "families": list(read_choice(model["mask_family"], "mask_family")) if masked else [],
        "fills": list(read_choice(model["fill"], "fill")) if filled else [],
    }


def _clean_accuracy_difference(config: ClaimConfig, runs: Runs, arm: str) -> Estimate:
    return estimate_difference(
        clean_accuracy(),
        _runs_of(config, runs, arm),
        _runs_of(config, runs, config.rule.baseline),
        replicates=config.evaluation.replicates,
    )


def _loss(difference: Estimate) -> float:
    assert difference.value is not None  # every image counts
    return -difference.value


def _runs_of(config: ClaimConfig, runs: Runs, arm: str) -> list[Outcomes]:
    """The arm's outcomes under the method that the rule looks at, one for each seed."""
    return [run[config.arms[arm].method] for run in runs[arm].values()]
