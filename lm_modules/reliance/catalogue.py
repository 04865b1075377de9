"""The registry of measures: the decorator `measure` with title, definition and formula of each.

A measure is one function in one file below `lm_modules/reliance/measures/`, or in a module of the user's own, under the
decorator `measure`. The callback, `evaluate`, `claim`, the loggers, the terminal and the page take their measures from
here and know none of them by name, but for the headline.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from maskrobust.augment.registry import Registry, import_modules
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Estimate,
    Estimator,
    Statistic,
    estimate,
    estimate_difference,
)
from maskrobust.lm_modules.reliance.hole_reader import HolesRead
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

Group = Literal["outline", "holes", "accuracy", "remains", "curves", "transfer", "pixels", "own"]
"""Measures that are shown together, in this order."""

Unit = Literal["fraction", "points", "number", "logits"]
"""Unit of a value. A fraction in [0, 1] is written in percent, and a difference of two fractions in points."""

Goal = Literal["high", "low", "zero", "chance", "none"]
"""Which values a user wishes for; "zero": a value below 0 is as bad as one above; "none" where it is no virtue."""

Parameters = Mapping[str, str | float]
"""What tells the members of a family of measures apart, such as {"hidden_fraction": 0.5}."""

Make = Callable[..., Statistic | Estimator]
MeasureFunction = TypeVar("MeasureFunction", bound=Make)

HEADLINE = "shape_choice"
"""The measure that decides what is said of a network; how far it lies from one half is called reliance."""

OWN_HOLE_PULL = "own_hole_pull"
"""The measure that decides what is said of the holes that images bring along."""

OUTLINE_PULL = "outline_pull"
"""The measure of which rows say whether holes in empty scenes pull."""


@dataclass(frozen=True)
class Context:
    """What a measurement has prepared.

    Attributes:
        plan: what the networks were asked.
        holes: what the images' own holes tell of the class; None where they were not read.
    """

    plan: ReliancePlan
    holes: HolesRead | None = None


@dataclass(frozen=True)
class Described:
    """What a measure is called, and how its values are read, whatever they are computed from.

    Attributes:
        name: name of its rows in a result table.
        title: a short heading, which may name parameters as `str.format` does: "{hidden_fraction:.0%} hidden".
        definition: its definition in one or two sentences, for readers of a report.
        unit: unit of its values.
        goal: which values are wished for.
    """

    name: str
    title: str
    definition: str
    unit: Unit
    goal: Goal


@dataclass(frozen=True)
class Measure(Described):
    """An entry of the catalogue: one measure, or a family of them told apart by parameters.

    Attributes:
        group: which measures it is shown with.
        members: the parameters of each member that a plan allows to compute; none where the plan lacks what it needs.
        function: computes a member from its parameters. Arguments called `plan` and `holes` are those of the
            context, and where it lacks one the measure is left out.
        in_training: whether `RelianceCallback` logs it.
        compared: whether reports give its difference between two networks.
        by_seed: whether reports give it for each seed.
        of_data: whether it says something of the images alone, whatever the network.
    """

    group: Group
    members: Callable[[ReliancePlan], Sequence[Parameters]]
    function: Make
    in_training: bool
    compared: bool
    by_seed: bool
    of_data: bool


@dataclass(frozen=True)
class MeasureMember:
    """A member of a measure that can be computed.

    Attributes:
        measure: entry of the measure.
        parameters: which member.
        made: computes it.
    """

    measure: Measure
    parameters: Parameters
    made: Statistic | Estimator

    def estimate(self, runs: Sequence[Outcomes]) -> Estimate:
        """The measure over the runs of one network under one masking method, one run for each seed."""
        if isinstance(self.made, Statistic):
            return estimate(self.made, runs)
        return self.made(runs)

    def difference(self, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]) -> Estimate:
        """The measure of network A minus that of network B, paired by seed; of measures that are compared."""
        assert isinstance(self.made, Statistic)
        return estimate_difference(self.made, runs_a, runs_b)


def once(_plan: ReliancePlan) -> Sequence[Parameters]:
    """Members of a measure that any plan allows."""
    return ({},)


def where_shapes(plan: ReliancePlan) -> Sequence[Parameters]:
    """Members of a measure that needs objects hidden along their outline and by their circle."""
    return ({},) if plan.shapes else ()


MEASURES: Registry[Measure] = Registry("measure", "measure")
"""The measures by name, in the order in which they were entered; `catalogue` has them in that of reports."""


def measure(
    *,
    title: str,
    definition: str,
    name: str | None = None,
    group: Group = "own",
    unit: Unit = "number",
    goal: Goal = "zero",
    members: Callable[[ReliancePlan], Sequence[Parameters]] = once,
    in_training: bool = False,
    compared: bool = False,
    by_seed: bool = True,
    of_data: bool = False,
) -> Callable[[MeasureFunction], MeasureFunction]:
    """Register the decorated function as a measure; the arguments are those of `Measure`.

    Raises:
        InputError: another measure has that name.
    """

    def enter(make: MeasureFunction) -> MeasureFunction:
        MEASURES.enter(
            Measure(
                name or make.__name__, title, definition, unit, goal, group, members, make, in_training,
                compared, by_seed, of_data,
            )
        )  # fmt: skip
        return make

    return enter


def catalogue() -> dict[str, Measure]:
    """All measures by key, in the order of reports: by group, the headline first, then in the order of the files."""
    import_modules("maskrobust.lm_modules.reliance.measures")
    order = get_args(Group)

    def place(entry: Measure) -> tuple[int, bool, str]:
        return order.index(entry.group), entry.name != HEADLINE, entry.function.__module__

    return {entry.name: entry for entry in sorted(MEASURES.values(), key=place)}


def import_measures(names: Sequence[str]) -> None:
    """Import the modules that enter measures of the user's own into the catalogue.

    Args:
        names: such as "my_module.my_measure".

    Raises:
        InputError: a module cannot be imported, or enters no measure of that name.
    """
    for name in names:
        if "." not in name:
            raise InputError(f"own_measures must be named as in my_module.my_measure, got '{name}'; add the module.")
        MEASURES.find(name, "own_measures")


def measure_members(context: Context) -> list[MeasureMember]:
    """Every member of every measure that a measurement allows to compute, in the order of the catalogue."""
    import_measures(context.plan.own_measures)
    found = []
    for entry in catalogue().values():
        names = {"plan", "holes"} & inspect.signature(entry.function).parameters.keys()
        prepared = {name: getattr(context, name) for name in names}
        if None not in prepared.values():
            found += [
                MeasureMember(entry, each, entry.function(**each, **prepared)) for each in entry.members(context.plan)
            ]
    return found
