"""`maskrobust explain`: show which parts of an image a prediction is based on, under several masking methods."""

import time
from collections.abc import Sequence

from rich.console import Console

from maskrobust.train.explain.config import parse_config
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust explain` with command-line arguments, the command first."""
    start = time.monotonic()
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.explain.measure import explain_images
    from maskrobust.train.explain.summary import write_results

    check_folder(config.out)
    with CountingDisplay(Console(stderr=True)) as progress:
        explained = explain_images(config, progress)
    written = write_results(config, explained, seconds=time.monotonic() - start)
    console = Console()
    for name, paths in written.items():
        console.print(f"{name + ':':<10} {', '.join(map(str, paths))}", markup=False, soft_wrap=True)
