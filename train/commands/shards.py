"""`maskrobust shards`: write WebDataset's tar files from image files."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from maskrobust.errors import InputError, check_at_least
from maskrobust.train.command_line import PARSER_OPTIONS, Parser, parse_with_data
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder

_ABOUT_LOADING = ("batch_size", "num_workers", "image_size")
"""Arguments of data modules that leave the files as they are."""


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust shards` with command-line arguments, the command first."""
    parser = Parser(prog="maskrobust shards", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards, and of shards.yaml to read them")
    parser.add_argument("--samples_per_shard", type=int, default=1000, help="the last shard of a split may hold fewer")
    given, described = parse_with_data(parser, arguments[1:], unlabelled=True)
    data, out, samples_per_shard = given["data"], given["out"], given["samples_per_shard"]
    from maskrobust.train.data.files.file_data import FileDataModule
    from maskrobust.train.data.shard_writing import write_shards  # here: the imports take seconds

    if not isinstance(data, FileDataModule):
        raise InputError("shards are made of image files; give data such as Folder.")
    check_at_least("samples_per_shard", samples_per_shard, 1)
    check_folder(out)
    source = {name: value for name, value in described["init_args"].items() if name not in _ABOUT_LOADING}
    console = Console()
    with CountingDisplay(console) as progress:
        counts = write_shards(data, out, samples_per_shard, described | {"init_args": source}, progress)
    for split, samples in counts.items():
        console.print(f"{split}: {samples} samples")
    console.print(f"train on them: maskrobust fit --config {out / 'shards.yaml'}", markup=False, soft_wrap=True)
