"""Command-line arguments: what all parsers share, and errors as one sentence."""

import argparse
import errno
import json
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning_fabric.utilities.exceptions import MisconfigurationException

from maskrobust.configs import find_config
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import UnsupportedNetworkError
from maskrobust.train.checkpoints import CheckpointError
from maskrobust.train.parser_messages import in_one_sentence

PARSER_OPTIONS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}

_FOR_USERS = (ValueError, FileNotFoundError, UnsupportedNetworkError, CheckpointError)
_ABOUT_PATHS = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)


def import_data_modules() -> list[str]:
    """Make the shipped data modules known to the parsers by their bare class names, and return these."""
    from maskrobust.train import data

    return list(data.SHIPPED)


def parse_with_data(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse options together with the data module to use, from `--data` or from the `data` of a YAML (`--config`).

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.

    Returns:
        Values by option, the data module instantiated, without "config".

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: no YAML has data, or several have.
    """
    return parse_with_described_data(parser, arguments)[0]


def parse_with_described_data(
    parser: ArgumentParser, arguments: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `parse_with_data`, and how the data module was made: its "class_path" and "init_args", defaults included.

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: no YAML has data, or several have.
    """
    from maskrobust.train.data import AnnotatedDataModule

    import_data_modules()
    parser.add_argument("--config", type=str, help="YAML whose `data` is taken, the rest not; a shipped name or a path")
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", action="append", default=[])
    paths = first.parse_known_args(arguments)[0].config
    if paths:
        parser.set_defaults({"data": _data_of(paths)})
    parsed = parser.parse_args(list(arguments))
    described: dict[str, Any] = json.loads(parser.dump(parsed, format="json", skip_unset=False))["data"]
    made = parser.instantiate(parsed)
    return {key: value for key, value in made.items() if key != "config"}, described


def with_config_paths(arguments: Sequence[str]) -> list[str]:
    """Spell `-c` out as `--config`, and replace its value by the path of the file it names: a shipped or an own one.

    Raises:
        MissingFileError: there is no such file, listing those that are shipped.
        InputError: the file is no YAML.
    """
    resolved: list[str] = []
    for position, argument in enumerate(arguments):
        joined = re.fullmatch(r"(--config=|-c=?)(.+)", argument)
        if position and arguments[position - 1] in ("--config", "-c"):
            resolved.append(str(_readable_config(argument)))
        elif joined:
            resolved.append(f"--config={_readable_config(joined[2])}")
        else:
            resolved.append("--config" if argument == "-c" else argument)
    return resolved


def _readable_config(name: str) -> Path:
    path = find_config(name)
    _content_of(str(path))
    return path


def _content_of(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = _on_one_line(str(error)).replace(' in "<unicode string>",', " in")
        raise InputError(f"'{path}' must be YAML, but is not: {found}; mend it there.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' must hold options and their values as YAML, got {type(content).__name__}; mend it.")
    return content


def _data_of(paths: Sequence[str]) -> Any:
    """The `data` of the one configuration that has it; overlays have none."""
    found = {path: content["data"] for path in paths if "data" in (content := _content_of(path))}
    named = " and ".join(f"'{path}'" for path in found or paths)
    if not found:
        say = "says" if len(paths) == 1 else "say"
        raise InputError(f"{named} {say} nothing about data; name a configuration with data, or give --data.")
    if len(found) > 1:
        raise InputError(f"data must be in one configuration, but is in {named}; give one of them.")
    return next(iter(found.values()))


def one_sentence(error: Exception) -> str | None:
    """What to tell a user about an error, on one line; None where it is a fault of the program, not of its input.

    An error is the user's to mend when one of this project's own modules raised it (possibly deep inside a library that
    wrapped it), or the argument parser; so are paths that cannot be used, and options that Lightning refuses.
    """
    for each in _chain(error):
        file, message = _origin(each)
        if isinstance(each, _FOR_USERS) and _is_ours(file):
            return _on_one_line(message)
    if isinstance(error, OSError):
        return _about_files(error)
    if isinstance(error, MisconfigurationException):
        said, _, _ = _on_one_line(str(error)).partition(" HINT:")  # which is for those who write a LightningModule
        return f"{said.rstrip('.!')}; change the trainer's options."
    return about_arguments(error) if isinstance(error, argparse.ArgumentError) else None


def about_arguments(error: argparse.ArgumentError) -> str:
    """What the argument parser found wrong, in one sentence."""
    return in_one_sentence(error.message, import_data_modules())


def _about_files(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"'{error.filename}'" if error.filename else "a file of the run"
        return f"{where} cannot be written ({error.strerror}); make room, and run the command again."
    if isinstance(error, _ABOUT_PATHS):
        return f"'{error.filename}' cannot be used ({error.strerror}); choose another path, or change its permissions."
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _origin(error: BaseException) -> tuple[str, str]:
    """The file that raised an error, and its message, also where that was in a loader process or one of a pool."""
    text = str(error)
    in_loader = re.match(r"Caught \w+ in DataLoader worker process", text)
    in_pool = type(error.__cause__).__name__ == "_RemoteTraceback"
    if not (in_loader or in_pool):
        frames = traceback.extract_tb(error.__traceback__)  # none where it was never raised, as a pool's report
        return (frames[-1].filename if frames else ""), text
    report = text if in_loader else str(error.__cause__)
    *_, file = re.findall(r'^  File "(.+?)", line \d+', report, re.MULTILINE)
    return file, re.split(rf"^(?:[\w.]+\.)?{type(error).__name__}: ", report, flags=re.MULTILINE)[-1].strip('"\n ')


def _is_ours(file: str) -> bool:
    top = Path(__file__).resolve().parents[1]
    roots = {top / name for name in ("augment", "lm_modules", "train", "configs")}
    return any(root in Path(file).resolve().parents for root in roots)
