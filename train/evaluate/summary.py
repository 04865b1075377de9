"""From outcomes to reliance.json: the result table, and which networks are told apart."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, SCENES, Context
from maskrobust.lm_modules.reliance.comparison import Reading, compare_magnitudes
from maskrobust.lm_modules.reliance.measurement import data_rows, difference_rows, result_rows
from maskrobust.lm_modules.reliance.measures.used_share import reliance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.unlabelled import OWN_PREDICTIONS, without_labels
from maskrobust.train.probe import probe_source
from maskrobust.train.report.results import FORMATS
from maskrobust.train.storage.provenance import provenance

Runs = Mapping[str, Mapping[MaskingMethod, Outcomes]]
"""Outcomes by network and masking method."""

_READINGS: dict[Reading, str] = {
    "above": "relies more",
    "below": "relies less",
    "not settled": "not told apart",
    "undefined": "undefined",
}


def summarise(
    config: EvaluationConfig,
    runs: Runs,
    probe: ProbeOutcomes,
    similarities: Mapping[str, FloatArray | None],
    *,
    seconds: float,
    command: str,
) -> dict[str, Any]:
    """Everything that reliance.json holds, as plain values.

    Args:
        config: what was measured.
        runs: the networks' outcomes.
        probe: the mask-only probe's outcomes on the same images.
        similarities: by network; see `answer_similarities`.
        seconds: how long the command took.
        command: as typed.
    """
    plans = config.plans
    first, main_method = next(iter(runs)), config.methods[0]
    shared = similarities[first]
    if not all(each is shared for each in similarities.values()):
        shared = None  # networks that answer with other classes than the first do not share their similarities
    rows = [
        *(row for method in config.methods for row in _pair_rows(config, runs, method, probe)),
        *data_rows(
            runs[first][main_method],
            Context(plans[main_method], probe),
            replicates=config.replicates,
            seed=config.seed,
        ),
        *(
            row
            for name, by_method in runs.items()
            for method, outcomes in by_method.items()
            for row in map(
                _with_reading,
                result_rows(
                    name,
                    method,
                    {0: outcomes},
                    Context(plans[method], probe, similarities[name]),
                    replicates=config.replicates,
                    seed=config.seed,
                ),
            )
        ),
        *(
            row
            for name, by_method in itertools.islice(runs.items(), 1, None)
            for method in config.methods
            for row in difference_rows(
                name,
                first,
                method,
                ([by_method[method]], [runs[first][method]]),
                Context(plans[method], probe, shared),
                replicates=config.replicates,
                seed=config.seed,
            )
        ),
    ]
    if not config.data.num_classes:
        rows = [without_labels(row) for row in rows]
    return {
        "format": FORMATS["reliance"],
        "networks": list(runs),
        "methods": list(config.methods),
        "compared_with": first,
        "rows": [row.as_json() for row in rows],
        "settings": {
            "split": config.split,
            "labels": "of the data" if config.data.num_classes else OWN_PREDICTIONS,
            "left_out_classes": list(config.data.left_out_classes),
            "answers": config.answers,
            "precision": config.precision,
            "compile": config.compile,
            "probe": probe_source(config.data, config.split, config.probe_outlines),
            "patch_size": config.patch_size,
            "hidden_fractions": list(config.hidden_fractions),
            "replicates": config.replicates,
            "seed": config.seed,
        },
        "provenance": provenance(seconds, command),
    }


def _with_reading(row: Row) -> Row:
    """A used share or a scene 2AFC with what its own 95 % interval says.

    A network relies on outlines where its used share is not 0, whatever the sign; it tells holes apart where its 2AFC
    is above .5.
    """
    if row.low is None or row.high is None:
        return row
    if row.measure == HEADLINE:
        return replace(row, reading="not shown" if row.low <= 0.0 <= row.high else "relies on outlines")
    if row.measure == SCENES:
        return replace(row, reading="told apart" if row.low > 0.5 else "not shown")
    return row


def _pair_rows(config: EvaluationConfig, runs: Runs, method: MaskingMethod, probe: ProbeOutcomes) -> Iterator[Row]:
    """Every pair of networks by the magnitudes of their used shares; a method's pairs share their confidence."""
    pairs = list(itertools.combinations(runs, 2))
    compared = compare_magnitudes(
        reliance(probe),
        {f"{place}": ([runs[later][method]], [runs[earlier][method]]) for place, (earlier, later) in enumerate(pairs)},
        replicates=config.replicates,
        seed=config.seed,
    )
    for (earlier, later), found in zip(pairs, compared.values(), strict=True):
        yield Row.of(
            found.difference,
            network=later,
            method=method,
            measure="reliance",
            compared_with=earlier,
            level_low=found.level_low,
            level_high=found.level_high,
            reading=_READINGS[found.reading()],
        )
