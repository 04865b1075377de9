"""`ExplanationPlan`: which explainers run, with which queries, and how they are judged."""

from dataclasses import dataclass
from typing import Literal

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.answers import Scale

ExplainerName = str
"""A name of `explainers.registry.EXPLAINERS`, or "my_module.my_name" for one that a module of the user's registers."""

Design = Literal["independent", "paper"]

_PAPER_SAMPLES = 512


@dataclass(frozen=True)
class ExplanationPlan:
    """Which explainers run under each masking method, and with which queries.

    Attributes:
        explainers: lime, kernel_shap, occlusion (square windows), leave_one_out (occlusion segment by segment), rise,
            or your own, named with its module as in my_module.my_explainer.
        samples: number of queries for lime, kernel_shap and rise.
        design: how queries are drawn: independent, or paper (the protocol of the layer masking paper). kernel_shap
            draws its own.
        visible_fraction: fraction of the segments that a query shows, or a range from which each query draws it. By
            default half to all of them with the independent design; the paper's always shows half.
        scale: what is explained: probability, logit or log_odds. By default probability for the paper's design, else
            log_odds.
        window: side of the windows of occlusion in pixels.
        stride: pixels between two windows. By default the side of a window, so that they touch.
        batch_size: queries in a forward pass.

    Raises:
        InputError: an explainer is unknown, a number is out of its range, or the design cannot show that fraction.
    """

    explainers: tuple[ExplainerName, ...] = ("lime", "occlusion")
    samples: int = 256
    design: Design = "independent"
    visible_fraction: float | tuple[float, float] | None = None
    scale: Scale | None = None
    window: int = 32
    stride: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        from maskrobust.lm_modules.explanation.explainers.registry import find_explainer

        object.__setattr__(self, "explainers", tuple(find_explainer(name).name for name in self.explainers))
        for name in ("samples", "window", "window_stride", "batch_size"):
            check_at_least(name.removeprefix("window_"), getattr(self, name), 1)
        low, high = self.visible_range
        if not 0 < low <= high <= 1 or low == 1:
            raise InputError(
                f"visible_fraction must lie between 0 and 1, or be a range there, got {self.visible_fraction}; 0.5 is "
                "usual."
            )
        if self.visible_range != (0.5, 0.5) and self.design != "independent":
            raise InputError(
                f"the {self.design} design shows half of the segments, but visible_fraction is "
                f"{self.visible_fraction}; take the independent design."
            )

    @property
    def visible_range(self) -> tuple[float, float]:
        """The range of the visible fraction."""
        if self.visible_fraction is None:
            return (0.5, 1.0) if self.design == "independent" else (0.5, 0.5)
        return self.visible_fraction if isinstance(self.visible_fraction, tuple) else (self.visible_fraction,) * 2

    @property
    def window_stride(self) -> int:
        """Pixels between two windows."""
        return self.window if self.stride is None else self.stride

    @property
    def drawn_samples(self) -> int:
        """How many queries are drawn: the paper's design has 512."""
        return _PAPER_SAMPLES if self.design == "paper" else self.samples

    @property
    def answer_scale(self) -> Scale:
        """The scale of the answers."""
        return self.scale or ("probability" if self.design == "paper" else "log_odds")


@dataclass(frozen=True)
class JudgingPlan:
    """How explanations are judged.

    Attributes:
        stability_seeds: number of seeds whose explanations the judge `stability` compares, the judged ones included. 1
            leaves it out. More than two only narrow the interval, at a full explanation each.
        judges: judges to run, such as coverage and jaccard, and your own, named with their module as in
            my_module.my_judge. If none of maskrobust's is named, all of them run.

    Raises:
        InputError: a number is below 1, or a measure is unknown.
    """

    stability_seeds: int = 2
    judges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.judges:
            from maskrobust.lm_modules.explanation.judges.registry import chosen_judges  # takes seconds

            chosen_judges(self.judges)
        check_at_least("stability_seeds", self.stability_seeds, 1)
