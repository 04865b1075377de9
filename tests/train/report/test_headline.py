"""Which network relies least: what the readings of all pairs say, and nothing else."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.headline import headline
from maskrobust.train.report.results import MEANINGLESS, Results, short_names

NAMES = ("a", "b", "c")
Readings = Mapping[tuple[str, str], str]


def results_of(by_method, shares=(0.5, 0.3, -0.1)):
    """Three networks with these used shares; (later, earlier) -> reading, not told apart where none is given."""
    numbers: dict[str, Any] = {"images": 9, "left_out": 0}
    rows = [
        Row(f"{name}.ckpt", method, "used_share", share, share and share - 0.05, share and share + 0.05, **numbers)
        for name, share in zip(NAMES, shares, strict=True)
        for method in by_method
    ]
    rows += [
        Row(f"{later}.ckpt", method, "reliance", 0.1, 0.0, 0.2, **numbers, compared_with=f"{earlier}.ckpt",
            reading=readings.get((later, earlier), "not told apart"))
        for method, readings in by_method.items()
        for earlier, later in itertools.combinations(NAMES, 2)
    ]  # fmt: skip
    content = {
        "format": 2,
        "networks": [f"{name}.ckpt" for name in NAMES],
        "methods": list(by_method),
        "rows": [row.as_json() for row in rows],
    }
    return Results.read("reliance", content)


C_LEAST: Readings = {("c", "a"): "relies less", ("c", "b"): "relies less"}
A_LEAST: Readings = {("b", "a"): "relies more", ("c", "a"): "relies more"}
A_MOST: Readings = {("b", "a"): "relies less", ("c", "a"): "relies less"}


@pytest.mark.parametrize(
    ("by_method", "expected"),
    [
        ({"black": C_LEAST}, "c.ckpt relies least on outlines."),
        ({"black": C_LEAST, "mean": C_LEAST}, "c.ckpt relies least on outlines, under every masking method."),
        ({"black": A_LEAST, "mean": {}}, "a.ckpt relies least on outlines under black fill."),
        (
            {"black": A_LEAST, "mean": C_LEAST},
            "Which network relies least on outlines depends on the masking method.",
        ),
        ({"black": A_MOST}, "a.ckpt relies most on outlines; which relies least cannot be told."),
        ({"black": {("c", "a"): "relies less"}}, "Which network relies least on outlines cannot be told"),
        ({"black": {**C_LEAST, ("c", "b"): "undefined"}}, "Which network relies least on outlines cannot be told"),
    ],
)
def test_a_network_relies_least_where_every_pair_with_it_says_so(by_method, expected):
    assert headline(results_of(by_method)).startswith(expected)


def test_a_share_that_means_nothing_is_left_out_of_what_is_compared_and_that_is_said():
    results = results_of({"black": C_LEAST, "mean": C_LEAST})
    reason = "98 % of its answers are <b>one</b> class"
    rows = [
        replace(row, reading=MEANINGLESS + reason)
        if (row.network, row.method, row.measure) == ("c.ckpt", "black", "used_share")
        else row
        for row in results.rows
    ]
    collapsed = replace(results, rows=rows)
    assert headline(collapsed) == (
        "c.ckpt relies least on outlines under mean colour fill. "
        f"The used share of c.ckpt means nothing under black fill: {reason}."
    )
    every = [replace(row, reading=MEANINGLESS + reason) if row.measure == "used_share" else row for row in results.rows]
    assert headline(replace(results, rows=every)).startswith("The used share of a.ckpt means nothing under")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/version_0/last.ckpt"], ["last.ckpt"]),
        (["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"], ["a", "b"]),
        (["runs/a.ckpt", "runs/b.ckpt"], ["a.ckpt", "b.ckpt"]),
        (["a/b/x.ckpt", "a/x.ckpt"], ["b/x.ckpt", "x.ckpt"]),
        (["/one/x.pt", "two/x.pt", "/one/y.pt"], ["/one/x.pt", "two/x.pt", "/one/y.pt"]),
        (["run-1/x", "run-12/x"], ["run-1", "run-12"]),
    ],
)
def test_networks_are_called_by_the_parts_of_their_paths_in_which_they_differ(paths, names):
    assert list(short_names(paths).items()) == list(zip(paths, names, strict=True))


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        (
            (0.9, -0.4),
            "In pictures without objects, a hole pulls a.ckpt towards the object of its shape under black fill.",
        ),
        (
            (0.0, -0.4),
            "That a hole pulls a.ckpt towards the object of its shape is not shown: no interval lies above 0.",
        ),
    ],
)
def test_where_no_used_share_is_defined_the_scenes_speak(lows, expected):
    numbers: dict[str, Any] = {"images": 9, "left_out": 0}
    rows = []
    for method, low in zip(("black", "layer_masking"), lows, strict=True):
        rows.append(Row("a.ckpt", method, "used_share", None, None, None, **numbers, undefined_because="undefined."))
        reading = "pulled" if low > 0.0 else "not shown"
        rows.append(Row("a.ckpt", method, "outline_pull", 0.95, low, 1.0, **numbers, reading=reading))
    content = {
        "format": 2,
        "networks": ["a.ckpt"],
        "methods": ["black", "layer_masking"],
        "rows": [row.as_json() for row in rows],
    }
    results = Results.read("reliance", content)
    assert headline(results) == expected
