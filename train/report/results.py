"""claim.json and reliance.json as pages and terminal read them: networks, masking methods and rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, Self

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.results import Row, rows_as_csv
from maskrobust.train.storage.plain_text import printable

Name = Literal["claim", "reliance"]

FORMATS: dict[Name, int] = {"claim": 4, "reliance": 2}
"""Of the files that are written and read: rows of a result table. Lower ones, of version 0.1, held nested numbers."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

TRAINING = "training"
"""In place of a masking method: images as a training shows them."""

COLOURS = 12
"""Number of colours that the pages define: the variables --arm-1 to --arm-12."""


class Network(NamedTuple):
    """An arm of a claim, or a network of an evaluation.

    Attributes:
        name: of its rows.
        title: what it is called on the page.
        number: from 1; stands for it in drawings.
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
    """The content of one file.

    Attributes:
        name: "claim" or "reliance".
        content: all of it.
        networks: in order.
        rows: all numbers.
    """

    name: Name
    content: Mapping[str, Any]
    networks: Sequence[Network]
    rows: Sequence[Row]

    @classmethod
    def read(cls, name: Name, content: Mapping[str, Any]) -> Self:
        """Read the content of claim.json or reliance.json.

        Raises:
            InputError: it has another format.
        """
        if content.get("format") != FORMATS[name]:
            raise InputError(
                f"the report shows {name}.json of format {FORMATS[name]}, got {content.get('format')}; run the command "
                "again."
            )
        if name == "claim":
            named = [(key, arm["title"], arm) for key, arm in content["arms"].items()]
        else:
            named = [(path, title, {}) for path, title in short_names(content["networks"]).items()]
        networks = [Network(key, title, number, arm) for number, (key, title, arm) in enumerate(named, start=1)]
        return cls(name, content, networks, [Row(**row) for row in content["rows"]])

    @property
    def methods(self) -> Sequence[str]:
        """Masking methods under which everything is measured, in order."""
        methods: Sequence[str] = self.content["methods"]
        return methods

    def as_csv(self) -> str:
        """All rows; see `harmless_csv`."""
        return harmless_csv(self.rows)

    @cached_property
    def over_seeds(self) -> list[Row]:
        """The rows of networks themselves, over all seeds."""
        return [row for row in self.rows if row.network and row.seed is None and not row.compared_with]

    @cached_property
    def comparisons(self) -> list[Row]:
        """The rows that compare two networks by their reliance, with what was decided; of a claim, by its rule."""
        found = [row for row in self.rows if row.measure == "reliance" and row.compared_with]
        return found if self.name == "reliance" else [row for row in found if self.is_of_the_rule(row.parameters)]

    def is_of_the_rule(self, found: Mapping[str, Any]) -> bool:
        """Whether a case and a tolerance are those that the claim's verdict rests on."""
        return is_of_the_rule(found, self.content["rule"])

    def network(self, name: str) -> Network:
        """The network of that name."""
        return next(network for network in self.networks if network.name == name)

    def is_compared(self, network: Network, method: str) -> bool:
        """Whether the rule of the claim looks at this network under this masking method."""
        if not self.is_in_the_rule(network):
            return False
        arm = network.arm
        return bool(method == (arm["cases"]["best"] if arm["augmentation_only"] else arm["method"]))

    def is_in_the_rule(self, network: Network) -> bool:
        """Whether a network is one of the arms that the rule of a claim compares."""
        arm = network.arm
        return bool(arm) and bool(arm["augmentation_only"] or network.name == self.content["rule"]["layer_masking_arm"])


def is_of_the_rule(found: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Whether a verdict or a comparison is of the best case and the tolerance that a rule states."""
    return bool(found["case"] == "best" and found["tolerance"] == rule["clean_accuracy_tolerance"])


def harmless_csv(rows: Iterable[Row]) -> str:
    """Rows as CSV whose text is `as_text`."""
    harmless = []
    for row in rows:
        texts = {name: value for name, value in vars(row).items() if isinstance(value, str)}
        changed: dict[str, Any] = {name: as_text(text) for name, text in texts.items()}
        parameters = {printable(key): printable(str(value)) for key, value in row.parameters.items()}
        harmless.append(replace(row, **changed, parameters=parameters))
    return rows_as_csv(harmless)


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
    return next(
        (place for place, column in enumerate(zip(*parts, strict=False)) if len(set(column)) > 1), min(map(len, parts))
    )
