"""From outcomes to reliance.json: the result table, and which networks are told apart."""

import itertools
from collections.abc import Iterator, Mapping

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.comparison import Reading, compare_magnitudes
from maskrobust.lm_modules.reliance.measurement import data_rows, difference_rows, result_rows
from maskrobust.lm_modules.reliance.measures.class_accuracy import class_rows
from maskrobust.lm_modules.reliance.measures.used_share import reliance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.readings import with_readings
from maskrobust.train.evaluate.unlabelled import OWN_PREDICTIONS, without_labels
from maskrobust.train.probe import probe_source
from maskrobust.train.report.results import Results
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
) -> Results:
    """Everything that reliance.json holds.

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
            for row in result_rows(
                name,
                method,
                {0: outcomes},
                Context(plans[method], probe, similarities[name]),
                replicates=config.replicates,
                seed=config.seed,
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
    rows = with_readings(rows, config.data.num_classes)
    if config.data.num_classes:
        fraction, sampling = config.hidden_fractions[0], {"replicates": config.replicates, "seed": config.seed}
        for name, by_method in runs.items():
            asked = {method: by_method[method] for method in config.methods}
            rows += class_rows(name, asked, config.data.class_names, fraction, **sampling)
    else:
        rows = [without_labels(row) for row in rows]
    content = {
        "networks": list(runs),
        "methods": list(config.methods),
        "compared_with": first,
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
    return Results("reliance", content, rows)


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
