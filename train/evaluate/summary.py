"""From outcomes to reliance.json: the result table, and which networks are told apart."""

import itertools
from collections.abc import Iterator, Mapping

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.estimates.comparison import ComparisonResult, compare_magnitudes
from maskrobust.lm_modules.reliance.measurement import data_rows, difference_rows, result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance, class_rows
from maskrobust.lm_modules.reliance.measures.shape import reliance
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS, Outcomes
from maskrobust.lm_modules.reliance.plan import WITHOUT_OBJECTS
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.evaluate.config import QUICK, EvaluationConfig
from maskrobust.train.evaluate.measure import Answered, Runs
from maskrobust.train.evaluate.readings import with_readings
from maskrobust.train.evaluate.unlabelled import OWN_PREDICTIONS, without_labels
from maskrobust.train.probe import probe_source
from maskrobust.train.report.results import Results
from maskrobust.train.storage.provenance import provenance

_READINGS: dict[ComparisonResult, str] = {
    "above": "relies more",
    "below": "relies less",
    "not settled": "not told apart",
    "undefined": "undefined",
}


def summarise(
    config: EvaluationConfig,
    data: AnnotatedDataModule,
    answered: Answered,
    similarities: Mapping[str, FloatArray | None],
    *,
    seconds: float,
    command: str,
) -> Results:
    """Everything that reliance.json holds.

    Args:
        config: what was measured.
        data: the images.
        answered: what networks and mask-only probe answered about them.
        similarities: by network; see `answer_similarities`.
        seconds: how long the command took.
        command: as typed.
    """
    runs, probe, plans = answered
    first, main_method = next(iter(runs)), config.methods[0]
    shared = similarities[first]
    if not all(each is shared for each in similarities.values()):
        shared = None  # networks that answer with other classes than the first do not share their similarities
    rows = [
        *(row for method in config.methods if probe is not None for row in _pair_rows(config, runs, method, probe)),
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
    labelled = runs if data.num_classes else {}
    rows = with_readings(rows, {name: at_chance(by_method[main_method]) for name, by_method in labelled.items()})
    if data.num_classes:
        fraction, sampling = config.plan.hidden_fractions[0], {"replicates": config.replicates, "seed": config.seed}
        for name, by_method in runs.items():
            of_network = {method: by_method[method] for method in config.methods}
            rows += class_rows(name, of_network, data.class_names, fraction, **sampling)
    else:
        rows = [without_labels(row) for row in rows]
    content = {
        "networks": list(runs),
        "methods": list(config.methods),
        "compared_with": first,
        "settings": {
            "split": config.split,
            "labels": "of the data" if data.num_classes else OWN_PREDICTIONS,
            "left_out_classes": list(data.left_out_classes),
            "answers": config.answers,
            "precision": config.precision,
            "compile": config.compile,
            "probe": probe_source(data, config.split, config.probe_outlines) if probe is not None else "not asked",
            "left_out": [*[QUICK] * config.quick, *[WITHOUT_OBJECTS] * (probe is None)],
            "patch_size": config.plan.patch_size,
            "hidden_fractions": list(config.plan.hidden_fractions),
            "scenes": _scenes(runs[first][main_method]),
            "replicates": config.replicates,
            "seed": config.seed,
        },
        "provenance": provenance(seconds, command),
    }
    return Results("reliance", content, rows)


def _scenes(outcomes: Outcomes) -> list[dict[str, str | float]]:
    """Kind and texture energy of each picture without objects that was asked about."""
    if outcomes.scenes is None:
        return []
    described = zip(outcomes.scenes.kinds.tolist(), outcomes.scenes.energy.tolist(), strict=True)
    return [{"kind": SCENE_KINDS[kind], "texture_energy": energy} for kind, energy in described]


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
