"""`ExplanationPlan`: which explainers run, and with which queries."""

from dataclasses import dataclass
from typing import Literal

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.asking import Scale

ExplainerName = Literal["lime", "occlusion"]

EXPLAINERS: dict[str, str] = {"lime": "LIME", "occlusion": "Occlusion"}
"""What each explainer is called in words."""

Design = Literal["independent", "paper"]

_PAPER_SAMPLES = 512


@dataclass(frozen=True)
class ExplanationPlan:
    """Which explainers run under each masking method, and with which queries.

    Attributes:
        explainers: lime and occlusion (square windows).
        samples: number of queries for lime.
        design: how queries are drawn: independent, or paper (the protocol of the layer masking paper).
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
        if not self.explainers or not EXPLAINERS.keys() >= {*self.explainers}:
            raise InputError(
                f"explainers must be some of {', '.join(EXPLAINERS)}, got {[*self.explainers]}; other libraries' ask "
                "through an adapter."
            )
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
