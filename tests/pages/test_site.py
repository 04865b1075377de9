"""The documentation as a site: built without a warning, loading nothing from elsewhere; its reference and examples."""

import doctest
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest
import torch

import maskrobust
from tests.conftest import require_component
from tests.test_house import ROOT

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Addresses(HTMLParser):
    """The addresses of a page.

    Attributes:
        linked: those a reader can follow.
        loaded: those a browser fetches by itself.
        ids: the places within the page.
    """

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.linked: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.update(value for name, value in attributes if name in ("id", "name") and value)
        if tag == "a" and given.get("href"):
            self.linked.append(str(given["href"]))
        if tag in LOADED and given.get(LOADED[tag]):
            self.loaded.append(str(given[LOADED[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    if find_spec("mkdocs") is None:
        require_component("mkdocs", "install the extra dependencies: pip install '.[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {page: Addresses(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}
    dead = []
    for page, addresses in pages.items():
        for address in {*addresses.linked, *addresses.loaded}:
            parts = urlsplit(address)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (parts.fragment and target in pages and parts.fragment not in pages[target].ids):
                dead.append(f"{page.relative_to(site)}: {address}")
    assert dead == []
    assert len(pages) > 15


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        schemes = {urlsplit(address).scheme for address in Addresses(page).loaded}
        assert schemes <= {"", "data"}, page.name
    assert (site / "search" / "search_index.js").is_file(), "which a page opened from a folder can read"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name


def test_no_row_of_a_table_is_shown_as_text(site):
    for page in site.rglob("*.html"):
        assert not re.search(r"<(p|li)>\|", page.read_text(encoding="utf-8")), page.name


def test_the_reference_shows_every_name_with_its_docstring(site):
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    for name in PUBLIC:
        (heading,) = re.finditer(rf'<h3 id="maskrobust\.(?:\w+\.)*{name}"', text)
        described = text[heading.end() :].partition('<div class="doc doc-contents')[2]
        assert "<p>" in re.split("<h[234] ", described)[0], name


def test_what_a_function_returns_is_told_in_one_row(site):
    pages = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    _, *tables = pages.split('<span class="doc-section-title">Returns:</span>')
    rows = [table.partition("</table>")[0].partition("<tbody>")[2].count("<tr") for table in tables]
    assert rows == [1] * len(rows) != []


INTRODUCTION = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
LISTED = re.findall(r"\]\((reference/[\w-]+\.md)\)", INTRODUCTION)
REFERENCE = "".join((ROOT / "docs" / each).read_text(encoding="utf-8") for each in LISTED)
PUBLIC = [name for name in maskrobust.__all__ if not isinstance(getattr(maskrobust, name), ModuleType)]
DIRECTIVE = re.compile(r"^::: maskrobust\.(?:\w+\.)*(\w+)$", flags=re.MULTILINE)
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def test_the_reference_says_on_top_what_its_lines_of_colons_stand_for():
    assert ":::" in INTRODUCTION.partition("```")[0]


def test_every_public_name_has_its_place_in_the_reference():
    assert sorted(DIRECTIVE.findall(REFERENCE)) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_example_below_it(name):
    parts = DIRECTIVE.split(REFERENCE)
    (entry,) = (below for found, below in zip(parts[1::2], parts[2::2], strict=True) if found == name)
    entry = entry.partition("\n## ")[0]
    assert any(re.search(rf"\b{name}\b", example) for example in EXAMPLE.findall(entry))


@pytest.mark.usefixtures("registries")
def test_the_examples_print_what_the_page_says():
    tiny = "onnx_model(LayerMasking(torch.nn.Conv2d(3, 2, 3).eval()),"  # the exporter takes seconds for each layer
    text = "\n".join(EXAMPLE.findall(INTRODUCTION + REFERENCE)).replace("onnx_model(masked,", tiny)
    program = doctest.DocTestParser().get_doctest(text, {}, "reference.md", None, 0)
    said: list[str] = []
    with torch.random.fork_rng(devices=[]):
        doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(program, out=said.append)
    assert "".join(said) == ""
