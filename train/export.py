"""`maskrobust export`: a network as a folder with a model card, or under layer masking as one ONNX file."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from maskrobust.errors import InputError
from maskrobust.train.arguments import PARSER_OPTIONS, Parser
from maskrobust.train.storage.files import atomic_path, check_folder, printable, read_json, write_text

if TYPE_CHECKING:  # the command line imports this module for its help
    from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

_LONGEST_TEXT = 200
_MOST_ROWS = 500
_MARKUP = r"[\\`*<>\[\]|~&$#!@{}]|(?<![^\W_])_|_(?![^\W_])|^[-+=.:]|(?<=\d)[.)](?= |$)|:(?=//)|(?<=[wW])\."
"""What Markdown, as the Hub and GitHub read it, may take for more than text; the start of a line may make a list."""


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust export` with command-line arguments, the command first.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: the network cannot be loaded or exported, or a file is not what it should be.
    """
    parser = Parser(prog="maskrobust export", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--network", type=str, required=True, help="the network, named as for maskrobust evaluate")
    parser.add_argument("--out", type=Path | None, help="folder to write, new or empty")
    parser.add_argument(
        "--reliance", type=Path | None, help="reliance.json of maskrobust evaluate, whose results the model card shows"
    )
    parser.add_argument("--onnx", type=Path | None, help="ONNX file to write, with inputs images and visible")
    parser.add_argument(
        "--method",
        type=str | None,
        help="layer masking for --onnx, such as layer_masking_mirror; by default as trained",
    )
    parser.add_argument(
        "--size",
        type=int | tuple[int, int] | None,
        help="side of the images in pixels for --onnx, if the network does not say it",
    )
    given = parser.parse_args(list(arguments[1:]))
    if given.out is None and given.onnx is None:
        raise InputError("an export needs a place, but neither --out nor --onnx is given; name a folder or a file.")
    if given.onnx is not None:
        check_folder(Path(given.onnx).parent)
    if given.out is not None:
        out = Path(given.out)
        check_folder(out)
        if out.exists() and any(out.iterdir()):
            raise InputError(f"out must be a new or empty folder, but '{out}' holds files; name another.")
        rows = [] if given.reliance is None else reliance_rows(Path(given.reliance), given.network)
        export(given.network, out, rows)
        print(printable(f"exported: {out}"))
    if given.onnx is not None:
        size = list(given.size) if isinstance(given.size, tuple) else given.size
        print(printable(export_onnx(given.network, Path(given.onnx), given.method, size)))


def export_onnx(name: str, path: Path, method: str | None = None, size: int | list[int] | None = None) -> str:
    """Write a network under layer masking as one ONNX file, after ONNX Runtime has computed what the network does.

    Args:
        name: name of the network; see `load_network`.
        path: path of the file; an existing file is replaced.
        method: a layer masking, such as "layer_masking_mirror"; by default the one that the network was trained with.
        size: height and width of the pictures, or one number for both; by default the network's own.

    Returns:
        A sentence about the file: its inputs, and how it was checked.

    Raises:
        MissingFileError, InputError: see `load_network` and `onnx_model`; or the method is none of layer masking, or no
            size is known.
    """
    from maskrobust.lm_modules.loading import load_network
    from maskrobust.lm_modules.methods import LAYER_MASKINGS
    from maskrobust.lm_modules.networks.onnx_model import PixelNetwork, onnx_model

    network = load_network(name)
    options = {} if network.origin is None else network.origin.layer_masking
    method = LAYER_MASKINGS[options.get("padding", "mean")] if method is None else method
    if method not in LAYER_MASKINGS.values():
        raise InputError(f"method must be one of {', '.join(LAYER_MASKINGS.values())}, got '{method}'; name one.")
    shown = network.preprocessing if size is None else network.preprocessing.with_changes({"size": size})
    if shown.size is None:
        raise InputError(f"an ONNX file needs the size of its pictures, which '{name}' does not say; give --size 224.")
    height, width = shown.size
    model = onnx_model(PixelNetwork(network, method, shown.size), shown.size)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model)
    return (
        f"exported: {path}, {method} with images (B, 3, {height}, {width}) float32 in [0, 1] and visible "
        f"(B, 1, {height}, {width}) bool; checked in ONNX Runtime"
    )


