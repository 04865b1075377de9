"""Turn errors into one sentence on one line. Imports no other library, so that it works whichever is missing."""

import argparse
import errno
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from maskrobust.errors import InputError, ManyInputsError, about_library, did_you_mean

_ABOUT_PATHS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
_OUT_OF_MEMORY = r"^(OutOfMemoryError|_?\w*MemoryError): |out of memory|can't allocate memory|not enough memory"
"""Of torch's errors on a GPU and on a CPU, of NumPy's and of Python's own."""
_EMPTY_LINES = (
    *("Does not validate", "Subtypes:", "Errors:", "Given value type:", "Expected a <class 'NoneType'>"),
    *("Subclass types expect", "a class path (str)", "a dict with"),
)
"""How lines of the argument parser begin that do not say what is wrong."""
_PLACES = {
    "trainer.callbacks": "pytorch_lightning.callbacks",
    "trainer.logger": "pytorch_lightning.loggers",
    "optimizer": "torch.optim",
    "lr_scheduler": "torch.optim.lr_scheduler",
}
"""Where the classes are that an option names."""
_PLAINER = {
    r":;": ":",
    r"; Given value: Namespace\(.*$": "",
    r'Parser key "([\w.]+)"': r"\1",
    r"<class '(?:[\w.]+\.)?(\w+)'>|\btyping\.": r"\1",
    r"NestedArg\(key='(.*?)', val=(.*?)\)$": r"\1=\2",
    r"\ba tuple\b": "a list, as in '[a, b]'",
    r"^(model|trainer): Unable to load config '(.*?)'.*": r"\1 must be a YAML of options, got '\2'; give "
    r"an option of its own, such as --model.architecture \2 for a network",
}


def one_sentence(error: Exception, command: str) -> str | None:
    """What to tell a user about an error, on one line; None where it is a fault of the program, not of its input.

    The user's to correct is an `InputError` (possibly deep inside a library's error that it caused), what the argument
    parser refuses, a path that cannot be used, a library that cannot be imported, and memory that ran out.

    Args:
        error: the error that has ended the command.
        command: the command, for the hint at its help.
    """
    for each in _chain(error):
        if isinstance(each, ManyInputsError):
            return "\n".join(map(_on_one_line, str(each).splitlines()))
        if isinstance(each, InputError):
            # A DataLoader's process sends its traceback as the message, the message itself at the end.
            return _on_one_line(re.split(rf"^(?:[\w.]+\.)?{type(each).__name__}: ", str(each), flags=re.MULTILINE)[-1])
    if any(re.search(_OUT_OF_MEMORY, f"{type(each).__name__}: {each}") for each in _chain(error)):
        return _about_memory(command)
    if isinstance(error, argparse.ArgumentError):
        return f"{about_arguments(error)}; see maskrobust {command} --help."
    missing = [each for each in _chain(error) if isinstance(each, ImportError)]
    is_missing = missing and (missing[0] is error or "given class_path" in str(error))  # which the parser builds
    if is_missing and (missing[0].name or "").partition(".")[0] != "maskrobust":
        return _on_one_line(about_library(missing[0]))
    return _about_files(error) if isinstance(error, OSError) else None


def _about_memory(command: str) -> str:
    precision = "--trainer.precision bf16-mixed" if command in ("fit", "pretrain", "segment") else "--precision bf16"
    return (
        "memory ran out; make --data.batch_size or --data.image_size smaller, or compute in bfloat16 where it was the "
        f"network that took it ({precision})."
    )


def about_arguments(error: argparse.ArgumentError) -> str:
    """What the argument parser found wrong, in its own words, on one line and without a full stop."""
    lines = (line.strip().removeprefix("- ") for line in str(error).splitlines())
    said = "; ".join(line for line in lines if line and not line.startswith(_EMPTY_LINES))
    for pattern, plainer in _PLAINER.items():
        said = re.sub(pattern, plainer, said)
    said = said.rstrip(".")
    if missing := re.fullmatch(r"the following arguments are required: (.+)", said):
        return _about_missing(missing[1].split(", "))
    unknown = re.match(r"([\w.]+): .*?Expected a path but (\S+) either not accessible", said)
    if unknown and (place := _PLACES.get(unknown[1])):
        near = did_you_mean(unknown[2], dir(importlib.import_module(place)))
        return f"{unknown[1]} must be the name of a class, as in {place}, got {unknown[2]}{near}"
    return _about_data(said) if said.startswith("data:") else said


def _about_missing(names: list[str]) -> str:
    """Which options must be given, and of those that a YAML mostly says, such as data, how."""
    if "question" in names:
        return (
            "--config is required, a YAML that states the claim; give a shipped one, such as claim_cues.yaml, or yours"
        )
    if names[0] == "fit.data":
        return (
            "--data is required; give a data module, such as Folder with --data.root IMAGES, or a --config that has "
            "data, such as config.yaml in the folder of a run"
        )
    return f"the following arguments are required: {', '.join(f'--{name}' for name in names)}"


def _about_data(said: str) -> str:
    """What is to be said of a data module that is unknown, or of an option that it does not take."""
    from maskrobust.train import data

    refused = re.search(r"class_path '[\w.]+\.(\w+)': Option '(\w+)' is not accepted", said)
    if refused and refused[1] in data.SHIPPED:
        known = [name for each in getattr(data, refused[1]).__mro__ for name in inspect.signature(each).parameters]
        near = "" if "(did you mean " in said else did_you_mean(refused[2], known)
        return f"{said}{near}; --data.help {refused[1]} lists its options"
    if "class_path" in said:
        return said
    shipped = f"shipped data modules are {', '.join(data.SHIPPED)}"
    if foreign := re.search(r"does not correspond to a subclass of (\w+).*Given value: (\S*\.\S+)$", said):
        ours = "pytorch_lightning.LightningDataModule (that of lightning.pytorch is another class: change the import)"
        base = {"LightningDataModule": ours}
        return f"data: must be a subclass of {base.get(foreign[1], foreign[1])}, got {foreign[2]}; {shipped}"
    if unknown := re.search(r"Given value: (\S+)$", said):
        near = did_you_mean(unknown[1].capitalize(), data.SHIPPED)
        if Path(unknown[1]).is_dir():
            near = f"; give a folder of images as --data Folder --data.root {unknown[1]}"
        return f"data: must be the name of a data module, got {unknown[1]}{near}; {shipped}"
    return f"{said}; {shipped}"


def _about_files(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"'{error.filename}'" if error.filename else "a file of the run"
        return f"{where} cannot be written ({error.strerror}); make room, and run the command again."
    if error.errno in _ABOUT_PATHS and error.filename:
        return f"'{error.filename}' cannot be used ({error.strerror}); choose another path, or change its permissions."
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
