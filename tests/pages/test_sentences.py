"""Pages are written in sentences, not in telegrams: at most so many colons and semicolons in their prose."""

import re

import pytest

from tests.test_house import ROOT

MOST_IN_100_WORDS = 2.5


def prose_of(page):
    """A page's text without code, tables, directives, comments, pictures and the addresses of links."""
    text = re.sub(r"^ *```.*?^ *```|<!--.*?-->", "", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(\||:::| {4}).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`[^`]*`", "code", text)


def marks_in_100_words(page):
    prose = prose_of(page)
    return 100 * len(re.findall(r"[:;]", prose)) / len(re.findall(r"[\w'-]+", prose))


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda page: page.name
)
def test_a_page_is_written_in_sentences(page):
    assert marks_in_100_words(page.read_text(encoding="utf-8")) <= MOST_IN_100_WORDS
