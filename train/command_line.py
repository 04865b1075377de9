"""Command-line arguments that all commands share."""

import argparse
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from maskrobust.configs import find_config
from maskrobust.errors import InputError, did_you_mean
from maskrobust.train.data_options import GivenVisible

PARSER_OPTIONS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}


class Parser(ArgumentParser):
    """A parser that names the option that a misspelt one is nearest to."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong as an `ArgumentError`."""
        super().error(with_nearest(message, [f"--{name}" for name in names_of(self)]), ex)


def names_of(parser: ArgumentParser) -> list[str]:
    """Names of a parser's options, such as "out" and "plan.shapes"."""
    return [*parser.get_defaults(skip_validation=True).keys()]


def with_nearest(message: str, known: Iterable[str]) -> str:
    """A message about unknown options, each with the known option that it is nearest to."""
    if re.search(r"\(did you mean ", message):  # jsonargparse passes an error on to the error of the parser around
        return message
    options = [*known]
    if in_yaml := re.search(r"(?:Group '([\w.]+)' does not accept o|[oO])ption '([\w.]+)'", message):
        name = ".".join(filter(None, in_yaml.groups()))
        return message + did_you_mean(name, [each.removeprefix("--") for each in options])
    if not message.startswith("unrecognized arguments: "):
        return message
    return re.sub(r"(?<= )(--[\w.]+)\S*", lambda found: found[0] + did_you_mean(found[1], options), message)


VISIBLE_HELP = (
    "which pixels may be seen: alpha (all that are not fully transparent), a no-data value such as 0, a folder of "
    "masks of the same names (.png), white where visible, a CSV file of boxes to hide, '{hidden_box: [left, top, "
    "right, bottom]}', or all; by default as in the network's training, or all"
)

_OF_A_RUN = (
    *("run_name", "seed_everything", "trainer", "model", "optimizer", "lr_scheduler", "ckpt_path"),
    *("save_every_n_steps", "compile", "wandb", "reliance"),
    *("question", "arms", "seeds", "training", "evaluation", "rule"),
)
"""What else a YAML for `fit` or `claim` may hold, beside its data."""

DATA_HELP = "a data module, such as Cues, unless a --config has data; --data.help Cues lists its options"


def import_data_modules() -> list[str]:
    """Make the shipped data modules known to the parsers by their bare class names, and return these."""
    from maskrobust.train import data

    return list(data.SHIPPED)


def as_list(given: Any) -> list[Any]:
    """One value, several, or none."""
    if given is None:
        return []
    return [*given] if isinstance(given, list | tuple) else [given]


def next_line(*arguments: str) -> str:
    """What a command says to type next, ready for a shell; `maskrobust` by its path where a shell would not find it."""
    program = "maskrobust" if shutil.which("maskrobust") else str(Path(sys.executable).with_name("maskrobust"))
    return f"next: {shlex.join([program, *arguments])}"


def next_prediction(network: str, data: object, out: str | Path) -> str:
    """The line that says how to predict files by a network's name, with holes told as in `data`."""
    reading = getattr(data, "reading", None)
    given = None if reading is None else "MASKS" if reading.beside_files else reading.given
    visible = [] if given is None else ["--data.visible", given if isinstance(given, str) else json.dumps(given)]
    return next_line("predict", "--network", network, "--images", "IMAGES", *visible, "--out", str(out))


def check_networks(arguments: Sequence[str]) -> None:
    """Refuse networks that are named and are not there, before Lightning and data modules are imported for seconds.

    Raises:
        MissingFileError, InputError: see `check_name`, for `--network`, and `check_known`, for `--model.architecture`.
    """
    first = argparse.ArgumentParser(add_help=False, **PARSER_OPTIONS)
    first.add_argument("--network", action="append", default=[])
    first.add_argument("--model.architecture", dest="trained")
    with suppress(argparse.ArgumentError, yaml.YAMLError):  # of which the command's own parser tells
        given = first.parse_known_args(arguments)[0]
        if given.trained is not None:
            from maskrobust.lm_modules.networks.architectures import check_known, is_own_class
            from maskrobust.lm_modules.networks.segmentation import check_segmenter

            if not is_own_class(given.trained):
                (check_segmenter if arguments[0] == "segment" else check_known)(given.trained)
        lists = [yaml.safe_load(each) if each.startswith("[") else each for each in given.network]
        names = [name for each in lists for name in as_list(each)]
        if names:
            from maskrobust.lm_modules.networks.named import check_name  # which imports torch

            for name in names:
                check_name(str(name))


