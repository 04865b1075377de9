"""Errors that are the user's to correct: their message is one sentence, which the command line prints as it is."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires

_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""What is installed under another name than it is imported by."""


class InputError(ValueError):
    """An argument, option or file is not what was expected.

    The message is one sentence: what was expected, what was given, and what to do.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named does not exist."""

    def __str__(self) -> str:
        return str(self.args[0])


def check_at_least(name: str, value: int | None, minimum: int) -> None:
    """Raise an `InputError` that names the argument where `value` is None, `null` in a YAML, or below `minimum`."""
    if value is None or value < minimum:
        raise InputError(f"{name} must be at least {minimum}, got {value}; give a larger number.")


def check_within(interval: str, name: str, *values: float) -> None:
    """Raise an `InputError` that names the argument where a value is outside of an interval such as "[0, 1)"."""
    low, high = map(float, interval[1:-1].split(","))
    for value in values:
        is_open_end = (value == low and interval[0] == "(") or (value == high and interval[-1] == ")")
        if not low <= value <= high or is_open_end:
            raise InputError(f"{name} must lie in {interval}, got {value}; give such a number.")


def check_distinct(name: str, values: Sequence[object]) -> None:
    """Raise an `InputError` that names the argument where it names nothing, or the same twice."""
    if not values:
        raise InputError(f"{name} must name at least one, got []; give one or more.")
    if len(set(values)) < len(values):
        raise InputError(f"{name} must be different, got {[*values]}; name each once.")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The known name that a misspelt one is nearest to, in brackets for a message; empty if none is near."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def about_library(error: ImportError) -> str:
    """What to do about a library that is missing or broken, in one sentence.

    Args:
        error: raised by the import of the library.
    """
    if error.name is None:  # as Lightning says it of a logger's library
        return f"a library is needed here, but cannot be imported ({error}); install it."
    name = error.name.partition(".")[0]
    package = _PACKAGES.get(name, name if name in _our_packages() else None)
    known = f"it with pip install {package}, or all libraries" if package else "the package that has it, or all of ours"
    return (
        f"{name} is needed here, but cannot be imported ({error}); install {known} with pip install . in a clone of "
        "maskrobust."
    )


def _our_packages() -> set[str]:
    """Packages that we require: another name on a registry may be anyone's."""
    try:
        required = requires("maskrobust") or []
    except PackageNotFoundError:
        return set()
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in required}


@contextmanager
def library_needed() -> Iterator[None]:
    """Say of a library that cannot be imported within the context what to do about it.

    Raises:
        InputError: it cannot; see `about_library`.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(about_library(error)) from error
