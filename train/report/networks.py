"""The networks of a page: the arms of a claim, or the checkpoints of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

COLOURS = 12
"""Number of colours that the pages define: the variables --arm-1 to --arm-12."""


class Network(NamedTuple):
    """One arm or checkpoint.

    Attributes:
        name: key in claim.json or reliance.json.
        title: what it is called on the page.
        number: from 1; stands for it in drawings.
        methods: its figures by masking method and name.
        entry: what else is known: "transfer", "worst_cell", "trained_on".
    """

    name: str
    title: str
    number: int
    methods: Mapping[str, Mapping[str, Any]]
    entry: Mapping[str, Any]

    @property
    def colour(self) -> int:
        """Number, from 1, of its colour."""
        return colour_number(self.number - 1)


def colour_number(position: int) -> int:
    """Number, from 1, of the colour of the network at a position from 0; after `COLOURS` networks they come again."""
    return position % COLOURS + 1


def networks_of_claim(claim: Mapping[str, Any]) -> list[Network]:
    """The arms in order, with their figures over all seeds."""
    return [
        Network(
            name,
            arm["title"],
            number,
            {method: found["all_seeds"] for method, found in arm["methods"].items()},
            arm,
        )
        for number, (name, arm) in enumerate(claim["arms"].items(), start=1)
    ]


def networks_of_reliance(reliance: Mapping[str, Any]) -> list[Network]:
    """The checkpoints in order, called by the parts of their paths in which they differ."""
    titles = short_names(list(reliance["checkpoints"]))
    return [
        Network(path, title, number, reliance["checkpoints"][path], reliance.get("networks", {}).get(path, {}))
        for number, (path, title) in enumerate(titles.items(), start=1)
    ]


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
