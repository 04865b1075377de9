"""`scripts/bench`: what the toolkit costs, as ratios and times inside one run, as tables and as JSON."""

import json
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table

from maskrobust.train.bench.augment import measure_augment
from maskrobust.train.bench.evaluate import measure_evaluate
from maskrobust.train.bench.explain import measure_explain
from maskrobust.train.bench.explain_error import explained_pictures, measure_explain_error
from maskrobust.train.bench.masking import NETWORKS, Precision, measure_masking
from maskrobust.train.bench.shards import measure_shards
from maskrobust.train.bench.suite import IMAGE_SIZES, measure_suite
from maskrobust.train.devices import find_device
from maskrobust.train.files import write_json
from maskrobust.train.provenance import device_name

PARTS = ("masking", "augment", "shards", "suite", "evaluate", "explain", "explain_error")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts asked for, print a table of each, and write one JSON."""
    options = _parse(arguments)
    device = find_device(options.device)
    machine = f"{platform.machine()}, {device_name(device)}"
    content: dict[str, Any] = {"machine": machine, "torch": torch.__version__}
    console = Console()
    for part in options.parts:
        if part == "masking":
            ways: dict[str, Any] = {"precision": options.precision, "compiles": options.compile}
            rows = list(measure_masking(options.networks, options.batch, options.rounds, device, **ways))
            content[part] = {"batch": options.batch, **ways, "rows": rows}
            console.print(_masking_table(rows, f"{machine}; torch {torch.__version__}"))
        elif part == "suite":
            rows = list(measure_suite(options.suite_networks, options.suite_batch, options.rounds, device))
            content[part] = {"batch": options.suite_batch, "rows": rows}
            console.print(_suite_table(rows, f"{machine}; torch {torch.__version__}"))
        elif part == "evaluate":
            size = options.evaluated, options.evaluated_batch, options.rounds, device
            rows = [measure_evaluate(network, *size) for network in options.evaluate_networks]
            content[part] = {"batch": options.evaluated_batch, "rows": rows}
            console.print(_evaluate_table(rows, f"{machine}; torch {torch.__version__}"))
        elif part == "explain":
            given = options.explain_networks, options.explain_size, options.explain_masks, options.explain_batch
            rows = list(measure_explain(*given, options.rounds, device))
            content[part] = {"batch": options.explain_batch, "rows": rows}
            console.print(_explain_table(rows, f"{machine}; torch {torch.__version__}"))
        elif part == "explain_error":
            pictures = explained_pictures(options.error_images, options.error_size)
            sizes = {name: getattr(options, f"error_{name}") for name in ("samples", "reference", "draws", "batch")}
            network, preprocess = options.error_network, options.error_preprocess
            rows = list(measure_explain_error(network, preprocess, pictures, **sizes, device=device))
            content[part] = {**sizes, "image_size": options.error_size, "rows": rows}
            console.print(_explain_error_table(rows, sizes, machine))
        elif part == "augment":
            rows = list(measure_augment(options.augment_batch, options.imputed, options.rounds, device))
            content[part] = {"rows": rows}
            console.print(_augment_table(rows, f"{machine}; torch {torch.__version__}"))
        else:
            rows = list(measure_shards(options.loaded, options.loaded_batch, options.workers, options.rounds))
            content[part] = {"workers": options.workers, "rows": rows}
            console.print(_shards_table(rows, f"{machine}; torch {torch.__version__}"))
    write_json(options.json, content)
    print(f"numbers: {options.json}")


def _parse(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all when left out")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="masking: of torchvision, or timm/NAME")
    parser.add_argument("--batch", type=int, default=8, help="masking: images in a batch")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="32", help="masking: bf16 or fp16 by autocast"
    )
    parser.add_argument("--compile", action="store_true", help="masking: all networks through torch.compile")
    parser.add_argument("--augment-batch", type=int, default=32, help="augment: images in a batch")
    parser.add_argument("--imputed", type=int, default=4, help="augment: images in a batch of linear imputation")
    parser.add_argument("--loaded", type=int, default=512, help="shards: images in a run")
    parser.add_argument("--loaded-batch", type=int, default=64, help="shards: images in a batch")
    parser.add_argument("--workers", type=int, default=2, help="shards: loader processes")
    parser.add_argument(
        "--suite-networks",
        nargs="+",
        choices=IMAGE_SIZES,
        default=["small_resnet"],
        help="suite: some of these; resnet50 with --suite-batch 2 --rounds 3 takes twelve minutes on a core",
    )
    parser.add_argument("--suite-batch", type=int, default=64, help="suite: images in a batch")
    parser.add_argument("--evaluate-networks", nargs="+", default=["resnet18"], help="evaluate: architectures")
    parser.add_argument("--evaluated", type=int, default=64, help="evaluate: images")
    parser.add_argument("--evaluated-batch", type=int, default=16, help="evaluate: images in a batch")
    parser.add_argument(
        "--explain-networks",
        nargs="+",
        default=["resnet50", "timm/tf_efficientnet_lite0"],
        help="explain: of torchvision, or timm/NAME",
    )
    parser.add_argument("--explain-size", type=int, default=64, help="explain: side of the image in pixels")
    parser.add_argument("--explain-masks", type=int, default=64, help="explain: masks that each explainer asks about")
    parser.add_argument("--explain-batch", type=int, default=32, help="explain: masks in a forward pass")
    parser.add_argument("--error-network", default="small_resnet:random", help="explain_error: as --network of explain")
    parser.add_argument("--error-preprocess", type=json.loads, default={}, help="explain_error: as JSON")
    parser.add_argument("--error-images", type=Path, nargs="+", default=[], help="explain_error: files or folders")
    parser.add_argument("--error-size", type=int, default=48, help="explain_error: side of the images in pixels")
    parser.add_argument(
        "--error-samples", type=int, default=512, help="explain_error: balanced queries; a power of two"
    )
    parser.add_argument("--error-reference", type=int, default=16384, help="explain_error: queries that stand for all")
    parser.add_argument("--error-draws", type=int, default=2, help="explain_error: draws of each kind")
    parser.add_argument("--error-batch", type=int, default=64, help="explain_error: queries in a forward pass")
    parser.add_argument("--rounds", type=int, default=7, help="alternating runs behind each ratio and each time")
    parser.add_argument("--device", help="by default cuda where there is one, else cpu")
    parser.add_argument("--json", type=Path, default=Path("runs/bench.json"), help="file for the numbers")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"a part must be {' or '.join(PARTS)}, got '{min(unknown)}'; name some of them, or none for all.")
    options.parts = [part for part in PARTS if part in options.parts or not options.parts]
    return options


def _masking_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"Layer masking over the plain network; {machine}")
    for column in ("network", "mode", "mask", "hidden", "visible inside", "plain", "time", "memory", "waits", "change"):
        table.add_column(column, justify="left" if column in ("network", "mode", "mask") else "right")
    for row in rows:
        table.add_row(
            row["network"], row["mode"], row["mask"], f"{row['hidden']:.0%}", f"{row['positions']:.0%}",
            f"{row['plain_seconds'] * 1000:.0f} ms", f"{row['time']:.2f}", f"{row['memory']:.2f}",
            "" if row["waits"] is None else str(row["waits"]),
            "" if row["sensitivity"] is None else f"{row['sensitivity']:.1g}",
        )  # fmt: skip
    return table


def _suite_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"The reliance suite over its bare forward passes; {machine}")
    for column in ("network", "method", "case", "pixels", "passes", "bare", "time"):
        table.add_column(column, justify="left" if column in ("network", "method", "case") else "right")
    for row in rows:
        table.add_row(
            row["network"], row["method"], row["case"], str(row["image_size"]), f"{row['forward_passes']:.1f}",
            f"{row['bare_seconds'] * 1000:.0f} ms", f"{row['time']:.2f}",
        )  # fmt: skip
    return table


def _evaluate_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"Evaluating four checkpoints over their forward passes and one decoding; {machine}")
    for column in ("network", "images", "passes", "decoding", "bare", "time"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(
            row["network"], str(row["images"]), f"{row['forward_passes']:.1f}", f"{row['decode_seconds']:.2f} s",
            f"{row['bare_seconds']:.2f} s", f"{row['time']:.2f}",
        )  # fmt: skip
    return table


def _explain_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"Explaining an image over the bare forward passes; {machine}")
    words = ("network", "method", "explainer")
    for column in (*words, "pixels", "masks", "classes", "bare", "time"):
        table.add_column(column, justify="left" if column in words else "right")
    for row in rows:
        numbers = (str(row[column]) for column in ("image_size", "masks", "classes"))
        bare = f"{row['bare_seconds'] * 1000:.0f} ms"
        table.add_row(*(row[column] for column in words), *numbers, bare, f"{row['time']:.2f}")
    return table


def _explain_error_table(rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], machine: str) -> Table:
    title = (
        f"Relative error of LIME against {sizes['reference']:,} independent queries, draws: {sizes['draws']}; {machine}"
    )
    table, samples = Table(title=title), sizes["samples"]
    for column in ("method", "segments", "picture"):
        table.add_column(column)
    for column in ("count", f"{samples} balanced", str(samples), str(2 * samples)):
        table.add_column(column, justify="right")
    for row in rows:
        errors = (f"{error:.3f}" for error in row["errors"].values())
        table.add_row(row["method"], row["segments"], row["picture"], str(row["count"]), *errors)
    return table


def _augment_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"Masks and fills for each image of 224 x 224; {machine}")
    for column in ("task", "method", "pixels", "device", "images", "microseconds"):
        table.add_column(column, justify="right" if column in ("images", "microseconds") else "left")
    for row in rows:
        values = (row["task"], row["method"], row["pixels"], row["device"], str(row["images"]))
        table.add_row(*values, f"{row['microseconds']:,.0f}")
    return table


def _shards_table(rows: Sequence[Mapping[str, Any]], machine: str) -> Table:
    table = Table(title=f"Random crops of 224 x 224 from shards of 375 x 500; {machine}")
    for column in ("method", "images a second", "speed"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(row["method"], f"{row['images_per_second']:,.0f}", f"{row['speed']:.2f}")
    return table


if __name__ == "__main__":
    main()
