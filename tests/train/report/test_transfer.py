import pytest

from maskrobust.train.report import render_claim
from maskrobust.train.report.cells import CellWriter
from maskrobust.train.report.networks import networks_of_claim
from maskrobust.train.report.transfer import transfer_matrices
from maskrobust.train.report.wording import family_title, method_title
from tests.train.report.conftest import make_claim
from tests.train.report.everything import MASK_FAMILIES, add_everything
from tests.train.report.pages import Page, squeezed


@pytest.fixture
def claim():
    return add_everything(make_claim(3))


def test_every_cell_is_that_of_the_claim_marks_included(claim):
    page = Page(render_claim(claim, []))
    for number, arm in enumerate(claim["arms"].values(), start=1):
        head, *rows = page.tables[f"transfer-{number}"]
        assert head[1:-1] == list(map(family_title, MASK_FAMILIES))
        by_title = {row[0]: row for row in rows}
        assert by_title.keys() == {method_title(method) for method in arm["transfer"]}
        for method, by_family in arm["transfer"].items():
            row = by_title[method_title(method)]
            for cell, (family, figure) in zip(row[1:-1], by_family.items(), strict=True):
                trained = "● " if method in ("black", "mean") and family in ("patches", "rectangles") else ""
                worst = "▼ " if (method, family) == (arm["worst_cell"]["method"], arm["worst_cell"]["family"]) else ""
                value, low, high = (f"{100 * figure[end]:.1f}" for end in ("value", "low", "high"))
                assert squeezed(cell) == f"{trained}{worst}{value} [{low}, {high}]"


def test_worst_cells_of_all_arms_stand_together(claim):
    _, *rows = Page(render_claim(claim, [])).tables["worst-cells"]
    for row, arm in zip(rows, claim["arms"].values(), strict=True):
        worst = arm["worst_cell"]
        assert squeezed(row[1]).startswith(f"{100 * worst['value']:.1f}%")
        assert row[2].startswith(method_title(worst["method"]))
        assert row[3] == "Black fill, mean colour fill; patches, rectangles"


def test_a_matrix_over_the_main_methods_alone_is_drawn_without_marks(claim):
    for arm in claim["arms"].values():
        for key in ("transfer", "worst_cell", "trained_on"):
            del arm[key]
    matrices = transfer_matrices(networks_of_claim(claim), CellWriter())
    assert [title for title, _, _ in matrices[0].rows] == ["Black fill", "Mean colour fill", "Layer masking"]
    assert not any(cell.trained or cell.worst for _, cells, _ in matrices[0].rows for cell in cells)
    assert (matrices[0].worst, matrices[0].trained_on) == ("", "")


def test_a_cell_that_is_missing_or_undefined_has_no_colour(claim):
    arm = claim["arms"]["no_masks"]
    del arm["transfer"]["black"]["blobs"]
    arm["transfer"]["mean"]["blobs"] |= {"value": None, "low": None, "high": None, "undefined_because": "none asked."}
    cells = CellWriter()
    rows = transfer_matrices(networks_of_claim(claim), cells)[0].rows
    by_title = {title: heat for title, heat, _ in rows}
    assert any(cell.cell.value == "undefined" and cell.share == "" for cell in by_title["Mean colour fill"])
    assert any(cell.cell.value == "" and cell.share == "" for cell in by_title["Black fill"])
    assert cells.notes == {"none asked.": "a"}


def test_arms_without_transfer_have_no_matrix():
    assert transfer_matrices(networks_of_claim(make_claim(3)), CellWriter()) == []
