"""The claim as one HTML page that needs nothing from anywhere else."""

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from train.report import wording
from train.report.charts import CHART_SIZES, arm_number, chart_points, marker_points, reliance_limit, retention_chart
from train.report.comparisons import comparison_rows, is_compared
from train.report.examples import ExampleStrip
from train.report.wording import INFORMATION, SENSITIVITY, Column, Figure

OUTCOMES = {"supported": "Supported", "refuted": "Refuted", "undecided": "Undecided"}
_FORMAT = 2
_LARGEST_PICTURE = 160


class Cell(NamedTuple):
    """One figure as a table shows it.

    Attributes:
        value: the figure; "undefined" where it is.
        interval: in brackets; empty where there is none.
        note: letter of the footnote that says why the figure is undefined; empty where it is defined.
    """

    value: str
    interval: str
    note: str


def render_claim(claim: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> str:
    """One self-contained page: verdict, rule, chart, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        claim: the content of claim.json, format 2.
        examples: what `example_strips` returns; may be empty.

    Returns:
        HTML that loads nothing: styles, drawings and pictures are inside, and its content security policy forbids
        scripts and every request. Equal arguments give equal text.

    Raises:
        ValueError: the claim holds a number that is not finite, or has another format.
    """
    if claim["format"] != _FORMAT:
        raise ValueError(
            f"the report shows claim.json of format {_FORMAT}, got {claim['format']}; run the claim again."
        )
    return render_template("claim.html.j2", ("claim.css",), **_content(claim, examples))


def render_template(name: str, styles: Sequence[str], **content: Any) -> str:
    """A page made from a template of this package.

    Args:
        name: file of the template.
        styles: files of the style sheets, joined in this order for the template's `style`.
        content: everything else that the template names.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "decimal": wording.decimal,
        "points": wording.points,
        "compact": wording.compact,
        "duration": wording.duration,
        "method_title": wording.method_title,
        "picture": _picture_address,
        "plain": _plain,
        "pretty_json": _pretty_json,
    }
    style = "\n".join((folder / sheet).read_text(encoding="utf-8") for sheet in styles)
    return environment.get_template(name).render(**content, style=style)


def _content(claim: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> dict[str, Any]:
    columns = wording.columns(claim["hidden_fraction"])
    notes = _footnotes(claim, columns)
    raw = json.dumps(claim, indent=2, allow_nan=False) + "\n"
    charts = [(name, retention_chart(claim, size, name)) for name, size in CHART_SIZES.items()]
    return {
        "claim": claim,
        "outcome": OUTCOMES[claim["verdict"]["outcome"]],
        "columns": columns,
        "has_band": reliance_limit(claim) is not None,
        "information": INFORMATION,
        "interval_definition": wording.INTERVAL_DEFINITION,
        "information_definition": wording.INFORMATION_DEFINITION,
        "sensitivity_definition": wording.SENSITIVITY_DEFINITION,
        "arms": _arms(claim, columns, notes),
        "counts": [_image_count(claim, column.key) for column in columns],
        "markers": [(wording.method_title(name), marker_points(place)) for place, name in enumerate(claim["methods"])],
        "charts": charts,
        "not_drawn": len(chart_points(claim)[1]),
        "comparisons": comparison_rows(claim),
        "notes": notes,
        "majority": wording.or_undefined(claim["probe"]["majority_share"], wording.percent),
        "probe": _cell(claim["probe"]["accuracy"], wording.percent, notes),
        "examples": _grouped(examples),
        "embedded": _for_script(json.dumps(claim, allow_nan=False, separators=(",", ":"))),
        "download": "data:application/json;base64," + base64.b64encode(raw.encode()).decode(),
    }


def _arms(claim: Mapping[str, Any], columns: Sequence[Column], notes: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the tables show of each arm."""
    arms = []
    for place, (name, arm) in enumerate(claim["arms"].items()):
        methods = [
            {
                "title": wording.method_title(method),
                "compared": is_compared(claim, name, method),
                "all_seeds": _cells(arm["methods"][method]["all_seeds"], columns, notes),
                "seeds": {seed: _cells(each, columns, notes) for seed, each in arm["methods"][method]["seeds"].items()},
            }
            for method in claim["methods"]
        ]
        shown = {"name": name, "number": place + 1, "colour": arm_number(place), "methods": methods}
        arms.append(shown | {key: arm[key] for key in ("title", "augmentation_only", "training")})
    return arms


def _cells(figures: Mapping[str, Any], columns: Sequence[Column], notes: Mapping[str, str]) -> list[Cell]:
    cells = [_cell(figures[column.key], column.write, notes) for column in columns]
    for key in INFORMATION:
        found = figures[key]
        chance = {"value": found["bits"], "low": found["null_low"], "high": found["null_high"]}
        cells.append(_cell({**found, **chance}, wording.decimal, notes))
    without_interval = {**figures[SENSITIVITY], "low": None, "high": None}
    return [*cells, _cell(without_interval, wording.compact, notes)]


def _cell(figure: Figure, write: Callable[[float], str], notes: Mapping[str, str]) -> Cell:
    if figure["value"] is None:
        return Cell("undefined", "", notes[figure["undefined_because"]])
    return Cell(write(figure["value"]), wording.bounds(figure, write), "")


def _footnotes(claim: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, str]:
    """A letter for every reason why a figure is undefined, in order of appearance: a to z, aa, bb, ..."""
    reasons = dict.fromkeys(
        figure["undefined_because"] for figure in _figures(claim, columns) if figure["undefined_because"] is not None
    )
    return {reason: ascii_lowercase[place % 26] * (place // 26 + 1) for place, reason in enumerate(reasons)}


def _figures(claim: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[Figure]:
    yield claim["probe"]["accuracy"]
    for arm in claim["arms"].values():
        for method in claim["methods"]:
            found = arm["methods"][method]
            for figures in (found["all_seeds"], *found["seeds"].values()):
                yield from (figures[key] for key in (*(column.key for column in columns), *INFORMATION, SENSITIVITY))


def _image_count(claim: Mapping[str, Any], key: str) -> tuple[str, str]:
    """How many images a measure rests on, over all arms and methods, and how many it left out; empty where none."""
    found = [arm["methods"][method]["all_seeds"][key] for arm in claim["arms"].values() for method in claim["methods"]]
    left_out = [figure["left_out"] for figure in found]
    return _range([figure["images"] for figure in found]), f"{_range(left_out)} left out" if any(left_out) else ""


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return wording.count(low) if low == high else f"{wording.count(low)} to {wording.count(high)}"


def _grouped(examples: Sequence[ExampleStrip]) -> list[tuple[str, bool, list[ExampleStrip]]]:
    """Strips by method: (title, whether it is layer masking, strips)."""
    groups: dict[str | None, list[ExampleStrip]] = {}
    for strip in examples:
        if strip.images:
            groups.setdefault(strip.method, []).append(strip)
    return [
        ("Nothing hidden" if method is None else wording.method_title(method), method == "layer_masking", strips)
        for method, strips in groups.items()
    ]


def _picture_address(pixels: Any) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _plain(value: Any) -> str:
    """A setting as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _for_script(raw: str) -> str:
    """JSON that cannot end the script element it stands in, and still is the same JSON."""
    return raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
