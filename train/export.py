"""`maskrobust export`: a network as a folder to share, with a model card that says what it reads from a hole."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrobust.errors import InputError
from maskrobust.train.arguments import PARSER_OPTIONS, Parser
from maskrobust.train.storage.files import check_folder, read_json, write_text
from maskrobust.train.storage.plain_text import printable

if TYPE_CHECKING:  # the command line imports this module for its help
    from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

_LONGEST_TEXT = 200
_MOST_ROWS = 500
_MARKUP = r"[\\`*<>\[\]|~&$#!@{}]|(?<![^\W_])_|_(?![^\W_])|^[-+=.:]|(?<=\d)[.)](?= |$)|:(?=//)|(?<=[wW])\."
"""What Markdown, as the Hub and GitHub read it, may take for more than text; the start of a line may make a list."""
_MOST_CLASSES = 20


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust export` with command-line arguments, the command first.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: the network cannot be loaded or exported, or a file is not what it should be.
    """
    parser = Parser(prog="maskrobust export", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--network", type=str, required=True, help="the network, named as for maskrobust evaluate")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, new or empty")
    parser.add_argument(
        "--reliance", type=Path | None, help="reliance.json of maskrobust evaluate, for the rows of the model card"
    )
    given = parser.parse_args(list(arguments[1:]))
    out = Path(given.out)
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"out must be a new or empty folder, but '{out}' holds files; name another.")
    rows = [] if given.reliance is None else reliance_rows(Path(given.reliance), given.network)
    export(given.network, out, rows)
    print(printable(f"exported: {out}"))


def export(name: str, out: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write a network, its configuration and its model card to a folder, and read it back.

    Args:
        name: of the network; see `load_network`.
        out: folder, made where it is missing.
        rows: of the model card; see `reliance_rows`.

    Raises:
        MissingFileError, InputError: see `load_network`; or the network is another one when it is read back.
    """
    from maskrobust.lm_modules.networks.exported import write_export
    from maskrobust.lm_modules.networks.loading import load_network

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

    from maskrobust.lm_modules.networks.loading import load_network

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
        path: of the file.
        network: its name there; where the file has a single network, that one.

    Raises:
        InputError: the file is no reliance.json of this version, or knows no such network.
    """
    from maskrobust.train.report import Results

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
        network: of `load_network`.
        title: heading.
        rows: see `reliance_rows`; the first 500 are shown.
    """
    return "\n".join(_card(network, title, rows)) + "\n"


def _card(network: "TrainedNetwork", title: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    origin = network.origin
    assert origin is not None
    own = "my_module.MyNet:" if origin.is_own_class else ""
    yield from ("---", "library_name: maskrobust", "pipeline_tag: image-classification", "---", "")
    yield from (f"# {_text(title)}", "")
    made_by = "the class" if origin.is_own_class else "architecture"
    yield from (f"{_text(network.name)}: {made_by} {_text(origin.architecture)}, {network.num_classes} classes.", "")
    yield from ("```python", "import maskrobust", "")
    yield from (f'network = maskrobust.load_network("{own}FOLDER")  # this folder', "```", "")
    if origin.is_own_class:
        yield from ("Loading it takes the class, in a module of yours that you name in place of my_module.MyNet.", "")
    titles = {"size": "size (height, width)"}
    preprocessing = {titles.get(name, name): value for name, value in asdict(network.preprocessing).items()}
    yield from ("## Preprocessing", "", *_table(("option", "value"), preprocessing.items()), "")
    if network.class_names is not None:
        few = "; ".join(map(_text, network.class_names[:_MOST_CLASSES]))
        more = len(network.class_names) - _MOST_CLASSES
        yield from ("## Classes", "", few + (f" and {more} more, in config.json." if more > 0 else "."), "")
    if origin.training:
        yield from ("## Training", "", *_table(("option", "value"), origin.training.items()), "")
    if rows:
        yield from ("## Reliance on the shape of holes", "", "Measured by maskrobust evaluate; 95 % intervals.", "")
        yield from _table(("masking method", "measure", "value", "interval", "images"), map(_cells, rows[:_MOST_ROWS]))


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    parameters = ", ".join(f"{name} {value}" for name, value in row["parameters"].items())
    measure = f"{row['measure']} ({parameters})" if parameters else row["measure"]
    interval = "" if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}"
    return row["method"], measure, _number(row["value"]), interval, row["images"]


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "undefined" if value is None else str(value)


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"


def _text(value: object) -> str:
    """A value as Markdown that shows it: on one line, of at most 200 characters, whatever would be markup escaped."""
    text = " ".join(printable(str(value)).split())
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
    return re.sub(_MARKUP, lambda found: "".join(f"\\{mark}" for mark in found[0]), shown)
