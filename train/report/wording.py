"""How the figures of a claim are called, explained and written, the same in the page and in the terminal."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Figure = Mapping[str, Any]
"""A figure of claim.json: value, low, high, images, left_out, undefined_because."""

PERCENT = "\u202f%"
"""A percent sign after a narrow no-break space."""

METHOD_TITLES = {
    "black": "Black fill",
    "mean": "Mean colour fill",
    "image_mean": "Image mean fill",
    "random_colour": "Random colour fill",
    "uniform_noise": "Uniform noise",
    "gaussian_noise": "Gaussian noise",
    "blur": "Blurred image",
    "linear_imputation": "Linear imputation",
    "inpainting": "Inpainting",
    "layer_masking": "Layer masking",
}


def method_title(method: str) -> str:
    """A masking method's name in words; an unknown one is written as it is called, as in "Patch mixing"."""
    return METHOD_TITLES.get(method, capitalised(method.replace("_", " ")))


def percent(value: float) -> str:
    """A share in [0, 1] as a percentage with one decimal, as in "93.1 %"."""
    return f"{_signed(100 * value, 1)}{PERCENT}"


def decimal(value: float) -> str:
    """A number with two decimals, as in "−0.26"; what rounds to zero has no sign."""
    return _signed(value, 2)


def points(value: float) -> str:
    """A difference of accuracies in percentage points with one decimal, as in "1.2 points"."""
    return f"{_signed(100 * value, 1)} points"


def compact(value: float) -> str:
    """A number with three significant digits, as in "0.005" and "12.3"; exactly zero is "0"."""
    return f"{value:.3g}".replace("-", "−")


def count(value: int) -> str:
    """A whole number with its thousands apart, as in "12,000"."""
    return f"{value:,}"


def bounds(figure: Figure, write: Callable[[float], str]) -> str:
    """The interval of a figure, as in "[0.22, 0.30]" or, in percent, "[92.9, 95.3]".

    Args:
        figure: with `low` and `high`, which may be None.
        write: writes one bound; a percent sign is left out, it stands behind the value.

    Returns:
        Empty where there is no interval.
    """
    if figure["low"] is None or figure["high"] is None:
        return ""
    low, high = (write(figure[end]).removesuffix(PERCENT) for end in ("low", "high"))
    return f"[{low}, {high}]"


def duration(seconds: float) -> str:
    """Seconds, and from two minutes on also hours and minutes, as in "7,380 s (2 h 3 min)"."""
    text = f"{seconds:,.0f} s"
    if seconds < 120:
        return text
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{text} ({hours} h {minutes} min)" if hours else f"{text} ({minutes} min)"


def hidden_share(hidden_fraction: float) -> str:
    """A share of patches within a sentence, as in "half" or "30 %"."""
    return "half" if hidden_fraction == 0.5 else f"{100 * hidden_fraction:.3g}{PERCENT}"


def or_undefined(value: float | None, write: Callable[[float], str]) -> str:
    """A value as `write` writes it; "undefined" where it is None."""
    return "undefined" if value is None else write(value)


def capitalised(text: str) -> str:
    """The text with its first letter, and no other, made a capital."""
    return text[:1].upper() + text[1:]


def _signed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


class Column(NamedTuple):
    """One measure as a table shows it.

    Attributes:
        key: its name in claim.json.
        group: heading over this and its neighbours.
        title: a short heading.
        write: writes a value or a bound.
        definition: one or two sentences.
    """

    key: str
    group: str
    title: str
    write: Callable[[float], str]
    definition: str


_ACCURACY, _OUTLINE = "Accuracy", "Reading the outline"

_SILHOUETTE_ACCURACY = (
    "Accuracy when the object is hidden exactly along its outline, and a blob elsewhere that does not touch it."
)
_CIRCLE_ACCURACY = (
    "Accuracy when the smallest circle around the object is hidden: as many pixels, the whole object, no outline."
)
_LEAK = (
    "Silhouette accuracy minus circle accuracy, paired image by image. Both holes remove the whole object; only the "
    "first leaves its outline. Below zero the outline is read too, and misleads."
)
_SWAP_PULL = (
    "How far a prediction follows another object's outline that is cut out of the image, against that of a third "
    "object of like area. Only the shape changes, so this is the causal effect of the shape."
)
_USED_SHARE = (
    "The headline: leak divided by what a network that sees nothing but outlines reads from them (accuracy of the "
    "mask-only probe minus share of the majority class). At 0 outlines are not read; at 1 they are read as well as by "
    "the probe; below zero they are read and mislead. Reliance, which the rule compares, is its magnitude."
)


def columns(hidden_fraction: float) -> tuple[Column, ...]:
    """The figures of claim.json that have an interval, in the order of the tables.

    Args:
        hidden_fraction: share of patches hidden for the retention measure.
    """
    hidden = hidden_share(hidden_fraction)
    retention = f"Retention: accuracy when {hidden} of the square patches are hidden at random."
    return (
        Column("clean_accuracy", _ACCURACY, "Nothing hidden", percent, "Clean accuracy: accuracy with nothing hidden."),
        Column("retention", _ACCURACY, f"{capitalised(hidden)} hidden", percent, retention),
        Column("silhouette_accuracy", _ACCURACY, "Silhouette hidden", percent, _SILHOUETTE_ACCURACY),
        Column("circle_accuracy", _ACCURACY, "Circle hidden", percent, _CIRCLE_ACCURACY),
        Column("silhouette_leak", _OUTLINE, "Leak", decimal, _LEAK),
        Column("swap_pull", _OUTLINE, "Swap pull", decimal, _SWAP_PULL),
        Column("used_share", _OUTLINE, "Used share", decimal, _USED_SHARE),
    )


INFORMATION = {"information_silhouette": "Silhouette hidden", "information_circle": "Circle hidden"}
"""The two figures in bits, each given beside the interval that chance alone would show."""

INTERVAL_DEFINITION = (
    "Bootstrap intervals over images; over several seeds also over seeds, each resample drawing both. Fewer than five "
    "seeds make them too narrow where seeds differ more than images do: a 95\u202f% interval holds the truth in 50, "
    "75, 82 and 86\u202f% of cases with 2, 3, 4 and 5 seeds where the seed alone decides."
)

INFORMATION_DEFINITION = (
    "Mutual information between prediction and label behind the hole, in bits, corrected for bias. It sees any "
    "dependence, also where the outline misleads. In brackets: the interval under permuted labels, which is chance."
)

SENSITIVITY = "hidden_pixel_sensitivity"
"""The one figure in logits, without an interval."""

SENSITIVITY_DEFINITION = (
    "The largest change of any logit when the hidden pixels are redrawn. Exactly 0: what is hidden cannot matter."
)
