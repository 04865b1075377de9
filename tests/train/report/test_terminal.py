"""Results in a terminal: every number on lines of any length, headline first, and the verdict."""

import re
from io import StringIO

import pytest
from rich.console import Console

from maskrobust.train.report.results import Results
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.report.wording import CONCLUSIONS, short

COLUMNS = ("used_share", "silhouette_leak", "swap_pull", "clean_accuracy", "retention")


def printed(renderable, width):
    console = Console(width=width, file=(text := StringIO()), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.256, ".26"), (-0.034, "-.03"), (-0.001, ".00"), (0.0, ".00"), (1.0, "1.00"), (0.999, "1.00"), (-1.2, "-1.20")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize("width", [70, 120])
def test_on_short_lines_no_number_is_lost_and_each_share_of_patches_has_a_column(made_reliance, width):
    lines = printed(results_table(Results.read("reliance", made_reliance)), width)
    assert max(map(len, lines)) <= width
    expected = [
        short(row[end])
        for row in made_reliance["rows"]
        if row["measure"] in (*COLUMNS, "outline_pull") and row["network"] and not row["compared_with"]
        and row["method"] in made_reliance["methods"]
        for end in ("value", "low", "high")
    ]  # fmt: skip
    assert sorted(re.findall(r"-?\d*\.\d\d", "\n".join(lines))) == sorted(expected)


def test_undefined_numbers_are_named_and_titles_are_not_read_as_markup(claim):
    claim["arms"]["no_masks"]["title"] = "[red]A[/]"
    claim["claims"]["own"] = "[b]x[/b] [/]"
    for row in claim["rows"]:
        if (row["network"], row["method"], row["measure"]) == ("no_masks", "black", "used_share"):
            row |= {"value": None, "low": None, "high": None}
    text = "\n".join(printed(results_table(Results.read("claim", claim)), 120))
    assert text.count("undefined") == 1 and "[red]A[/]" in text
    assert "[b]x[/b] [/]" in "\n".join(printed(verdict_panel(Results.read("claim", claim)), 120))


@pytest.mark.parametrize("width", [60, 120])
def test_the_panel_says_verdict_reason_comparisons_and_caveat(claim, width):
    claim["caveat"] = "One seed alone."
    rule = {"case": "best", "tolerance": claim["rule"]["clean_accuracy_tolerance"]}
    first, second = (row for row in claim["rows"] if row["measure"] == "reliance" and row["parameters"] == rule)
    first["method"] = second["method"] = "mean"
    first |= {"value": 0.21, "low": 0.15, "high": 0.27}
    second |= {"value": None, "low": None, "high": None, "reading": "undefined"}
    lines = printed(verdict_panel(Results.read("claim", claim)), width)
    text = " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in lines).split())
    assert max(map(len, lines)) <= width and claim["caveat"] in text
    for verdict in Results.read("claim", claim).verdicts:
        conclusion = CONCLUSIONS[verdict["case"]][verdict["outcome"]]
        said = (claim["claims"][verdict["case"]], verdict["outcome"].capitalize(), conclusion, verdict["reason"])
        assert all(each in text for each in said)
    assert f"'Patches, mean fill' under mean colour fill: 0.21 [0.15, 0.27], {first['reading']}" in text
    assert "'Other silhouettes, random colours' under mean colour fill: undefined" in text
