"""Command-line arguments: what all parsers share."""

import argparse
import ast
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentParser

from maskrobust.configs import find_config
from maskrobust.errors import InputError

_BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
_DEEPEST = 100  # for each level PyYAML looks through all those above

PARSER_OPTIONS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}

DATA_HELP = "a data module, such as Cues, unless a --config has data; --data.help Cues lists its options"


def import_data_modules() -> list[str]:
    """Make the shipped data modules known to the parsers by their bare class names, and return these."""
    from maskrobust.train import data

    return list(data.SHIPPED)


def check_labelled(data: Any, prog: str) -> None:
    """Raise an InputError where a command that needs classes gets images without labels."""
    if not data.num_classes:
        raise InputError(
            f"{prog} needs images with labels, but these have none; give --data.labels, a file that says the "
            "class of each, or sort them into folders by class."
        )


def parse_with_data(parser: ArgumentParser, arguments: Sequence[str], *, unlabelled: bool = False) -> dict[str, Any]:
    """Parse options together with the data module to use, from `--data` or from the `data` of a YAML (`--config`).

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.
        unlabelled: whether images without labels will do.

    Returns:
        Values by option, the data module instantiated, without "config".

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: no YAML has data, or several have; or the images have no labels.
    """
    return parse_with_described_data(parser, arguments, unlabelled=unlabelled)[0]


def parse_with_described_data(
    parser: ArgumentParser, arguments: Sequence[str], *, unlabelled: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `parse_with_data`, and how the data module was made: its "class_path" and "init_args", defaults included.

    All else is parsed before the data modules are imported, which takes seconds.

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.
        unlabelled: whether images without labels will do.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: no YAML has data, or several have; or the images have no labels.
    """
    parser.add_argument("--config", help="YAML whose `data` is taken, the rest not; a shipped name or a path")
    parser.add_argument("--data", help=DATA_HELP)
    first = argparse.ArgumentParser(add_help=False, **PARSER_OPTIONS)
    first.add_argument("--config", action="append", default=[])
    configs, rest = first.parse_known_args(arguments)
    about_data, others = _parted(rest)
    if any(re.match(r"--data\.help\b", argument) for argument in about_data):
        _parse_data(parser.prog, about_data, [])  # prints it, and ends the command
    values = parser.parse_args(others)
    data, described = _parse_data(parser.prog, about_data, configs.config)
    if not unlabelled:
        check_labelled(data, parser.prog)
    made = {**vars(parser.instantiate(values)), "data": data}
    del made["config"]
    return made, described


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments about data, each with its value, and the others."""
    about_data: list[str] = []
    others: list[str] = []
    side = others
    for argument in arguments:
        if argument.startswith("--"):
            side = about_data if re.match(r"--data(?=[.=]|$)", argument) else others
        side.append(argument)
    return about_data, others


def _parse_data(prog: str, arguments: Sequence[str], configs: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The data module, and its "class_path" and "init_args"."""
    from maskrobust.train.data import AnnotatedDataModule

    parser = ArgumentParser(prog=prog, **PARSER_OPTIONS)
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    if configs:
        parser.set_defaults({"data": _data_of(configs)})
    parsed = parser.parse_args(list(arguments))
    return parser.instantiate(parsed).data, parsed.data.as_dict()


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


class Source(NamedTuple):
    """A class in a file, which is read without importing it.

    Attributes:
        path: of the file.
        class_name: of a class with an `__init__` of its own, or of a dataclass.
    """

    path: Path
    class_name: str

    def arguments(self) -> list[str]:
        """The names of the class's arguments."""
        tree = ast.parse(self.path.read_bytes())
        body = next(each.body for each in tree.body if isinstance(each, ast.ClassDef) and each.name == self.class_name)
        for each in body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                return [argument.arg for argument in (*each.args.args[1:], *each.args.kwonlyargs)]
        fields = [each.target for each in body if isinstance(each, ast.AnnAssign)]
        return [field.id for field in fields if isinstance(field, ast.Name)]


def check_names(arguments: Sequence[str], known: Collection[str], groups: Mapping[str, Source]) -> None:
    """Refuse a misspelt option at once, where the parser that knows all options takes seconds to build.

    Args:
        arguments: without the command.
        known: first names of options: "model" of `--model.masking`.
        groups: by first name, the class whose arguments are the second names.

    Raises:
        ArgumentError: naming the options whose first or second name is unknown.
    """
    unknown = [each for each in arguments if each.startswith("--") and not _is_known(each, known, groups)]
    if unknown:
        raise argparse.ArgumentError(None, f"unrecognized arguments: {' '.join(unknown)}")


def _is_known(argument: str, known: Collection[str], groups: Mapping[str, Source]) -> bool:
    first, *rest = re.split(r"[=+]", argument[2:])[0].split(".")
    return first in known and (not rest or first not in groups or rest[0] in groups[first].arguments())


def _readable_config(name: str) -> Path:
    path = find_config(name)
    read_options(str(path))
    return path


def read_options(path: str) -> dict[str, Any]:
    """What a YAML file (or a JSON file, which is one) says by name.

    Raises:
        InputError: it is no YAML, is nested more than 100 deep, or holds no names and values.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if max(accumulate(_BRACKETS.get(each, 0) for each in text), default=0) > _DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {_DEEPEST} deep")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' must be YAML, but is not ({error}); correct it there.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"'{path}' must hold options and their values as YAML, got {type(content).__name__}; correct it there."
        )
    return content


def _data_of(paths: Sequence[str]) -> Any:
    """The `data` of the one configuration that has it; overlays have none."""
    found = {path: content["data"] for path in paths if "data" in (content := read_options(path))}
    named = " and ".join(f"'{path}'" for path in found or paths)
    if not found:
        say = "says" if len(paths) == 1 else "say"
        raise InputError(f"{named} {say} nothing about data; name a configuration with data, or give --data.")
    if len(found) > 1:
        raise InputError(f"data must be in one configuration, but is in {named}; give one of them.")
    return next(iter(found.values()))
