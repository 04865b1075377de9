"""A report's parts: its drawings, and what it says in a terminal."""

import copy
import json
import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report.results import short_names
from maskrobust.train.report.sections.claim import in_claim
from maskrobust.train.report.sections.curve_charts import curves
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.report.wording import in_sentence, method_title
from tests.train.report.evaluations import read_results


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/version_0/checkpoints/last.ckpt"], ["a"]),
        (["last.ckpt"], ["last.ckpt"]),
        (["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"], ["a", "b"]),
        (["runs/a.ckpt", "runs/b.ckpt"], ["a.ckpt", "b.ckpt"]),
        (["runs/three/a/version_0/last.ckpt", "runs/demo/b/version_0/last.ckpt"], ["a", "b"]),
        (["a/b/x.ckpt", "a/x.ckpt"], ["b", "a"]),
        (["/one/x.pt", "two/x.pt", "/one/y.pt"], ["one/x.pt", "two/x.pt", "one/y.pt"]),
        (["a", "./a"], ["a", "./a"]),
        (["run-1/x", "run-12/x"], ["run-1", "run-12"]),
    ],
)
def test_networks_are_called_by_the_shortest_parts_of_their_paths_in_which_they_differ(paths, names):
    assert list(short_names(paths).items()) == list(zip(paths, names, strict=True))


def test_every_curve_lies_where_its_numbers_say_with_its_interval_and_passes_over_what_is_undefined(made_claim):
    content = copy.deepcopy(made_claim)
    curve = next(row for row in content["rows"] if row["measure"] == "curve_accuracy" and row["method"] == "mean")
    curve |= {"value": None, "low": None, "high": None, "undefined_because": "why"}
    results = read_results("claim", content)
    charts = re.findall(r"<svg.*?</svg>", curves(results) or "", re.DOTALL)
    assert len(charts) == 3
    drawn, expected = [], []
    for chart in charts:
        title = re.search('aria-label="[^"]*SLIC, ([^"]*)"', chart)[1]
        for group in re.findall(r"<g .*?</g>", chart, re.DOTALL):
            colour = int(re.search(r"--arm-(\d+)", group)[1])
            band, line = (
                np.reshape([*map(float, re.findall(r"[\d.]+", each))], (-1, 2))
                for each in re.findall('points="([^"]*)"', group)
            )
            assert len(band) == 2 * len(line)
            drawn += [(title, colour, *map(tuple, each)) for each in zip(line, band, band[::-1], strict=False)][
                : len(line)
            ]
    orders = {
        "random": "random order",
        "most_salient": "object hidden first",
        "least_salient": "background hidden first",
    }
    for row in select(results.defined, measure="curve_accuracy"):
        network = results.network(row.network)
        if row.method == network.arm["method"]:
            x = 34 + 256 * row.parameters["hidden_fraction"]
            expected.append(
                (
                    orders[row.parameters["order"]],
                    network.colour,
                    *((x, 172 - 150 * min(max(y, 0.0), 1.0)) for y in (row.value, row.low, row.high)),
                )
            )
    assert len(drawn) == len(expected) > 0
    for one, other in zip(sorted(drawn), sorted(expected), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_allclose(one[2:], other[2:], atol=0.01)


def printed(renderable, width):
    console = Console(width=width, file=(text := StringIO()), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_in_80_columns_each_network_is_a_line_below_its_way_of_hiding_and_each_value_below_its_heading(made_reliance):
    for name in ("plain", "a network that was fine-tuned for long, " * 3):
        content = json.loads(json.dumps(made_reliance).replace("plain", name))
        results = read_results("reliance", content)
        _, heads, *lines = printed(results_table(results), 80)
        assert max(map(len, lines)) <= 80
        ends = {head: heads.index(head) + len(head) for head in ("outline", "circle", "50\u202f%", "none")}
        measures = zip(ends, ("silhouette_accuracy", "circle_accuracy", "retention", "clean_accuracy"), strict=True)
        of_head = dict(measures)
        for method in results.methods:
            assert lines.pop(0) == in_sentence(method_title(method))
            for network in results.networks:
                line = lines.pop(0)
                assert line.startswith(f"  {network.title[:15]}")
                for head, end in ends.items():
                    of = {"network": network.name, "method": method, "measure": of_head[head]}
                    (row,) = (
                        row
                        for row in select(results.over_seeds, **of)
                        if row.parameters.get("hidden_fraction", 0.5) == 0.5
                    )
                    assert line[:end].endswith(f" {100 * row.value:.0f}")
        assert lines == []


@pytest.mark.parametrize("width", [60, 120])
def test_the_panel_says_verdict_reason_fills_and_pairs(claim, width):
    rows = [row for row in claim["rows"] if row["measure"] == "reliance" and row["method"] == "mean"]
    first, second = (row for row in rows if row["compared_with"] == "layer_masking")
    bare, none = (row for row in rows if row["compared_with"] == "no_masks")
    bare |= {"value": -0.1, "low": -0.2, "high": 0.0}
    none |= {"value": None, "low": None, "high": None}
    first |= {"value": 0.21, "low": 0.15, "high": 0.27}
    second |= {"value": None, "low": None, "high": None, "reading": "open"}
    lines = printed(verdict_panel(read_results("claim", claim)), width)
    text = " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in lines).split())
    assert max(map(len, lines)) <= width and claim["fills"] in text and "straw man" in text
    for verdict in claim["verdicts"]:
        said = (claim["claims"][verdict["case"]], verdict["outcome"].capitalize(), verdict["reason"])
        assert all(each in text for each in said) and "Undecided. Undecided" not in text
    assert all(" ".join(sentence.split()) in text for sentence in in_claim(read_results("claim", claim)))
    numbers = "21.0 [15.0, 27.0], minus no masks −10.0 [−20.0, 0.0]"
    assert f"'Patches, mean fill' under mean colour fill: {numbers}, {first['reading']}" in text
    assert "'Other silhouettes, random colours' under mean colour fill: open" in text
