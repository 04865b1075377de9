"""Names from files on terminals, in spreadsheets and on pages: what they say, and nothing that they do."""

import csv
import io
from dataclasses import fields

import numpy as np
import pytest
from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.cli import main
from maskrobust.train.masks.drawing import Gallery, GalleryImage, GalleryRow, render_gallery
from maskrobust.train.report.results import rows_as_csv
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.plain_text import printable

NASTY = "\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"
HARMLESS = r"\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"


def test_what_is_invisible_is_spelt_out_and_the_rest_stays() -> None:
    assert printable(NASTY) == HARMLESS
    kept = "Köln, 犬 🐕 n° 1 (50\u202f%)\tA\nB <b>"
    assert printable(kept) == kept
    assert printable(printable(NASTY)) == HARMLESS


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_text_that_a_spreadsheet_would_calculate_is_text(text: str) -> None:
    row = Row(text, text, text, -0.5, None, 1.0, 9, 0, compared_with=text, undefined_because=text, reading=text)
    names = [field.name for field in fields(Row)]
    read = next(csv.DictReader(io.StringIO(rows_as_csv([row]), newline="")))
    texts = ("network", "method", "measure", "compared_with", "undefined_because", "reading")
    assert list(read) == names and {read[name] for name in texts} == {"'" + printable(text)}
    assert [read[name] for name in ("value", "low", "high")] == ["-0.5", "", "1.0"]


def test_parameters_of_a_row_are_harmless_in_the_csv() -> None:
    row = Row("a", "black", "probability", 0.5, None, None, 1, 0, parameters={"class": NASTY, "fraction": 0.5})
    text = rows_as_csv([row])
    read = next(csv.DictReader(io.StringIO(text, newline="")))
    assert read["parameters"] == f"class={HARMLESS} fraction=0.5"
    assert not set(text) & set("\x1b\r\x08\x00\x9b\u202e\udc80")


def test_a_page_shows_names_and_follows_no_markup_in_them() -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    row = GalleryRow("patches", 0.5, (pixels, pixels))
    gallery = Gallery(("black",), (GalleryImage(NASTY, pixels, True, (row,)),), {NASTY: NASTY}, {"split": NASTY})
    page = render_gallery(gallery, NASTY)
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page and r"\u202e" in page
    assert not set(page) & set("\x1b\r\x08\x00\x9b\u202e\udc80")


def test_an_error_quotes_a_file_without_its_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> None:
        raise InputError(f"'{NASTY}' must be another.")

    monkeypatch.setattr("maskrobust.train.arches.main", refuse)
    with pytest.raises(SystemExit):
        main(["arches"])
    assert "\x1b" not in (error := capsys.readouterr().err) and r"\x1b[31m" in error


def test_a_progress_bar_shows_brackets_as_they_are() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with CountingDisplay(console) as progress:
        progress.add_task("measuring [red]a[/red] [/]", total=1)
    assert "[red]a[/red] [/]" in console.file.getvalue()
