import re
from io import StringIO

import pytest
from rich.console import Console

from maskrobust.train.report import claim_table, verdict_panel
from maskrobust.train.report.table import short
from tests.train.report.conftest import CAVEAT, make_claim, set_undefined, undefined_figure

KEYS = (
    "clean_accuracy",
    "retention",
    "silhouette_accuracy",
    "silhouette_leak",
    "swap_pull",
    "used_share",
)


def printed(renderable, width):
    console = Console(width=width, file=StringIO(), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.256, ".26"), (-0.034, "-.03"), (-0.001, ".00"), (0.0, ".00"), (1.0, "1.00"), (0.999, "1.00"), (-1.2, "-1.20")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_at_120_columns_every_row_is_one_line_with_its_intervals(claim):
    lines = printed(claim_table(claim), 120)
    assert max(map(len, lines)) <= 120
    rows = [line for line in lines if line.startswith("  ")]
    expected = []
    for arm in claim["arms"].values():
        for method in claim["methods"]:
            figures = [arm["methods"][method]["all_seeds"][key] for key in KEYS]
            values = [[short(figure[end]) for end in ("value", "low", "high")] for figure in figures]
            expected.append((method.replace("_", " "), [f"{value} [{low}, {high}]" for value, low, high in values]))
    found = [re.fullmatch(r"  (\w+(?: \w+)?) +(\S.*)", row).groups() for row in rows]
    assert [(name, re.findall(r"\S+ \[\S+ \S+\]", cells)) for name, cells in found] == expected
    assert all(arm["title"].split()[0] in "\n".join(lines) for arm in claim["arms"].values())


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("arms", [1, 11])
def test_on_short_lines_no_number_is_lost(arms, width):
    claim = make_claim(arms)
    lines = printed(claim_table(claim), width)
    assert max(map(len, lines)) <= width
    tokens = re.findall(r"-?\d*\.\d\d", "\n".join(lines))
    expected = [
        short(arm["methods"][method]["all_seeds"][key][end])
        for arm in claim["arms"].values()
        for method in claim["methods"]
        for key in KEYS
        for end in ("value", "low", "high")
    ]
    assert sorted(tokens) == sorted(expected)


def test_the_head_names_the_hidden_fraction(claim):
    assert "half hidden" in printed(claim_table(claim), 120)[0]
    assert "30\u202f% hidden" in printed(claim_table(claim | {"hidden_fraction": 0.3}), 120)[0]


def test_undefined_figures_are_named(claim):
    set_undefined(claim, "no_masks", "black", "used_share")
    lines = printed(claim_table(claim), 120)
    assert [line.endswith("undefined") for line in lines].count(True) == 1


def test_a_figure_without_an_interval_is_its_value_alone(claim):
    claim["arms"]["no_masks"]["methods"]["black"]["all_seeds"]["used_share"] |= {
        "value": 0.5,
        "low": None,
        "high": None,
    }
    row = next(line for line in printed(claim_table(claim), 120) if line.startswith("  black"))
    assert row.endswith("] " + " " * 14 + ".50") or re.search(r"\] +\.50$", row)


def test_titles_are_not_read_as_markup(claim):
    claim["arms"]["no_masks"]["title"] = "[red]A[/red] [/]"
    claim["claim"] = claim["verdict"]["reason"] = "[b]x[/b] [/]"
    assert "[red]A[/red] [/]" in "\n".join(printed(claim_table(claim), 120))
    assert "[b]x[/b] [/]" in "\n".join(printed(verdict_panel(claim), 120))


@pytest.mark.parametrize("outcome", ["supported", "refuted", "undecided"])
@pytest.mark.parametrize("width", [60, 120])
def test_the_panel_says_verdict_reason_and_comparisons(outcome, width):
    claim = make_claim(outcome=outcome)
    claim["verdict"]["comparisons"][1]["difference"] = undefined_figure()
    lines = printed(verdict_panel(claim), width)
    text = " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in lines).split())
    assert max(map(len, lines)) <= width
    assert outcome in lines[0]
    assert claim["claim"] in text and claim["verdict"]["reason"] in text
    assert "Patches, mean fill: 0.21 [0.15, 0.27], above the margin" in text
    assert "Other silhouettes, random colours: undefined" in text
    assert CAVEAT in text


def test_without_a_caveat_the_panel_ends_with_the_comparisons():
    lines = printed(verdict_panel(make_claim(seeds=range(5))), 120)
    assert "Other silhouettes" in lines[-3]
