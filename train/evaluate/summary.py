"""Write the files of an evaluation: the result table, its findings, every prediction."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, Context
from maskrobust.lm_modules.reliance.estimates.comparison import compare_magnitudes
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.measurement import difference_rows, result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance, chance_level
from maskrobust.lm_modules.reliance.measures.shape import reliance
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS, Outcomes
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.measure import Answered
from maskrobust.train.evaluate.own_holes import about_holes, mended_alike
from maskrobust.train.report.results import MEANINGLESS, Results, as_csv
from maskrobust.train.storage.provenance import provenance

HEAD = ("sample_id", "sample", "label", "network", "method", "hidden_fraction", "prediction")


def summarise(
    config: EvaluationConfig, answered: Answered, own_methods: Mapping[str, MaskingMethod], *, seconds: float
) -> Results:
    """Everything that reliance.json holds.

    Args:
        config: what was measured.
        answered: what networks answered about them.
        own_methods: for each network that was trained with holes, the masking method that it was trained for.
        seconds: how long the command took.
    """
    runs = answered.runs
    first, main_method = next(iter(runs)), config.methods[0]
    of_data, context = {0: runs[first][main_method]}, _context(answered, main_method)
    rows = [
        *_pair_rows(config.methods, answered),
        *result_rows("", "", of_data, context, wanted=lambda measure: measure.of_data),
        *(
            row
            for name, by_method in runs.items()
            for method, outcomes in by_method.items()
            for row in result_rows(name, method, {0: outcomes}, _context(answered, method))
        ),
        *mended_alike(answered),
        *_differences(config, answered),
    ]
    rows = with_readings(rows, {name: _at_chance(by_method.values()) for name, by_method in runs.items()})
    content = content_of(
        config,
        own_methods,
        seconds,
        {
            "left_out": list(answered.left_out),
            "names_objects": config.data.names_objects,
            "patch_size": config.plan.patch_size,
            "scenes": _scenes(runs[first][main_method]),
        },
        num_classes=runs[first][main_method].num_classes,
        chance=chance_level(runs[first][main_method])[0],
        own_holes=about_holes(answered),
    )
    return Results("reliance", content, rows)


def content_of(
    config: EvaluationConfig,
    own_methods: Mapping[str, MaskingMethod],
    seconds: float,
    settings: Mapping[str, Any],
    **about: Any,
) -> dict[str, Any]:
    """All of reliance.json but its rows; `settings` and `about` are what differs between kinds of networks."""
    return {
        "networks": list(config.network),
        "methods": list(config.methods),
        "compared_with": config.network[0],
        "own_methods": {name: own for name, own in own_methods.items() if own in config.methods},
        **about,
        "settings": {
            "split": config.split,
            "answers": config.answers,
            "precision": config.precision,
            "hidden_fractions": list(config.plan.hidden_fractions),
            **settings,
            "seed": config.seed,
        },
        "provenance": provenance(seconds),
    }


def _context(answered: Answered, method: MaskingMethod) -> Context:
    """What was asked under a masking method, and prepared."""
    return Context(answered.plans[method], answered.holes)


def _at_chance(outcomes: Iterable[Outcomes]) -> str:
    """What `at_chance` says of a network under its first way of hiding, if it says something under each."""
    reasons = [at_chance(each) for each in outcomes]
    return reasons[0] if all(reasons) else ""


def _scenes(outcomes: Outcomes) -> list[dict[str, str | float]]:
    """Kind and texture energy of each empty scene that was asked about."""
    if outcomes.scenes is None:
        return []
    described = zip(outcomes.scenes.kinds.tolist(), outcomes.scenes.energy.tolist(), strict=True)
    return [{"kind": SCENE_KINDS[kind], "texture_energy": energy} for kind, energy in described]


def _pair_rows(all_methods: Sequence[MaskingMethod], answered: Answered) -> Iterator[Row]:
    """Every pair of networks under one method, and of methods of one network, by how far shape choices lie from 1/2.

    The pairs under one method share their confidence, and so do those of one network. There is none where networks were
    not asked for shape choices.
    """
    runs, plans = answered.runs, answered.plans
    methods = [method for method in all_methods if plans[method].shapes and plans[method].shape_choice]
    twos, ways = [*itertools.combinations(runs, 2)], [*itertools.combinations(methods, 2)]
    families = [[((one, method), (other, method)) for other, one in twos] for method in methods]
    families += [[((name, one), (name, other)) for other, one in ways] for name in runs]
    for pairs in families:
        outcomes = {((a, of_a), (b, of_b)): ([runs[a][of_a]], [runs[b][of_b]]) for (a, of_a), (b, of_b) in pairs}
        compared = compare_magnitudes(reliance(), outcomes)
        for ((network, method), (other, other_method)), found in compared.items():
            low, high = found.difference.low, found.difference.high
            if low is None or high is None:
                reading = "undefined"
            else:
                reading = "relies more" if low > 0 else "relies less" if high < 0 else "no evidence of a difference"
            yield Row.of(
                found.difference,
                network=network,
                method=method,
                measure="reliance",
                compared_with=other,
                compared_method=other_method if other_method != method else "",
                level_low=found.level_low,
                level_high=found.level_high,
                reading=reading,
            )


def _differences(config: EvaluationConfig, answered: Answered) -> Iterator[Row]:
    """Every network minus the first one under each method, and every method minus the first one of each network."""
    runs = answered.runs
    (first, *others), (main, *further) = runs, config.methods
    pairs = [((name, method), (first, method)) for name in others for method in config.methods]
    pairs += [((name, method), (name, main)) for name in runs for method in further]
    for (network, method), (other, other_method) in pairs:
        context = min(
            (_context(answered, each) for each in (method, other_method)), key=lambda each: each.plan.own_holes
        )
        both = [runs[network][method]], [runs[other][other_method]]
        for row in difference_rows(network, other, method, both, context):
            if other_method == method:
                yield row
            elif row.measure != "clean_accuracy" or _differ(runs[network][method], runs[network][other_method]):
                yield replace(row, compared_method=other_method)


def _differ(outcomes: Outcomes, other: Outcomes) -> bool:
    """Whether answers with nothing hidden differ between ways of hiding, as where images have holes of their own."""
    return not np.array_equal(outcomes.predictions_under("clean"), other.predictions_under("clean"))


def with_readings(rows: Sequence[Row], at_chance: Mapping[str, str]) -> list[Row]:
    """The rows, with what the interval of shape choices or of an outline pull says, and where a number means nothing.

    A network relies on outlines where its shape choices are not 50 %, on whichever side; holes pull it towards their
    objects where its outline pull is above 0. Shape choices, clean accuracy and comparisons mean nothing
    where a network is at chance with nothing hidden.

    Args:
        rows: rows for networks, and for pairs of networks or ways of hiding whose shape choices are compared.
        at_chance: for each network what `measures.accuracy.at_chance` says, empty where it is better than chance.
    """

    def read(row: Row) -> Row:
        because = at_chance.get(row.network) or at_chance.get(row.compared_with)
        about_one = row.measure in (HEADLINE, "clean_accuracy") and not row.compared_with
        if because and (about_one or row.measure == "reliance"):
            return replace(row, reading=MEANINGLESS + because)
        if row.compared_with or row.low is None or row.high is None:
            return row
        if row.measure == HEADLINE:
            return replace(row, reading="no evidence" if row.low <= 0.5 <= row.high else "relies on outlines")
        if row.measure == OUTLINE_PULL:
            return replace(row, reading="pulled" if row.low > 0.0 else "no evidence")
        return row

    return [read(row) for row in rows]


def predictions_csv(
    runs: Mapping[str, Mapping[MaskingMethod, Outcomes]],
    hidden_fractions: Sequence[float],
    class_names: Sequence[str],
    sample_name: Callable[[int], str],
) -> str:
    """A line for each image, network, masking method and hidden fraction, with nothing hidden first.

    With nothing hidden the method is empty where all have the same answers, as they do unless images have holes of
    their own.

    Args:
        runs: outcomes by network and masking method.
        hidden_fractions: fractions in [0, 1] of the patches that were hidden.
        class_names: one name for each class, in label order; a prediction of none of them is "another class".
        sample_name: what the sample of an id is called, such as its file.
    """
    lines, names = [], dict(enumerate(class_names))
    for network, by_method in runs.items():
        whole = [(method, 0.0, run, "clean") for method, run in by_method.items()]
        first = whole[0][2]
        conditions = whole if any(_differ(first, run) for run in by_method.values()) else [("", 0.0, first, "clean")]
        conditions += [
            (method, fraction, run, retention_condition(fraction))
            for method, run in by_method.items()
            for fraction in hidden_fractions
        ]
        for method, fraction, run, condition in conditions:
            found = zip(run.ids.tolist(), run.labels.tolist(), run.predictions_under(condition).tolist(), strict=True)
            for sample, label, prediction in found:
                if prediction >= 0:
                    about = (sample_name(sample), names[label], network, method, fraction)
                    lines.append((sample, *about, names.get(prediction, "another class")))
    return as_csv(HEAD, lines)
