"""The result table: one typed row for each measure, network and masking method.

JSON, CSV, the terminal, the page, W&B's table and the scalars of a training are selections of these rows.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, Self

from maskrobust.lm_modules.reliance.estimates.estimation import Estimate


@dataclass(frozen=True)
class Row:
    """One number with what it is of.

    Attributes:
        network: arm of a claim, or checkpoint; empty for what is said of the images alone.
        method: masking method; empty for what is said of the images alone.
        measure: key in the catalogue.
        parameters: which member of a family of measures.
        seed: seed of the run; None over all seeds.
        compared_with: network whose value is subtracted; empty for none.
        compared_method: masking method of that value, where it is another one; empty where it is `method`.
        value: the number; None where it is undefined.
        low: lower end of its interval; None where there is none.
        high: upper end of its interval; None where there is none.
        images: number of images it rests on.
        left_out: number of images left out.
        undefined_because: why the number is not defined, in one sentence; None where it is.
        level_low: one-sided level of `low`, where comparisons share their confidence; None where it is 0.025.
        level_high: the same of `high`.
        reading: what was decided, by a comparison or by an interval of shape choices, in words; empty where nothing
            was.
        degrees: degrees of freedom where the interval is Student's over objects; None where it is another.
    """

    network: str
    method: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    images: int
    left_out: int
    undefined_because: str | None = None
    parameters: Mapping[str, str | float] = field(default_factory=dict)
    seed: int | None = None
    compared_with: str = ""
    compared_method: str = ""
    level_low: float | None = None
    level_high: float | None = None
    reading: str = ""
    degrees: float | None = None

    @classmethod
    def of(cls, estimate: Estimate, *, network: str, method: str, measure: str, **others: Any) -> Self:
        """A row of an estimate; `others` are its further attributes."""
        return cls(network, method, measure, **asdict(estimate), **others)

    @property
    def name(self) -> str:
        """The measure and its parameters in letters, digits, points and underscores, as in "retention_0.5"."""
        parts = (f"{value:g}" if isinstance(value, float) else str(value) for value in self.parameters.values())
        return re.sub(r"[^\w.]+", "_", "_".join((self.measure, *parts)))

    def as_json(self) -> dict[str, Any]:
        """Plain values by name, every attribute."""
        return {**asdict(self), "parameters": dict(self.parameters)}


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows whose attributes equal those that are given, in order."""
    if not wanted:
        return [*rows]
    compared = attrgetter(*wanted)
    value = compared(SimpleNamespace(**wanted))
    return [row for row in rows if compared(row) == value]


def only(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """The one row whose attributes equal those that are given; None where there is none."""
    found = select(rows, **wanted)
    assert len(found) <= 1, f"{len(found)} rows have {wanted}"
    return found[0] if found else None
