"""The names that `import maskrobust` offers."""

import ast
from pathlib import Path

import pytest

import maskrobust


@pytest.mark.parametrize("name", dir(maskrobust))
def test_every_name_that_is_listed_is_there_without_another_import(name: str) -> None:
    assert maskrobust.__getattr__(name) is not None


def test_type_checkers_see_the_names_that_are_there() -> None:
    tree = ast.parse(Path(maskrobust.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    named = {f"{each.module}.{each.names[0].name}" for each in block.body if isinstance(each, ast.ImportFrom)}
    assert named == {f"maskrobust.{home}.{name}" for home, names in maskrobust._HOMES.items() for name in names}
