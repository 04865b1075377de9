"""`scripts/bench`: what the toolkit costs, as ratios inside one run, as a table and as JSON."""

import platform
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from train.bench.masking import NETWORKS, measure_masking
from train.files import write_json


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table row by row, and write the JSON."""
    parser = ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="torchvision classifiers")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="alternating runs behind each ratio")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, default=Path("runs/bench-masking.json"), help="file for the numbers")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = list(measure_masking(options.networks, options.batch, options.rounds, device))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    machine = f"{platform.machine()}, {name}"
    table = Table(title=f"Layer masking over the plain network; {machine}; torch {torch.__version__}")
    for column in ("network", "mode", "mask", "hidden", "visible inside", "plain", "time", "memory"):
        table.add_column(column, justify="left" if column in ("network", "mode", "mask") else "right")
    for row in rows:
        table.add_row(
            row["network"], row["mode"], row["mask"], f"{row['hidden']:.0%}", f"{row['positions']:.0%}",
            f"{row['plain_seconds'] * 1000:.0f} ms", f"{row['time']:.2f}", f"{row['memory']:.2f}",
        )  # fmt: skip
    Console().print(table)
    write_json(options.json, {"machine": machine, "torch": torch.__version__, "batch": options.batch, "rows": rows})
    print(f"numbers: {options.json}")


if __name__ == "__main__":
    main()
