"""How figures, masking methods and mask families are written, the same in the pages and in the terminal."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Figure = Mapping[str, Any]
"""A figure of claim.json or reliance.json: value, low, high, images, left_out, undefined_because."""

CONCLUSIONS = {
    "supported": "Mask augmentation alone did not stop these networks from reading the shape of the hole.",
    "refuted": "Mask augmentation alone stopped a network from reading the shape of the hole, as layer masking did.",
    "undecided": "Whether mask augmentation alone stops a network from reading the shape of the hole is not settled.",
}
"""What has come of the claim, by the outcome of its verdict."""

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
    return METHOD_TITLES.get(method, capitalised(_without_module(method).replace("_", " ")))


def family_title(name: str) -> str:
    """A mask family's name in words, as in "Own class silhouettes"; SLIC is an abbreviation."""
    return "SLIC" if name == "slic" else capitalised(_without_module(name).replace("_", " "))


def percent(value: float) -> str:
    """A share in [0, 1] as a percentage with one decimal, as in "93.1 %"."""
    return f"{_signed(100 * value, 1)}{PERCENT}"


def decimal(value: float) -> str:
    """A number with two decimals, as in "−0.26"; what rounds to zero has no sign."""
    return _signed(value, 2)


def points(value: float) -> str:
    """A difference of accuracies in percentage points with one decimal, as in "1.2 points"."""
    return f"{_signed(100 * value, 1)} points"


def hundredths(value: float) -> str:
    """A share in [0, 1] in percent without the sign, as in "93.1"; also a difference of shares in points."""
    return _signed(100 * value, 1)


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


def _without_module(name: str) -> str:
    """An own family or fill without the module in front of it."""
    return re.sub(r"^(\w+\.)+", "", name)


def _signed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")