def parse_with_data(
    parser: ArgumentParser,
    arguments: Sequence[str],
    *,
    unlabelled: bool = False,
    per_pixel: bool = False,
    optional: bool = False,
    quick: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse options together with the data module to use, from the command line and from YAML (`--config`).

    Data modules, whose import takes seconds, are imported only where there may be one among the arguments.

    The command line wins over every YAML, a later YAML over an earlier one. Of a YAML for `fit` or `claim`, what is no
    option here is passed over, as its `model` and `trainer` are.

    Args:
        parser: knows the other options; gets `--config` and `--data` here.
        arguments: without the command.
        unlabelled: whether images without labels will do.
        per_pixel: whether images with a class for each pixel will do, too.
        optional: whether there may be no data; they are then None, and `visible` is what --data.visible says.
        quick: options that `--quick` sets, over every YAML; the command line wins over them.

    Returns:
        Values by option, the data module instantiated, without "config"; and how the data module was made: its
        "class_path" and "init_args", defaults included.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: no data are named; or the images have no labels.
    """
    first = argparse.ArgumentParser(add_help=False, **PARSER_OPTIONS)
    first.add_argument("--config", action="append", default=[])
    configs, rest = first.parse_known_args(arguments)
    parser.add_argument("--config", action="config", help="YAML with any of these options; a shipped name or a path")
    about_data = [each for each in rest if re.match(r"--data\b", each)]
    of_files = optional and not configs.config and {each.partition("=")[0] for each in about_data} == {"--data.visible"}
    if of_files:
        parser.add_argument("--data.visible", type=GivenVisible | None, help=VISIBLE_HELP)
    elif not configs.config and not about_data:
        parser.add_argument("--data", help=DATA_HELP)
    else:
        from pytorch_lightning import LightningDataModule

        import_data_modules()
        parser.add_subclass_arguments(LightningDataModule, "data", help=DATA_HELP)
    passed_over = {*_OF_A_RUN} - {*vars(parser.get_defaults(skip_validation=True))}
    read = [{k: v for k, v in read_options(each).items() if k not in passed_over} for each in configs.config]
    groups = {name.partition(".")[0] for name in names_of(parser) if "." in name} - {"data"}
    for name, value in ((name, value) for each in read for name, value in each.items()):
        if name in groups and not isinstance(value, dict | str):
            raise InputError(f"{name} must hold options and their values, got '{value}'; correct it in the YAML.")
    if quick is not None and ("--quick" in rest or any(each.get("quick") for each in read)):
        read.append(dict(quick))
    parsed = parser.parse_args([*(f"--config={json.dumps(each, default=str)}" for each in read), *rest])
    if parsed.data is None and not optional:
        named = " and ".join(f"'{each}'" for each in configs.config)
        says = f"{named} {'says' if len(configs.config) == 1 else 'say'}" if named else f"{parser.prog} is told"
        raise InputError(f"{says} nothing about data; name a configuration with data, or give --data.")
    made = vars(parser.instantiate(parsed))
    if of_files:
        made["visible"], made["data"] = made["data"].visible, None
    if made["data"] is not None:
        from maskrobust.train.data.base import check_labelled
        from maskrobust.train.data.plain import annotated

        made["data"] = annotated(made["data"])
        of_pixels = made["data"].labels_pixels
        if of_pixels or not unlabelled:
            check_labelled(made["data"], parser.prog, per_pixel=per_pixel and of_pixels)
    del made["config"]
    return made, {} if made["data"] is None else parsed.data.as_dict()


def with_config_paths(arguments: Sequence[str]) -> list[str]:
    """Spell `-c` out as `--config`, and replace its value by the path of the file it names: a shipped or an own one.

    Raises:
        MissingFileError: there is no such file, listing those that are shipped.
        InputError: the file is no YAML.
    """
    resolved: list[str] = []
    for position, argument in enumerate(arguments):
        joined = re.fullmatch(r"(--config=|-c=?)(.+)", argument)
        if joined or (position and arguments[position - 1] in ("--config", "-c")):
            path = find_config(joined[2] if joined else argument)
            read_options(str(path))
            resolved.append(f"--config={path}" if joined else str(path))
        else:
            resolved.append("--config" if argument == "-c" else argument)
    return resolved


def read_options(path: str) -> dict[str, Any]:
    """What a YAML file (or a JSON file, which is one) says by name.

    Raises:
        InputError: it is no YAML, or holds no names and values.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' must be YAML, but is not ({error}); correct it there.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"'{path}' must hold options and their values as YAML, got {type(content).__name__}; correct it there."
        )
    return content
