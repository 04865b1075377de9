"""`maskrobust play`: a local page on which to paint a hole into a photograph and see what networks make of it."""

import threading
from collections.abc import Sequence

from rich.console import Console

from maskrobust.train.play.config import check_port, parse_config


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust play` with command-line arguments, the command first, until it is stopped."""
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    check_port(config.host, config.port)
    from maskrobust.train.play.server import served

    with served(config, console := Console()) as address:
        console.print(f"play: {address} (Ctrl-C ends it)", markup=False, soft_wrap=True)
        threading.Event().wait()
