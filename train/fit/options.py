"""The options of `fit`, read from the files that define them, because building the whole parser takes seconds."""

import argparse
import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from docstring_parser import parse

from maskrobust.train.arguments import DATA_HELP, with_nearest

RUN_OPTIONS: Mapping[str, str] = {
    "config": "YAML with any of these options, shipped or your own; of several, the last wins",
    "data": DATA_HELP,
    "ckpt_path": "a checkpoint to resume; 'last': the run's newest; 'auto': that, or if there is none a new run",
    "run_name": "folder below the logs, and name in W&B (default: run)",
    "save_every_n_steps": "save last.ckpt within an epoch, too",
    "seed_everything": "seed of weights and of the order of images (default: 0)",
    "compile": "torch.compile the network's training step (default: false)",
    "wandb": "log to Weights & Biases, offline when nobody is logged in; or how, as in --wandb.project NAME",
    "optimizer": "a class of torch.optim, in place of --model.optimiser and its schedule",
    "lr_scheduler": "a class of torch.optim.lr_scheduler, for --optimizer",
    "model": "a YAML with options of the model",
    "trainer": "a YAML with options of the trainer",
    "print_config": "print the whole configuration as YAML, and end",
    "help": "show this page",
}
"""What options without a dot, or whose class is named first, do."""

_OFTEN = (
    *("max_epochs", "max_steps", "max_time", "accelerator", "devices", "num_nodes", "precision"),
    *("accumulate_grad_batches", "gradient_clip_val", "callbacks", "default_root_dir"),
)
_SHORT = 90
_OWN_WORDS = {
    "max_epochs": "passes over the training images; this, max_steps or max_time is required",
    "max_steps": "optimiser steps, over all epochs; -1 for no limit",
    "default_root_dir": "folder of all runs (default: runs)",
    "logger": "loggers in place of CSV files and W&B; false logs nothing",
}
"""Help of options that differ here from what Lightning says."""
_BRIEFLY = {
    "masking": "how training images are presented: none, fill, layer_masking or mixture",
    "weights": "what to start from: a name of torchvision's weights, 'pretrained' for timm's, or a file",
    "mask_ramp": "fraction of the training over which the upper hidden_fraction grows from the lower one",
    "accelerator": "cpu, gpu or auto",
    "devices": "how many, or a list of their numbers",
    "precision": "32-true, bf16-mixed, 16-mixed and others",
}
"""Short help of options whose text is too long."""
_COLOURS = ("mean", "std")
_OURS = Path(__file__).parents[2]


