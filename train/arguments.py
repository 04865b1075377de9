"""Command-line arguments: what all parsers share, and errors as one sentence."""

import argparse
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning_fabric.utilities.exceptions import MisconfigurationException

from configs import find_config
from lm_modules import UnsupportedNetworkError

PARSER_OPTIONS: dict[str, Any] = {"exit_on_error": False}

_FOR_USERS = (ValueError, FileNotFoundError, UnsupportedNetworkError)
_ABOUT_PATHS = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_OUR_PACKAGES = ("augment", "lm_modules", "train", "configs")


def import_data_modules() -> list[str]:
    """Make the shipped data modules known to the parsers by their bare class names, and return these."""
    from train import data

    return [name for name in data.__all__ if name != "AnnotatedDataModule"]


def parse_with_data(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse options together with the data module to use, from `--data` or from the `data` of a YAML (`--config`).

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.

    Returns:
        Values by option, the data module instantiated, without "config".

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        ValueError: the YAML has no data.
    """
    from train.data import AnnotatedDataModule

    import_data_modules()
    parser.add_argument("--config", type=str, help="YAML whose `data` is taken, the rest not; a shipped name or a path")
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    path = first.parse_known_args(arguments)[0].config
    if path is not None:
        parser.set_defaults({"data": _data_of(path)})
    made = parser.instantiate(parser.parse_args(list(arguments)))
    return {key: value for key, value in made.items() if key != "config"}


def with_config_paths(arguments: Sequence[str]) -> list[str]:
    """Spell `-c` out as `--config`, and replace its value by the path of the file it names: a shipped or an own one.

    Raises:
        FileNotFoundError: there is no such file, listing those that are shipped.
    """
    resolved: list[str] = []
    for position, argument in enumerate(arguments):
        joined = re.fullmatch(r"(--config=|-c=?)(.+)", argument)
        if position and arguments[position - 1] in ("--config", "-c"):
            resolved.append(str(find_config(argument)))
        elif joined:
            resolved.append(f"--config={find_config(joined[2])}")
        else:
            resolved.append("--config" if argument == "-c" else argument)
    return resolved


def _data_of(path: str) -> Any:
    reader = ArgumentParser(**PARSER_OPTIONS)
    reader.add_argument("--config", type=dict[str, Any], enable_path=True)
    content: dict[str, Any] = reader.parse_args(["--config", path]).config
    if "data" not in content:
        raise ValueError(f"'{path}' says nothing about data; name a configuration with data, or give --data.")
    return content["data"]


def one_sentence(error: Exception) -> str | None:
    """What to tell a user about an error, on one line; None where it is a fault of the program, not of its input.

    An error is the user's to mend when one of this project's own modules raised it (possibly deep inside a library that
    wrapped it), or the argument parser; so are paths that cannot be used, and options that Lightning refuses.
    """
    ours = next((each for each in _chain(error) if isinstance(each, _FOR_USERS) and _raised_by_us(each)), None)
    if ours is not None:
        return _on_one_line(str(ours))
    if isinstance(error, _ABOUT_PATHS):
        return f"'{error.filename}' cannot be used ({error.strerror}); choose another path, or change its permissions."
    if isinstance(error, MisconfigurationException):
        return f"{_on_one_line(str(error)).rstrip('.!')}; change the trainer's options."
    if not isinstance(error, argparse.ArgumentError):
        return None
    text = _on_one_line(error.message)
    unknown = re.match(r"Parser key \"data\":.*(?:import path string: (\S+)|odule named.* Given value: (\S+)$)", text)
    if unknown:
        known, given = ", ".join(import_data_modules()), unknown[1] or unknown[2]
        return f"data must be one of {known}, or the import path of a data module, got '{given}'; choose one of these."
    return text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _raised_by_us(error: BaseException) -> bool:
    *_, last = traceback.extract_tb(error.__traceback__)
    roots = {Path(__import__(name).__file__ or "").parent for name in _OUR_PACKAGES}
    return any(root in Path(last.filename).parents for root in roots)
