"""How numbers, masking methods and mask families are written, the same on pages and in the terminal."""

import re
from collections.abc import Callable, Sequence

from maskrobust.lm_modules.reliance.catalogue import Goal, Unit

PERCENT = "\u202f%"
"""A percent sign after a narrow no-break space."""

GOALS: dict[Goal, str] = {
    "high": "Higher is better.",
    "low": "Lower is better.",
    "zero": "The nearer to zero, the better.",
    "chance": "The nearer to chance, the better.",
    "none": "",
}
"""What to wish for, by the goal of a measure."""

METHOD_TITLES = {  # others are called as they are named
    "black": "Black fill",
    "mean": "Mean colour fill",
    "image_mean": "Image mean fill",
    "random_colour": "Random colour fill",
    "blur": "Blurred image",
    "layer_masking_mirror": "Layer masking, mirrored",
    "layer_masking_zeros": "Layer masking, zeros",
}


def method_title(method: str) -> str:
    """A masking method's name in words, as in "Black fill"; an unknown one as it is called, "Patch mixing"."""
    return METHOD_TITLES.get(method, capitalised(_without_module(method).replace("_", " ")))


def under(method: str) -> str:
    """As in "under black fill"."""
    return f"under {in_sentence(method_title(method))}"


def family_title(name: str) -> str:
    """A mask family's name in words, as in "Own class silhouettes"; SLIC is an abbreviation."""
    return "SLIC" if name == "slic" else capitalised(_without_module(name).replace("_", " "))


def percent(value: float) -> str:
    """A fraction in [0, 1] as a percentage with one decimal, as in "93.1 %"."""
    return f"{hundredths(value)}{PERCENT}"


def percents(value: float) -> str:
    """A fraction in [0, 1] within a sentence, with at most three digits, as in "46.1 %" and "50 %"."""
    return f"{100 * value:.3g}{PERCENT}"


def hundredths(value: float) -> str:
    """A fraction in percent without the sign, as in "93.1"; also a difference of fractions in points."""
    return _signed(100 * value, 1)


def points(value: float) -> str:
    """A difference of fractions in percentage points with one decimal, as in "1.2 points"."""
    return f"{hundredths(value)} points"


def decimal(value: float) -> str:
    """A number with two decimals, as in "−0.26"; what rounds to zero has no sign."""
    return _signed(value, 2)


def compact(value: float) -> str:
    """A number with three significant digits, as in "0.005" and "12.3"; exactly zero is "0"."""
    return f"{value:.3g}".replace("-", "−")


_WRITERS: dict[Unit, Callable[[float], str]] = {
    "fraction": percent,
    "points": hundredths,
    "number": decimal,
    "logits": compact,
}


def writer(unit: Unit, *, difference: bool = False) -> Callable[[float], str]:
    """Writes values of a unit; `difference`: differences of two, which are points without a sign for fractions."""
    return hundredths if difference and unit == "fraction" else _WRITERS[unit]


def interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """As in "[0.22, 0.30]" or, in percent, "[92.9, 95.3]": the sign stands behind the value. Empty where there is none.

    Args:
        low: lower bound.
        high: upper bound.
        write: writes one bound.
    """
    if low is None or high is None:
        return ""
    return f"[{write(low).removesuffix(PERCENT)}, {write(high).removesuffix(PERCENT)}]"


def duration(seconds: float) -> str:
    """Seconds, and from two minutes on also hours and minutes, as in "7,380 s (2 h 3 min)"."""
    text = f"{seconds:,.0f} s"
    if seconds < 120:
        return text
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{text} ({hours} h {minutes} min)" if hours else f"{text} ({minutes} min)"


def in_words(hidden_fraction: float) -> str:
    """A hidden fraction within a sentence, as in "half" or "30 %"."""
    return "half" if hidden_fraction == 0.5 else f"{100 * hidden_fraction:.3g}{PERCENT}"


def listed(names: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def capitalised(text: str) -> str:
    """The text with its first letter, and no other, made a capital."""
    return text[:1].upper() + text[1:]


def in_sentence(title: str) -> str:
    """A title within a sentence: its first letter is small, but for abbreviations."""
    return title if title.isupper() else title[:1].lower() + title[1:]


def cut(text: str, length: int) -> str:
    """The text, at most so long, and with an ellipsis where something is cut off."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _without_module(name: str) -> str:
    """An own family or fill without the module in front of it."""
    return re.sub(r"^(\w+\.)+", "", name)


def _signed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")
