"""The results that reports show: networks, masking methods and rows of the result table."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.storage.files import printable

Name = Literal["claim", "reliance"]

FORMATS: dict[Name, int] = {"claim": 9, "reliance": 5}
"""Format of each file."""

_GENERIC = re.compile(r"checkpoints|version_\d+|(best|last)\.ckpt")
"""Parts of a checkpoint's path that say nothing of its training."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

PRESENTATION = {"masking": "none", "mask_family": "patches", "mask_probability": 0.5, "fill": "black"}
"""How `MaskRobustClassifier` presents holes unless it is told otherwise, as far as pages say it."""

MEANINGLESS = "means nothing: "
"""Begins the reading of a number that means nothing; the reason follows."""

COLOURS = 12
"""Number of colours that the pages define: the variables --arm-1 to --arm-12."""


class Network(NamedTuple):
    """An arm of a claim, or a network of an evaluation.

    Attributes:
        name: the name in its rows.
        title: what it is called on the page.
        number: its number, from 1, which stands for it in drawings.
        arm: what claim.json says of it; empty for a network.
    """

    name: str
    title: str
    number: int
    arm: Mapping[str, Any]

    @property
    def colour(self) -> int:
        """Number, from 1, of its colour; after `COLOURS` networks they come again."""
        return (self.number - 1) % COLOURS + 1


@dataclass(frozen=True)
class Results:
    """All that claim.json or reliance.json holds.

    Attributes:
        name: "claim" or "reliance".
        content: all but the rows, as plain values.
        rows: all numbers.
    """

    name: Name
    content: Mapping[str, Any]
    rows: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """Plain values: the content of the file."""
        return {"format": FORMATS[self.name], **self.content, "rows": [row.as_json() for row in self.rows]}

    @cached_property
    def csv(self) -> str:
        """All rows, each with what else a reader of it alone needs; see `rows_as_csv`."""

        def further(row: Row) -> Mapping[str, object]:
            network = self.network(row.network) if row.network else None
            own = self.own_method(network) if network else None
            is_trained = network is not None and own is not None and self.is_trained_under(network, own)
            return {"trained_with": own if is_trained else "", "chance": self.content["chance"]}

        return rows_as_csv(self.rows, further)

    @cached_property
    def networks(self) -> Sequence[Network]:
        """Arms or networks, in order."""
        if self.name == "claim":
            named = [(key, arm["title"], arm) for key, arm in self.content["arms"].items()]
        else:
            named = [(path, title, {}) for path, title in short_names(self.content["networks"]).items()]
        return [Network(key, title, number, arm) for number, (key, title, arm) in enumerate(named, start=1)]

    @property
    def methods(self) -> Sequence[str]:
        """Masking methods under which everything is measured, in order."""
        methods: Sequence[str] = self.content["methods"]
        return methods

    @cached_property
    def over_seeds(self) -> list[Row]:
        """The rows of networks themselves, over all seeds."""
        return [row for row in self.rows if row.network and row.seed is None and not row.compared_with]

    @cached_property
    def defined(self) -> list[Row]:
        """Those of them that have a value."""
        return [row for row in self.over_seeds if row.value is not None]

    @cached_property
    def comparisons(self) -> list[Row]:
        """The rows that compare two networks, or two masking methods of one, by reliance, with what was decided."""
        return [row for row in select(self.rows, measure="reliance") if row.reading]

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)

    def is_trained_under(self, network: Network, method: str) -> bool:
        """Whether a network was trained with holes that are hidden by this masking method.

        An arm of a claim without masks in training has a method of its own nevertheless, to be measured under.
        """
        has_masks = not network.arm or self.training_of(network)["masking"] != "none"
        return has_masks and self.own_method(network) == method

    def training_of(self, network: Network) -> dict[str, Any]:
        """How an arm of a claim presents holes in training, and all else that the claim says of its model."""
        return {**PRESENTATION, **self.content.get("config", {}).get("model", {}), **network.arm.get("training", {})}

    def own_method(self, network: Network) -> str | None:
        """The masking method that a network was trained for; None where there is none, or it is not known."""
        if network.arm:
            return str(network.arm["method"])
        own: str | None = self.content["own_methods"].get(network.name)
        return own


def meaningless_because(row: Row) -> str:
    """Why a number means nothing although it is defined, such as that of a network with one answer; empty otherwise."""
    return row.reading.removeprefix(MEANINGLESS) if row.reading.startswith(MEANINGLESS) else ""


def widened(row: Row, rows: int) -> tuple[float, float]:
    """A row's interval of 95 %, widened to hold for so many rows together: as Student's, or as for normal errors."""
    from scipy import stats  # here: it takes a second, which the help of commands does without

    bound, single = stats.t.isf([0.025 / max(1, rows), 0.025], row.degrees or math.inf)
    value, low, high = (each or 0.0 for each in (row.value, row.low, row.high))
    return value + bound / single * (low - value), value + bound / single * (high - value)


def rows_as_csv(rows: Iterable[Row], about: Callable[[Row], Mapping[str, object]] = lambda _: {}) -> str:
    """All rows; parameters are written like "family=slic order=random"; `about`: further columns of a row."""
    lines = [{**row.as_json(), **about(row)} for row in rows]

    def cell(value: object) -> object:
        return " ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, Mapping) else value

    names = [*lines[0]] if lines else [each.name for each in fields(Row)]
    return as_csv(names, ([cell(value) for value in line.values()] for line in lines))


def as_csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Lines below a head; text that a spreadsheet would calculate gets an apostrophe ahead, which makes it text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(
        [f"'{each}" if isinstance(each, str) and each.startswith(_FORMULA) else each for each in line] for line in lines
    )
    return printable(text.getvalue())


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Paths, each with the shortest run of its parts that no other has, without the parts that all end with.

    Args:
        paths: different from each other. One alone is called by its last part that says something, as in "first" for
            "runs/first/version_0/checkpoints/best.ckpt".
    """
    parts = [PurePath(path).parts for path in paths]
    if len(paths) == 1:
        telling = [part for part in parts[0] if not _GENERIC.fullmatch(part)]
        return {paths[0]: (telling or parts[0])[-1]}
    while all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    for length in range(1, max(map(len, parts)) + 1):
        if len({each[-length:] for each in parts}) == len(parts):
            return {path: str(PurePath(*each[-length:])) for path, each in zip(paths, parts, strict=True)}
    return {path: path for path in paths}  # such as "a" and "./a"
