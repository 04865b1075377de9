"""Imports go one way, by the contracts in `pyproject.toml`; private names stay in their folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
FOLDERS = ("augment", "configs", "lm_modules", "train")
PUBLIC_DESPITE_UNDERSCORE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # of typing.NamedTuple


def test_imports_keep_to_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # it would switch every other logger off
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True) == 0


def test_no_folder_reaches_into_the_private_names_of_another() -> None:
    assert [
        each
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for each in foreign_private_names(path.read_text(encoding="utf-8"), folder)
    ] == []


def foreign_private_names(source: str, own: str) -> Iterator[str]:
    """Names with a leading underscore that a module of the folder `own` takes from another folder of maskrobust."""
    tree, foreign = ast.parse(source), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            top, *inner = f"{module}.{alias.name}".strip(".").split(".")
            if top == "maskrobust" and inner[0] != own:
                foreign.add(alias.asname or (alias.name if module else top))
                yield from filter(is_private, inner)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in foreign:
                yield ast.unparse(node)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC_DESPITE_UNDERSCORE
