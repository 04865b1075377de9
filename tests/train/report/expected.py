"""How the pages must write the figures of their JSON, told apart from how they do it."""

from tests.train.report.conftest import ACCURACIES
from tests.train.report.pages import squeezed

PERCENTAGES = {
    *ACCURACIES,
    "retention_0.5",
    "retention_0.8",
    "whole_mask_accuracy",
    "broken_mask_accuracy",
    "features_silhouette",
    "features_circle",
}
TABLES = {
    "outline": ("used_share", "silhouette_leak", "swap_pull", "whole_over_broken"),
    "accuracy": (
        "clean_accuracy",
        "retention",
        "retention_0.5",
        "retention_0.8",
        "silhouette_accuracy",
        "circle_accuracy",
        "whole_mask_accuracy",
        "broken_mask_accuracy",
    ),
    "remains": (
        "information_silhouette",
        "information_circle",
        "features_silhouette",
        "features_circle",
        "carried_information",
        "hidden_pixel_sensitivity",
    ),
}
"""Figures by table, in the order of its columns."""


def expected_cells(figures, keys, *, differences=False):
    return [expected_cell(figures[key], key, differences=differences) for key in keys if key in figures]


def expected_cell(figure, key, *, differences=False):
    if key == "hidden_pixel_sensitivity":
        return f"{figure['value']:.3g}"
    ends = ("bits", "null_low", "null_high") if "bits" in figure else ("value", "low", "high")
    if figure[ends[0]] is None:
        return "undefineda"
    scale, decimals, unit = (100, 1, "" if differences else "%") if key in PERCENTAGES else (1, 2, "")
    value, low, high = (rounded(figure[end], scale, decimals) for end in ends)
    return f"{value}{unit} [{low}, {high}]"


def rounded(value, scale, decimals):
    text = format(scale * value, f".{decimals}f")
    return text.removeprefix("-") if float(text) == 0 else text


def body_rows(page, table):
    """The rows of figures, without head, titles of the networks, and the row of image counts."""
    rows = [[squeezed(cell) for cell in row] for row in page.tables[table][1:] if len(row) > 1]
    return [row for row in rows if row[0] != "Images"]
