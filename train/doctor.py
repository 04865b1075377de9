"""`maskrobust doctor`: what this machine has of what maskrobust uses, and how to get the rest."""

import argparse
import importlib.util
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_IN_FILES = 200  # of columns: a command to type stays on one line

_DEBIAN_DATA = {
    "dataset-fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"), "the data module Fashion"),
    "tuxpaint-stamps-default": (Path("/usr/share/tuxpaint/stamps"), "the data module Cutouts"),
}


class Finding(NamedTuple):
    """One thing that maskrobust uses.

    Attributes:
        what: its name.
        found: what there is of it, such as a version.
        remedy: what to do about it; empty where nothing is to be done.
        needed: whether maskrobust does not work without it.
    """

    what: str
    found: str
    remedy: str = ""
    needed: bool = False


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust doctor`: a table, and status 1 where something that is needed is missing.

    Raises:
        ArgumentError: an option is given, where there are none.
    """
    parser = argparse.ArgumentParser(prog="maskrobust doctor", description=__doc__)
    _, unknown = parser.parse_known_args(arguments[1:])
    if unknown:
        raise argparse.ArgumentError(None, f"unrecognized arguments: {' '.join(unknown)}")
    findings = [*installed(), *devices(), *data_packages(), login()]
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    console.print(table(findings))
    if any(finding.needed and finding.remedy for finding in findings):
        raise SystemExit(1)


def table(findings: Sequence[Finding]) -> Table:
    """Findings as a table, those that ask for something in colour."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("what", "found", "to do"):
        made.add_column(column, overflow="fold")
    for each in findings:
        style = "red" if each.needed and each.remedy else "yellow" if each.remedy else "green"
        made.add_row(each.what, Text(each.found, style=style), Text(each.remedy))
    return made


def installed() -> Iterator[Finding]:
    """Python, maskrobust, and each distribution that it requires, extras but `dev` included."""
    yield Finding("Python", platform.python_version())
    yield Finding("maskrobust", version("maskrobust"))
    for line in requires("maskrobust") or ():
        wanted = Requirement(line)
        extras = {
            extra
            for extra in ("coco", "dense", "grad_cam", "onnx", "play")
            if wanted.marker and wanted.marker.evaluate({"extra": extra})
        }
        if wanted.marker is not None and not extras and not wanted.marker.evaluate({"extra": ""}):
            continue
        get = f"pip install '{wanted.name}{wanted.specifier}'"
        if extras:
            get += f", for {', '.join(extras)}"
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            yield Finding(wanted.name, "missing", get, needed=not extras)
            continue
        fits = wanted.specifier.contains(there, prereleases=True)
        yield Finding(wanted.name, there, "" if fits else get, needed=not extras)


def devices() -> Iterator[Finding]:
    """Processors and accelerators that torch sees; nothing where torch is missing."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    yield Finding(
        "CPU", f"{_count(os.cpu_count() or 1, 'core')}, {_count(torch.get_num_threads(), 'thread')} for torch"
    )
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        yield Finding(f"GPU {number}", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB")
    if not torch.cuda.is_available():
        yield Finding("GPU", f"none that torch {torch.__version__} can use")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def data_packages() -> Iterator[Finding]:
    """Debian's data packages that some commands find without being told where."""
    for package, (path, purpose) in _DEBIAN_DATA.items():
        remedy = "" if path.exists() else f"apt install {package}, or unpack it anywhere and name the folder"
        yield Finding(package, str(path) if path.exists() else "not there", remedy and f"for {purpose}: {remedy}")


def login() -> Finding:
    """Whether somebody is logged in to Weights & Biases; asks no server."""
    if importlib.util.find_spec("wandb") is None:
        return Finding("Weights & Biases", "not installed")
    import wandb

    try:
        is_known = wandb.login(prompt=False, verify=False)
    finally:
        wandb.teardown()  # W&B keeps the settings of its first call for the life of the process
    if is_known:
        return Finding("Weights & Biases", "logged in")
    return Finding("Weights & Biases", "nobody is logged in", "wandb login; until then runs are kept offline")
