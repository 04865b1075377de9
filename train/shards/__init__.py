"""`maskrobust shards`: write tar files of samples (WebDataset) from any data module."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from maskrobust.errors import InputError, check_at_least, check_distinct
from maskrobust.train.arguments import PARSER_OPTIONS, Parser, parse_with_data
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder
from maskrobust.train.types import AnnotatedDataModule, Split

_ABOUT_LOADING = ("batch_size", "num_workers")
"""Arguments of data modules that leave the samples as they are."""


@dataclass(frozen=True)
class ShardsConfig:
    """What to write.

    Attributes:
        data: where the samples come from, instantiated.
        out: folder of the shards and of shards.yaml, the options that read them.
        source: class path and arguments of `data`, those that decide the samples.
        splits: splits to write. By default those that the data have.
        samples_per_shard: samples in a shard, at least 1. The last shard of a split may hold fewer.
        workers: number of processes that encode, at least 1.
    """

    data: AnnotatedDataModule
    out: Path
    source: Mapping[str, Any]
    splits: tuple[Split, ...] | None = None
    samples_per_shard: int = 1000
    workers: int = os.cpu_count() or 1


def parse_config(arguments: Sequence[str]) -> ShardsConfig:
    """Parse and check the arguments of `maskrobust shards`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, or a configuration file has no data.
    """
    parser = Parser(prog="maskrobust shards", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(ShardsConfig, skip={"data", "source"})
    values, described = parse_with_data(parser, arguments, unlabelled=True)
    kept = {name: value for name, value in described.get("init_args", {}).items() if name not in _ABOUT_LOADING}
    config = ShardsConfig(**values, source=described | {"init_args": kept})
    if getattr(config.data, "nodata", None) is not None:
        raise InputError("shards do not keep which pixels hold no data; leave nodata out, or train on the files.")
    from maskrobust.train.data.base import check_masks_follow_objects  # here: the import takes seconds

    check_masks_follow_objects(config.data, "a shard")

    check_at_least("samples_per_shard", config.samples_per_shard, 1)
    check_at_least("workers", config.workers, 1)
    check_distinct("splits", config.data.splits if config.splits is None else config.splits)
    return config


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust shards` with command-line arguments, the command first."""
    console = Console()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    check_folder(config.out)
    from maskrobust.train.shards.writing import DESCRIPTION, write_shards

    with CountingDisplay(console) as progress:
        counts = write_shards(config, progress)
    for split, samples in counts.items():
        console.print(f"{split}: {samples} samples")
    console.print(f"train on them: maskrobust fit --config {config.out / DESCRIPTION}", markup=False, soft_wrap=True)
