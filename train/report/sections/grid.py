"""The grid of networks and ways of hiding that an evaluation's page begins with."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.headline import BLIND, LITTLE, at_chance, decisions, hidden_patches
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.wording import in_words, interval, percent

WORDS = {
    "reads": "reads",
    "some": "at least a little",
    "misled": "misled",
    "hardly": "hardly",
    "open": "not shown",
    "one": "one answer",
    "lost": "at chance",
}
"""The word on a network under a way of hiding, by what is decided; "lost": nothing is."""


class GridLine(NamedTuple):
    """A network under a way of hiding.

    Attributes:
        network: the network.
        state: what is said of it; empty where nothing is.
        word: the word for that, in a claim what is shown of it against layer masking.
        choices: shape choices with the interval that holds for all lines together, or why they say nothing.
        trained: whether it was trained with this way of hiding.
        outline: accuracy with the object hidden along its outline; None where it is not known, as for the others.
        circle: the same by a circle.
        half: the same with patches hidden.
        clean: the same with nothing hidden.
    """

    network: Network
    state: str
    word: str
    choices: str
    trained: bool
    outline: Row | None
    circle: Row | None
    half: Row | None
    clean: Row | None


def grid_lines(results: Results) -> tuple[dict[str, list[GridLine]], bool]:
    """For each way of hiding one line for each network, and whether any has shape choices."""
    is_claim, lost = results.name == "claim", at_chance(results)
    decided = {} if is_claim else decisions(results)
    half = hidden_patches(results.defined, results.content.get("hidden_fraction", 0.5))
    found: dict[str, list[GridLine]] = {}
    for method in results.methods:
        for network in results.networks:
            key = {"network": network.name, "method": method}
            decision = decided.get((network.name, method))
            row = only(results.defined, measure=HEADLINE, **key) if is_claim else decision.row if decision else None
            state = "lost" if network.name in lost else decision.state if decision else ""
            pair = next((each for each in select(results.comparisons, **key)), None) if is_claim else None
            word = pair.reading if pair else WORDS.get(state, "" if is_claim else "not measured")
            measures = ("silhouette_accuracy", "circle_accuracy", "clean_accuracy")
            outline, circle, clean = (only(results.defined, measure=measure, **key) for measure in measures)
            is_own = results.is_trained_under(network, method)
            ends = (decision.low, decision.high) if decision else (row.low, row.high) if row else (None, None)
            choices = (
                meaningless_because(row) or f"{percent(row.value or 0.0)} {interval(*ends, percent)}" if row else ""
            )
            line = GridLine(network, state, word, choices, is_own, outline, circle, only(half, **key), clean)
            found.setdefault(method, []).append(line)
    return found, any(line.choices for lines in found.values() for line in lines)


def grid(results: Results, shown: Sequence[ExampleStrip]) -> Markup:
    """The grid: a row for each network under each way of hiding."""
    lines, decides = grid_lines(results)
    every = [line for of_method in lines.values() for line in of_method]
    half = [line.half for line in every if line.half]
    return page_part(
        "grid.html",
        is_claim=results.name == "claim",
        grid=lines,
        chance=results.content["chance"],
        objects=max((line.outline.images for line in every if line.outline and line.circle), default=0),
        hidden=in_words(float(half[0].parameters["hidden_fraction"])) if half else "",
        decides=decides,
        little=LITTLE,
        blind=BLIND,
        pictures=_pictures(shown),
    )


def _pictures(shown: Sequence[ExampleStrip]) -> Mapping[tuple[str, str], NDArray[np.uint8]]:
    """The first image of each strip, by masking method and what is hidden."""
    return {
        (strip.method or "", "half" if strip.condition.startswith("retention") else strip.condition): strip.images[0]
        for strip in shown
        if strip.images
    }
