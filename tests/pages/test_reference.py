"""The reference page names all that is public, once, and its examples print what they say."""

import doctest
import re
from types import ModuleType

import pytest
import torch

import maskrobust
from tests.test_house import ROOT

PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
PUBLIC = [name for name in maskrobust.__all__ if not isinstance(getattr(maskrobust, name), ModuleType)]
DIRECTIVE = re.compile(r"^::: maskrobust\.(?:\w+\.)*(\w+)$", flags=re.MULTILINE)
EXAMPLE = re.compile(r"^```pycon\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def test_every_public_name_has_its_place_in_the_reference():
    assert sorted(DIRECTIVE.findall(PAGE)) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_example_below_it(name):
    parts = DIRECTIVE.split(PAGE)
    (entry,) = (below for found, below in zip(parts[1::2], parts[2::2], strict=True) if found == name)
    entry = entry.partition("\n## ")[0]
    assert any(re.search(rf"\b{name}\b", example) for example in EXAMPLE.findall(entry))


@pytest.mark.usefixtures("registries")
def test_the_examples_print_what_the_page_says():
    program = doctest.DocTestParser().get_doctest("\n".join(EXAMPLE.findall(PAGE)), {}, "reference.md", None, 0)
    said: list[str] = []
    with torch.random.fork_rng(devices=[]):
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(program, out=said.append)
    assert "".join(said) == ""
