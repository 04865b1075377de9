"""The results that reports show: networks, masking methods and rows of the result table."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import takewhile
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, Self

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.storage.files import printable

Name = Literal["claim", "reliance"]

FORMATS: dict[Name, int] = {"claim": 7, "reliance": 3}
"""Format of each file, which is checked when it is read."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

TRAINING = "training"
"""In place of a masking method: images as a training shows them."""

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

    @classmethod
    def read(cls, name: Name, written: Mapping[str, Any]) -> Self:
        """Take what `as_json` has written.

        Raises:
            InputError: it has another format.
        """
        if written.get("format") != FORMATS[name]:
            raise InputError(
                f"the report shows {name}.json of format {FORMATS[name]}, got {written.get('format')}; run the command "
                "again."
            )
        content = {key: value for key, value in written.items() if key not in ("format", "rows")}
        return cls(name, content, [Row(**row) for row in written["rows"]])

    def as_json(self) -> dict[str, Any]:
        """Plain values: the content of the file."""
        return {"format": FORMATS[self.name], **self.content, "rows": [row.as_json() for row in self.rows]}

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

    @property
    def has_labels(self) -> bool:
        """Whether the images of an evaluation have labels; else predictions with nothing hidden stand for them."""
        return bool(self.content["settings"]["labels"] == "of the data")

    @cached_property
    def over_seeds(self) -> list[Row]:
        """The rows of networks themselves, over all seeds."""
        return [row for row in self.rows if row.network and row.seed is None and not row.compared_with]

    @cached_property
    def comparisons(self) -> list[Row]:
        """The rows that compare two networks by their reliance, with what was decided."""
        return [row for row in self.rows if row.measure == "reliance" and row.compared_with]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The case, outcome and reason of each of the two claims."""
        found: list[dict[str, Any]] = self.content["verdicts"]
        return found

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)

    def own_method(self, network: Network) -> str | None:
        """The masking method that a network was trained for; None where there is none, or it is not known."""
        if network.arm:
            return str(network.arm["method"])
        own: str | None = self.content["own_methods"].get(network.name)
        return own

    def is_in_the_rule(self, network: Network) -> bool:
        """Whether a network is one of the arms that the rule of a claim compares."""
        arm = network.arm
        return bool(arm) and bool(arm["augmentation_only"] or network.name == self.content["rule"]["layer_masking_arm"])


def meaningless_because(row: Row) -> str:
    """Why a number means nothing although it is defined, such as that of a network with one answer; empty otherwise."""
    return row.reading.removeprefix(MEANINGLESS) if row.reading.startswith(MEANINGLESS) else ""


def rows_as_csv(rows: Iterable[Row]) -> str:
    """All rows; parameters are written like "family=slic order=random"."""
    names = [each.name for each in fields(Row)]

    def cell(value: object) -> object:
        return " ".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, Mapping) else value

    return as_csv(names, ([cell(getattr(row, name)) for name in names] for row in rows))


def as_csv(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Lines below a head, whose text is `as_text`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([as_text(each) if isinstance(each, str) else each for each in line] for line in lines)
    return text.getvalue()


def as_text(text: str) -> str:
    """Text for a spreadsheet: what it would calculate gets an apostrophe ahead, which makes it text."""
    return f"'{printable(text)}" if text.startswith(_FORMULA) else printable(text)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Paths, each with what is left of it without the folders that all begin with and the parts that all end with.

    Args:
        paths: different from each other.
    """
    if len(paths) == 1:
        return {paths[0]: PurePath(paths[0]).name}
    parts = [PurePath(path).parts for path in paths]
    start = _shared(parts)
    rests = [each[start:] for each in parts]
    end = _shared([each[::-1] for each in rests])
    kept = [each[: len(each) - end] for each in rests]
    if not all(kept):
        kept = rests
    return {path: str(PurePath(*each)) for path, each in zip(paths, kept, strict=True)}


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Number of elements that all begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))
