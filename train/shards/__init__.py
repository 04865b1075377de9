"""`maskrobust shards`: WebDataset tar shards from any data module, and a check that they are whole."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.shards.config import parse_config, parse_verification
from maskrobust.train.storage.files import check_folder

if TYPE_CHECKING:
    from maskrobust.train.data.shards.manifest import Manifest


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust shards` with command-line arguments, the command first."""
    console = Console()
    if "--verify" in arguments:
        _verify(parse_verification(arguments[1:]), console)
        return
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    check_folder(config.out)
    from maskrobust.train.data.shards.manifest import MANIFEST
    from maskrobust.train.shards.writing import write_shards

    with CountingDisplay(console) as progress:
        manifest = write_shards(config, progress)
    _tell(manifest, console)
    console.print(f"shards: {config.out / MANIFEST}", markup=False, soft_wrap=True)


def _verify(folder: Path, console: Console) -> None:
    from maskrobust.train.shards.verifying import verify_shards

    with CountingDisplay(console) as progress:
        manifest, problems = verify_shards(folder, progress)
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise InputError(
            f"the shards in '{folder}' must be as they were written, but have the faults above; write them again with "
            "the same maskrobust shards --data, which keeps those that are whole."
        )
    _tell(manifest, console)
    console.print("verified: every file has its checksum, and every sample can be read", soft_wrap=True)


def _tell(manifest: "Manifest", console: Console) -> None:
    for split, held in manifest.splits.items():
        size = sum(each.bytes for each in held.shards) / 1e6
        shards = len(held.shards)
        console.print(f"{split}: {held.samples} samples, {held.masks} with a mask; {size:.1f} MB; shards: {shards}")
