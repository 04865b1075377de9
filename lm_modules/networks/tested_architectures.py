"""Read tested_architectures.csv: networks that layer masking is tested on, and those it refuses and why.

The table has a line for each classifier of torchvision, for the small models of each family (module) of timm that is
tested, and for the smallest model of each other one. `scripts/architectures` checks those that are taken, and
writes the last section of docs/layer-masking.md from it; `maskrobust arches` prints it.
"""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_suffix(".csv")


class KnownArchitecture(NamedTuple):
    """A line of the table.

    Attributes:
        family: "torchvision", or "timm" and the name of a module of timm, as in "timm resnet".
        architecture: the name that `build_network` takes.
        refused: what the network computes that a mask of positions cannot follow; empty where it is taken.
    """

    family: str
    architecture: str
    refused: str


@cache
def known_architectures() -> tuple[KnownArchitecture, ...]:
    """All lines of the table, in its order."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return tuple(KnownArchitecture(*line) for line in list(csv.reader(lines))[1:])


def taken_by_family() -> dict[str, tuple[str, ...]]:
    """The architectures that layer masking takes, by family."""
    found: dict[str, tuple[str, ...]] = {}
    for family, architecture, refused in known_architectures():
        if not refused:
            found[family] = (*found.get(family, ()), architecture)
    return found
