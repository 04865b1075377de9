"""The report section on doses: shape choices against the fraction of training images that had a hole."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import only
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.chart import Point, chart_lines
from maskrobust.train.report.results import PRESENTATION, Network, Results
from maskrobust.train.report.wording import family_title, in_sentence

_DOSE = "mask_probability"
_TICKS, _PARTS = (0, 0.3, 0.6, 0.9), (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def doses(results: Results) -> Markup | None:
    """Lines of arms that paint holes and are alike but for their dose, from the baseline on, and layer masking beside.

    None where no two arms differ in nothing but the dose.
    """
    rule, arms = results.content["rule"], dict[tuple[str, str], list[Point]]()
    for network in results.networks:
        training, method = results.training_of(network), str(network.arm["method"])
        if training["masking"] == "fill":
            alike = arms.setdefault((_title(training, network), method), [])
            alike.extend(_points(results, network.name, method, training[_DOSE]))
    lines = {
        title: [*points, *_points(results, rule["baseline"], method, 0.0)]
        for (title, method), points in arms.items()
        if len({point.at for point in points}) > 1
    }
    if not lines:
        return None
    masked = results.network(rule["layer_masking_arm"])
    if level := _points(results, masked.name, str(masked.arm["method"]), 0.0, 1.0):
        lines[masked.title] = level
    drawn = [(Network(title, title, number, {}), lines[title]) for number, title in enumerate(lines, start=1)]
    return page_part("doses.html", lines=chart_lines(drawn), ticks=_TICKS, parts=_PARTS)


def _title(training: Mapping[str, Any], network: Network) -> str:
    """Family and fill, and what else an arm is trained with of its own, as in "Patches, black, objective: focal"."""
    of_its_own = network.arm.get("training", {})
    return ", ".join(
        [
            " and ".join(map(family_title, _names(training["mask_family"]))),
            " and ".join(in_sentence(family_title(name)) for name in _names(training["fill"])),
            *(f"{name}: {value}" for name, value in of_its_own.items() if name not in PRESENTATION),
        ]
    )


def _names(choice: str | Mapping[str, Any]) -> list[str]:
    return [choice] if isinstance(choice, str) else [*choice]


def _points(results: Results, network: str, method: str, *at: float) -> list[Point]:
    """The shape choices of an arm, at each of some doses; none where they are not defined."""
    row = only(results.defined, network=network, method=method, measure=HEADLINE)
    return [Point(each, row) for each in at] if row else []
