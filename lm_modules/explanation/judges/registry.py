"""The registry of judges: the decorator `judge`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from maskrobust.augment.registry import Registry, import_modules
from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest
from maskrobust.lm_modules.explanation.plan import JudgingPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray
from maskrobust.lm_modules.reliance.catalogue import Described, Goal, Unit

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class ImageToJudge:
    """One explained image, with what its judges may look at.

    Attributes:
        explained: what `explain_image` has found.
        request: the request by which it was found.
        partitions: the partitions by name.
        object_mask: (H, W) bool, True on the object; empty where there is none.
        plan: how explanations are judged.
        methods: names of the masking methods.
    """

    explained: ExplainedImage
    request: ExplanationRequest
    partitions: Mapping[str, Segments]
    object_mask: BoolArray
    plan: JudgingPlan
    methods: Sequence[str]
    _made: dict[object, Any] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> int:
        """The class whose explanations are judged: the only one."""
        return int(self.explained.classes[0])

    def scores(self, about: Explained) -> FloatArray:
        """Scores (R, T, M) of the class."""
        return self.explained.explanations[about].scores[..., 0]

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` returns, made once for all judges that name the same key."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made


Judgement = FloatArray | Mapping[tuple[tuple[str, str | float], ...], FloatArray] | None
"""Values (R, T) of R networks under T masking methods, NaN where undefined; or such values by parameters; None where
the measure does not apply."""

Judges = Callable[[ImageToJudge, Explained], Judgement]
AnyJudges = TypeVar("AnyJudges", bound=Judges)


@dataclass(frozen=True)
class Judge(Described):
    """A registered measure of explanations.

    Attributes:
        function: measures the explanations of one explainer on one partition of an image.
    """

    function: Judges


JUDGES: Registry[Judge] = Registry("judge", "judge")
"""The measures of explanations by name."""


def judge(
    *,
    title: str,
    definition: str,
    name: str | None = None,
    unit: Unit = "number",
    goal: Goal = "high",
) -> Callable[[AnyJudges], AnyJudges]:
    """Register the decorated function as a measure of explanations.

    It takes an `ImageToJudge` and says which of its explanations it judges by an `Explained`; it returns a `Judgement`.

    Args:
        title: a short heading.
        definition: its definition in one or two sentences, for readers of a report.
        name: a Python identifier; by default the function's.
        unit: unit of its values.
        goal: which values are wished for.

    Raises:
        InputError: another measure has the name.

    Examples:
        >>> @judge(title="Sparsity", definition="Fraction of the segments with a score near 0.", unit="fraction")
        ... def sparsity(image, about):
        ...     return (np.abs(image.scores(about)) < 0.01).mean(axis=-1)
    """

    def register(function: AnyJudges) -> AnyJudges:
        own_name = name or str(getattr(function, "__name__", ""))
        JUDGES.enter(Judge(own_name, title, definition, unit, goal, function))
        return function

    return register


def chosen_judges(names: Sequence[str]) -> list[Judge]:
    """The measures of these names; where none of the project's is named, all of the project's before them.

    Raises:
        InputError: there is no such measure, or no such module.
    """
    import_modules("maskrobust.lm_modules.explanation.judges")
    named = {(found := JUDGES.find(name, "judges")).name: found for name in names}
    of_project = {name: each for name, each in JUDGES.items() if each.function.__module__.startswith("maskrobust.")}
    return [*(named if of_project.keys() & named else of_project | named).values()]


def for_each(scores: FloatArray, measure: Callable[[FloatArray], float]) -> FloatArray:
    """A measure of the scores of each network and masking method, (R, T, ...): (R, T)."""
    return np.array([[measure(each) for each in of_network] for of_network in scores])
