"""The grid of networks and ways of hiding that an evaluation's page begins with."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_GAIN, OUTLINE_PULL
from maskrobust.lm_modules.reliance.results import Row, only
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.headline import Decision, at_chance, decisions, hidden_patches, said
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.wording import decimal, in_words, interval, percent

WORDS = {
    "reads": "reads",
    "some": "a little",
    "misled": "misled",
    "hardly": "hardly",
    "unseen": "not seen",
    "open": "not shown",
    "one": "one answer",
    "lost": "at chance",
    "": "not measured",
}
"""The word on a network under a way of hiding, by what is decided; "lost" and "": nothing is."""

_DECIDES = {
    HEADLINE: "used share",
    "silhouette_leak": "outline minus circle",
    OUTLINE_PULL: "outline pull, in logits",
    OUTLINE_GAIN: "gain in log-odds",
}


class GridLine(NamedTuple):
    """A network under a way of hiding.

    Attributes:
        network: the network.
        state: what is said of it.
        share: the number that decides, with its interval.
        trained: whether it was trained with this way of hiding.
        outline: accuracy with the object hidden along its outline; None where it is not known, as for the others.
        circle: the same by a circle.
        half: the same with patches hidden.
        clean: the same with nothing hidden.
    """

    network: Network
    state: str
    share: str
    trained: bool
    outline: Row | None
    circle: Row | None
    half: Row | None
    clean: Row | None

    @property
    def word(self) -> str:
        """The word on it."""
        return WORDS[self.state]


def grid_lines(results: Results) -> dict[str, list[GridLine]]:
    """For each way of hiding one line for each network."""
    decided, lost = decisions(results), at_chance(results)
    half = hidden_patches(results.defined)
    found: dict[str, list[GridLine]] = {}
    for method in results.methods:
        for network in results.networks:
            key = {"network": network.name, "method": method}
            decision = decided.get((network.name, method))
            state = "lost" if network.name in lost else decision.state if decision else ""
            measures = ("silhouette_accuracy", "circle_accuracy", "clean_accuracy")
            outline, circle, clean = (only(results.defined, measure=measure, **key) for measure in measures)
            is_own, share = results.own_method(network) == method, _share(decision)
            line = GridLine(network, state, share, is_own, outline, circle, only(half, **key), clean)
            found.setdefault(method, []).append(line)
    return found


def _share(decision: Decision | None) -> str:
    if decision is None:
        return ""
    row = decision.row
    write = percent if row.measure == "silhouette_leak" else decimal
    return f"{write(row.value or 0.0)} {interval(row.low, row.high, write)}"


def decided_by(results: Results) -> str:
    """What the words of the grid rest on; empty where nothing is decided."""
    return next((_DECIDES[each.row.measure] for each in decisions(results).values()), "")


def grid(results: Results, shown: Sequence[ExampleStrip]) -> Markup:
    """The headline and the grid: its sentences, and a row for each network under each way of hiding."""
    first, *remarks = said(results)
    lines = grid_lines(results)
    every = [line for of_method in lines.values() for line in of_method]
    half = [line.half for line in every if line.half]
    return page_part(
        "grid.html",
        first=first,
        remarks=remarks,
        grid=lines,
        chance=results.content["chance"],
        objects=max((line.outline.images for line in every if line.outline and line.circle), default=0),
        hidden=in_words(float(half[0].parameters["hidden_fraction"])) if half else "",
        decides=decided_by(results),
        pictures=_pictures(shown),
        has_labels=results.has_labels,
    )


def _pictures(shown: Sequence[ExampleStrip]) -> Mapping[tuple[str, str], NDArray[np.uint8]]:
    """The first image of each strip, by masking method and what is hidden."""
    return {
        (strip.method or "", "half" if strip.condition.startswith("retention") else strip.condition): strip.images[0]
        for strip in shown
        if strip.images
    }
