"""`ExplanationPlan`: which explainers run, with which queries, and how they are judged."""

from dataclasses import dataclass
from typing import Literal

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.answers import Scale

ExplainerName = str
"""A name of `explainers.registry.EXPLAINERS`, or "my_module.my_name" for one that a module of the user's registers."""

Design = Literal["balanced", "independent", "paper"]

_PAPER_SAMPLES = 512


@dataclass(frozen=True)
class ExplanationPlan:
    """What is asked about an image under each masking method.

    Attributes:
        explainers: lime, kernel_shap; occlusion, by square windows; leave_one_out, occlusion segment by segment; rise;
            grad_cam, which hides nothing; or one of your own, named after its module as in my_module.my_explainer, of
            which the last part is kept.
        samples: queries for each explainer that draws them; for the balanced design a power of two, at least twice the
            number of segments.
        design: how they are drawn: `draw_balanced`, `draw_independent`, or `draw_paper_protocol`. KernelSHAP takes the
            balanced queries, and has coalitions of its own (`draw_coalitions`) beside the others.
        visible_share: fraction of the segments that a query shows, or a range from which each independent query draws
            its own; by default half to all of them for independent queries, and half, which is all that they can, for
            the others.
        scale: of the answers that are explained; by default probability for the paper's design, log_odds for others.
        window: side of a window of occlusion in pixels.
        stride: pixels between two windows; by default a window's side, so that they touch.
        batch_size: queries in a forward pass.

    Raises:
        InputError: an explainer is unknown, a number is out of its range, or the design cannot show that fraction.
    """

    explainers: tuple[ExplainerName, ...] = ("lime", "occlusion")
    samples: int = 256
    design: Design = "independent"
    visible_share: float | tuple[float, float] | None = None
    scale: Scale | None = None
    window: int = 32
    stride: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        from maskrobust.lm_modules.explanation.explainers.registry import find_explainer

        object.__setattr__(self, "explainers", tuple(find_explainer(name).name for name in self.explainers))
        for name in ("samples", "window", "window_stride", "batch_size"):
            check_at_least(name.removeprefix("window_"), getattr(self, name), 1)
        low, high = self.shares
        if not 0 < low <= high <= 1 or low == 1:
            raise InputError(
                f"visible_share must lie between 0 and 1, or be a range there, got {self.visible_share}; 0.5 is usual."
            )
        if self.shares != (0.5, 0.5) and self.design != "independent":
            raise InputError(
                f"the {self.design} design shows half of the segments, but visible_share is {self.visible_share}; take "
                "the independent design."
            )

    @property
    def shares(self) -> tuple[float, float]:
        """The range of the visible share."""
        if self.visible_share is None:
            return (0.5, 1.0) if self.design == "independent" else (0.5, 0.5)
        return self.visible_share if isinstance(self.visible_share, tuple) else (self.visible_share,) * 2

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
        stability_seeds: explanations from so many seeds tell how stable they are, the judged ones included; 1 leaves it
            out. Two tell the same on average as more do, which only narrow the interval, at a full explanation each.
        judges: measures to judge by, such as coverage and jaccard, and of your own, each named after its module as in
            my_module.my_judge; where none of the project's is named, all of them.

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