def export(name: str, out: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write a network, its configuration and its model card to a folder, and read it back.

    Args:
        name: name of the network; see `load_network`.
        out: folder, made where it is missing.
        rows: rows of the model card; see `reliance_rows`.

    Raises:
        MissingFileError, InputError: see `load_network`; or the network is another one when it is read back.
    """
    from maskrobust.lm_modules.loading import load_network
    from maskrobust.lm_modules.networks.exported import write_export

    network = load_network(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        folder = Path(made) / "network"
        folder.mkdir()
        write_export(network, folder)
        _check_export(network, folder)
        write_text(folder / "README.md", model_card(network, out.name, rows))
        if out.exists():
            out.rmdir()
        folder.rename(out)


def _check_export(network: "TrainedNetwork", folder: Path) -> None:
    """Read an export back; where the network's size is known, compare its answers, which depend on more than weights.

    Raises:
        InputError: it answers otherwise, or cannot be read back.
    """
    import torch

    from maskrobust.lm_modules.loading import load_network

    assert network.origin is not None  # write_export has refused it
    own = f"{network.origin.architecture}:" if network.origin.is_own_class else ""
    again = load_network(f"{own}{folder}")
    size = network.preprocessing.size
    if own or size is None:
        return
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not torch.equal(network(picture), again(picture)):
            raise InputError(
                f"an exported network must answer as '{network.name}' does, but built from its name and weights it "
                "answers otherwise; export a function of your own that makes it."
            )


def reliance_rows(path: Path, network: str) -> list[Mapping[str, Any]]:
    """The rows of one network in a reliance.json, over all seeds and compared with none.

    Args:
        path: path of the file.
        network: name of the network in the file; needless if the file has a single one.

    Raises:
        InputError: the file is no reliance.json of this version, or knows no such network.
    """
    from maskrobust.train.report.results import Results

    try:
        results = Results.read("reliance", read_json(path, "give the reliance.json of maskrobust evaluate"))
        names = [each.name for each in results.networks]
        rows = [{**asdict(row), "parameters": dict(row.parameters)} for row in results.over_seeds]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"'{path}' must be a reliance.json of maskrobust evaluate, but is not; give another."
        ) from error
    if network not in names and len(names) > 1:
        raise InputError(f"'{path}' must have rows of '{network}', but has {', '.join(map(str, names))}; give another.")
    wanted = network if network in names else names[0]
    return [row for row in rows if row["network"] == wanted]


def model_card(network: "TrainedNetwork", title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """README.md of an exported network: Markdown in which no text from a file is markup.

    Args:
        network: a network as `load_network` returns it.
        title: heading.
        rows: see `reliance_rows`; the first 500 are shown.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md").render(
        title=title,
        network=network,
        origin=network.origin,
        preprocessing=asdict(network.preprocessing),
        rows=[*map(_cells, rows[:_MOST_ROWS])],
    )


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    parameters = ", ".join(f"{name} {value}" for name, value in row["parameters"].items())
    measure = f"{row['measure']} ({parameters})" if parameters else row["measure"]
    interval = "" if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}"
    return row["method"], measure, _number(row["value"]), interval, row["images"]


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "undefined" if value is None else str(value)


def _text(value: object) -> str:
    """A value as Markdown that shows it: on one line, of at most 200 characters, whatever would be markup escaped."""
    text = " ".join(printable(str(value)).split())
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    return re.sub(_MARKUP, lambda found: "".join(f"\\{mark}" for mark in found[0]), shown)
