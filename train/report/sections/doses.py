"""The report section on doses: shape choices against the fraction of training images that had a hole."""

from typing import Any, NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import Row, only
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.results import Network, Results


class Dose(NamedTuple):
    """A point: the fraction in [0, 1] of training images with a hole, and the shape choices of its arm."""

    fraction: float
    row: Row


def doses(results: Results) -> Markup | None:
    """A line of doses for each mask family that was filled, from the baseline on, and layer masking as a band.

    None where no family has arms at two doses, so that there is no line to draw.
    """
    rule, lines = results.content["rule"], dict[tuple[str, str, str], list[Dose]]()
    for network in results.networks:
        model, method = _trained_with(results, network), str(network.arm["method"])
        if model.get("masking") == "fill" and (row := _choices(results, network.name, method)):
            family = (str(model.get("mask_family", "patches")), str(model.get("fill", "black")), method)
            lines.setdefault(family, []).append(Dose(float(model.get("mask_probability", 0.5)), row))
    drawn = {family: sorted(found, key=lambda each: each.fraction) for family, found in lines.items() if len(found) > 1}
    if not drawn:
        return None
    for (_, _, method), found in drawn.items():
        if bare := _choices(results, rule["baseline"], method):
            found.insert(0, Dose(0.0, bare))
    masked = results.network(rule["layer_masking_arm"])
    band = _choices(results, masked.name, str(masked.arm["method"]))
    return page_part("doses.html", lines=drawn, band=[Dose(x, band) for x in (0.0, 1.0)] if band else [], masked=masked)


def _trained_with(results: Results, network: Network) -> dict[str, Any]:
    return {**results.content.get("config", {}).get("model", {}), **network.arm.get("training", {})}


def _choices(results: Results, network: str, method: str) -> Row | None:
    return only(results.defined, network=network, method=method, measure=HEADLINE)
