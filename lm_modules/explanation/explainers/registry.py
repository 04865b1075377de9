"""The registry of explainers: the decorator `explainer`, and the queries that explainers ask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from maskrobust.augment.registry import Registry, import_modules
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.sampling import (
    draw_coalitions,
    draw_independent,
    draw_paper_protocol,
)
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import FloatArray


class Question(NamedTuple):
    """The queries that an explainer asks; explainers that ask the same kind share the predictions.

    Attributes:
        kind: a name.
        queries: N visible maps.
        z: (N, M) bool, which of the M segments each query shows; None where queries do not follow the segments.
    """

    kind: str
    queries: Queries
    z: Tensor | None


Asks = Callable[[ExplanationPlan, Segments, int], Question]
"""(plan, segments of one image, int64 key) -> question."""

Explains = Callable[[ExplanationPlan, Segments, Tensor, FloatArray], Explanation]
"""(plan, segments of one image, z (N, M) bool, answers (N, K) float64) -> scores of the M segments for K classes."""

AnyExplains = TypeVar("AnyExplains", bound=Explains)


@dataclass(frozen=True)
class Explainer:
    """A registered explainer.

    Attributes:
        name: under which it is registered.
        function: makes scores of the answers.
        title: what it is called in words.
        asks: what it asks.
        draws: whether another key gives another explanation.
        has_surrogate: whether it fits a surrogate, whose held-out R^2 is known.
    """

    name: str
    function: Explains
    title: str
    asks: Asks
    draws: bool
    has_surrogate: bool


EXPLAINERS: Registry[Explainer] = Registry("explainer", "explainer")
"""The explainers by name."""


def explainer(
    name: str,
    *,
    title: str,
    asks: Asks,
    draws: bool = False,
    has_surrogate: bool = False,
) -> Callable[[AnyExplains], AnyExplains]:
    """Register the decorated function as an explainer.

    It takes the `ExplanationPlan`, the `Segments` of one image, which of them each query shows, (N, M) bool, and the
    answers, (N, K) float64 on the plan's scale, and returns an `Explanation` with scores (M, K).

    Args:
        name: a Python identifier, under which configuration files and commands know the explainer.
        title: what it is called in words.
        asks: its queries: `drawn_queries`, or a function of yours; see `Question`.
        draws: whether they are drawn, so that another seed gives another explanation.
        has_surrogate: whether the explanation has an R^2.

    Raises:
        InputError: another explainer has the name.

    Examples:
        >>> @explainer("mean_answer", title="Mean answer", asks=drawn_queries, draws=True)
        ... def mean_answer(plan, segments, z, answers):
        ...     scores = np.stack([answers[shown].mean(axis=0) for shown in z.numpy().T])
        ...     return Explanation.without_interval(scores)
    """

    def register(function: AnyExplains) -> AnyExplains:
        EXPLAINERS.enter(Explainer(name, function, title, asks, draws, has_surrogate))
        return function

    return register


def find_explainer(name: str) -> Explainer:
    """The explainer under a name that the user gave; a dotted one is registered by a module, which is imported.

    Raises:
        InputError: there is no such explainer, or no such module.
    """
    import_modules("maskrobust.lm_modules.explanation.explainers")
    return EXPLAINERS.find(name, "explainers")


def drawn_queries(plan: ExplanationPlan, segments: Segments, key: int) -> Question:
    """Queries drawn as the plan's design says; RISE and LIME share them."""
    count = segments.count(0)
    if plan.design == "paper":
        z = draw_paper_protocol(key, count)
    else:
        z = draw_independent(key, plan.samples, count, plan.visible_range)
    return Question("drawn", segments.queries(0, z), z)


def surrogate_queries(plan: ExplanationPlan, segments: Segments, key: int) -> Question:
    """`drawn_queries`, enough of them to fit a linear surrogate.

    Raises:
        InputError: there are too few samples for the segments.
    """
    _check_enough(plan, segments)
    return drawn_queries(plan, segments, key)


def coalition_queries(plan: ExplanationPlan, segments: Segments, key: int) -> Question:
    """Coalitions drawn by KernelSHAP's kernel.

    Raises:
        InputError: there are too few samples for the segments.
    """
    _check_enough(plan, segments)
    z = draw_coalitions(key, plan.drawn_samples, segments.count(0))
    return Question("coalitions", segments.queries(0, z), z)


def _check_enough(plan: ExplanationPlan, segments: Segments) -> None:
    count = segments.count(0)
    if plan.drawn_samples < count + 3:
        raise InputError(
            f"{count} segments need at least {count + 3} samples, got {plan.drawn_samples}; draw more, or take larger "
            "segments."
        )


NO_SEGMENTS = torch.zeros(0, 0, dtype=torch.bool)
"""In place of z, where queries do not follow segments."""
