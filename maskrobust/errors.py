"""Errors that are the user's to correct: their message is one sentence, which the command line prints as it is."""

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
_MOST_LISTED, _NEAR = 20, 2


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


class UnreadableError(InputError):
    """A file of the data cannot be read, or does not fit what belongs to it."""


class ManyInputsError(InputError):
    """Several at once: a line for each, after one that says how many.

    Args:
        errors: what is wrong.
    """

    def __init__(self, errors: Sequence[InputError]) -> None:
        self.errors = tuple(errors)
        more = [f"and {len(errors) - _MOST_LISTED} more"] * (len(errors) > _MOST_LISTED)
        listed = [f"{len(errors)} things must be corrected:", *map(str, errors[:_MOST_LISTED]), *more]
        super().__init__("\n- ".join(listed))


class Faults(list[InputError]):
    """What is wrong, collected so that it can be said at once."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an `InputError` of the block, or the cause of a `ValueError` that is one, instead of raising it."""
        try:
            yield
        except ValueError as error:
            told = error if isinstance(error, InputError) else error.__cause__
            if not isinstance(told, InputError):
                raise
            self.extend(told.errors if isinstance(told, ManyInputsError) else [told])

    def refuse(self) -> None:
        """Raise the error that was noted, or one that says all, each once; nothing where there is none."""
        distinct = [*{str(each): each for each in self}.values()]
        if distinct:
            raise distinct[0] if len(distinct) == 1 else ManyInputsError(distinct)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The known name that is at most two letters from a misspelt one, in brackets for a message; empty if none is.

    A name with dots is known by its last part, too.
    """
    forms = [(form, each) for each in known for form in {each, f"--{each.rpartition('.')[2]}"}]
    alike = [(form, each) for form, each in forms if abs(len(form) - len(given)) <= _NEAR]
    distances = [(_distance(given.lower(), form.lower()), each) for form, each in alike]
    distance, nearest = min(distances, key=lambda found: found[0], default=(9, ""))
    return f" (did you mean {nearest}?)" if distance <= min(_NEAR, len(given) // 2) else ""


def _distance(given: str, known: str) -> int:
    """Letters to insert, leave out or replace (Levenshtein)."""
    row: list[int] = [*range(len(known) + 1)]
    for number, letter in enumerate(given, 1):
        before, row[0] = row[:], number
        for place, other in enumerate(known, 1):
            row[place] = min(before[place] + 1, row[place - 1] + 1, before[place - 1] + (letter != other))
    return row[-1]


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