class Source(NamedTuple):
    """A class in a file, which is read without importing it.

    Attributes:
        path: path of the file.
        class_name: name of a class that defines `__init__`, or of a dataclass.
        linked: arguments that the data module tells it.
    """

    path: Path
    class_name: str
    linked: tuple[str, ...] = ()

    def defaults(self) -> dict[str, str]:
        """The default of each of the class's arguments as YAML writes it; empty for None."""
        for each in self._class().body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                names = [*each.args.args, *each.args.kwonlyargs][1:]
                values = [*each.args.defaults, *each.args.kw_defaults]  # each argument but self has one
                return {name.arg: _shown(value) for name, value in zip(names, values, strict=True)}
        fields = [each for each in self._class().body if isinstance(each, ast.AnnAssign)]
        return {ast.unparse(field.target): _shown(field.value) for field in fields}

    def texts(self) -> dict[str, str]:
        """What the docstrings of the class and its `__init__` say of its arguments."""
        body = self._class()
        documented: list[ast.ClassDef | ast.FunctionDef] = [body]
        documented += [each for each in body.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        said = [argument for each in documented for argument in parse(ast.get_docstring(each) or "").params]
        return {each.arg_name: _OWN_WORDS.get(each.arg_name) or _plain(each.description or "") for each in said}

    def _class(self) -> ast.ClassDef:
        tree = ast.parse(self.path.read_bytes())
        return next(each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == self.class_name)


def groups(command: str) -> dict[str, Source]:
    """By first name, the classes whose arguments are second names; those of `data` are known to the parser alone."""
    model = Source(_OURS / "lm_modules/training/classifier.py", "MaskRobustClassifier", ("num_classes", *_COLOURS))
    if command == "pretrain":
        model = Source(_OURS / "lm_modules/training/pretraining.py", "MaskedPretraining", _COLOURS)
    found = {"model": model}
    lightning = find_spec("pytorch_lightning")
    if lightning is not None and lightning.origin is not None:  # where it is missing, its import says so
        found["trainer"] = Source(Path(lightning.origin).parent / "trainer/trainer.py", "Trainer")
    return {**found, "wandb": Source(_OURS / "train/fit/loggers.py", "WandbOptions")}


def check_names(command: str, arguments: Sequence[str]) -> None:
    """Refuse a misspelt option at once.

    Args:
        command: fit or pretrain.
        arguments: without the command.

    Raises:
        ArgumentError: naming the options whose first or second name is unknown, and the nearest ones.
    """
    known = {name: source.defaults() for name, source in groups(command).items()}
    unknown = [each for each in arguments if each.startswith("--") and not _is_known(each, known)]
    if unknown:
        message = f"unrecognized arguments: {' '.join(unknown)}"
        raise argparse.ArgumentError(None, with_nearest(message, all_names(command)))


def all_names(command: str) -> list[str]:
    """Every option but those of data, optimizer and lr_scheduler, which the parser alone knows."""
    seconds = [f"{first}.{second}" for first, source in groups(command).items() for second in source.defaults()]
    return [f"--{name}" for name in (*RUN_OPTIONS, *seconds)]


def _is_known(argument: str, known: Mapping[str, Mapping[str, str]]) -> bool:
    first, *rest = re.split(r"[=+]", argument[2:])[0].split(".")
    return first in RUN_OPTIONS and (not rest or first not in known or rest[0] in known[first])


def help_asked(command: str, arguments: Sequence[str]) -> str | None:
    """The help that an argument asks for: `--help`, `--help.GROUP`, or `--help.GROUP.NAME`; None where none does.

    Args:
        command: fit or pretrain.
        arguments: without the command.

    Raises:
        ArgumentError: there is no such group or option.
    """
    for each in arguments:
        if asked := re.fullmatch(r"-h|--help(?:\.([\w.]+))?|--(model|trainer|wandb)\.help", each):
            name = asked[1] or asked[2]
            layout = partial(argparse.HelpFormatter, max_help_position=34)
            parser = argparse.ArgumentParser(prog=f"maskrobust {command}", add_help=False, formatter_class=layout)
            parser.usage = f"maskrobust {command} [--config FILE] [options]"
            describe = _describe_all if name is None else partial(_describe_group, name=name)
            describe(parser, groups(command))
            return parser.format_help()
    return None


def _describe_all(parser: argparse.ArgumentParser, found: Mapping[str, Source]) -> None:
    parser.description = "Options are given here or in YAML; these win. Defaults are in brackets."
    run = parser.add_argument_group("run")
    for name, text in RUN_OPTIONS.items():
        _add(run, name, text)
    often = {"model": (), "trainer": _OFTEN}
    for name, chosen in often.items():
        if name in found:
            shown = parser.add_argument_group(
                f"{name}, in short" if not chosen else f"{name}, what is given most often"
            )
            defaults, texts = found[name].defaults(), found[name].texts()
            for option in chosen or (each for each in defaults if each not in found[name].linked):
                brief = f"{', '.join(_objectives())} or your own" if option == "objective" else _BRIEFLY.get(option)
                _add(shown, f"{name}.{option}", brief or _in_short(texts[option]), defaults[option])
    more = parser.add_argument_group("more")
    for name in found:
        _add(more, f"help.{name}", f"all options of {name}, in full; --help.{name}.NAME: one of them")
    _add(more, "data.help NAME", "options of a data module; as --optimizer.help and --trainer.callbacks.help of theirs")


def _describe_group(parser: argparse.ArgumentParser, found: Mapping[str, Source], name: str) -> None:
    group, _, option = name.partition(".")
    defaults = {} if group not in found else found[group].defaults()
    chosen = [each for each in defaults if option in ("", each) and each not in found[group].linked]
    if not chosen:
        known = (*found, *(f"{group}.{each}" for each in defaults))
        message = with_nearest(f"unrecognized arguments: --help.{name}", [f"--help.{each}" for each in known])
        raise argparse.ArgumentError(None, message)
    shown, texts = parser.add_argument_group(group), found[group].texts()
    for each in chosen:
        listed = [f"{name}: {text}" for name, text in _objectives().items()] if each == "objective" else []
        _add(shown, f"{group}.{each}", " ".join([texts[each], *listed]), defaults[each])


def _objectives() -> dict[str, str]:
    """What the docstring of each shipped training objective says, by name, without importing it."""
    tree = ast.parse((_OURS / "lm_modules/training/objectives.py").read_bytes())
    return {
        ast.literal_eval(call.args[0]): _plain(parse(ast.get_docstring(function) or "").description or "")
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for call in function.decorator_list
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "objective"
    }


def _add(group: argparse._ArgumentGroup, name: str, text: str, default: str = "") -> None:
    said = f"{text} [{default}]" if default else text
    group.add_argument(f"--{name}", action="store_true", help=said.replace("%", "%%"))


def _in_short(text: str) -> str:
    """The first sentence, up to a semicolon and no longer than two lines."""
    return textwrap.shorten(re.split(r"(?<=[^.])[;.](?= |$)", text)[0], _SHORT, placeholder=" ...")


def _plain(text: str) -> str:
    """A docstring's text on one line, without the marks of reStructuredText and the default."""
    return re.sub(r" Default: .*$", "", " ".join(text.split())).replace("``", "`")


def _shown(default: ast.expr | None) -> str:
    try:
        value = None if default is None else ast.literal_eval(default)
    except ValueError:
        return ""  # a constant by its name
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
