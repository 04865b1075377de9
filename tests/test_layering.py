"""Imports go one way: augment <- lm_modules <- train; configs serves train. Private names stay in their package."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "augment": set(),
    "configs": set(),
    "lm_modules": {"augment"},
    "train": {"augment", "configs", "lm_modules"},
}
NOT_INSTALLED = {"scripts", "tests"}
PUBLIC_DESPITE_UNDERSCORE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # of typing.NamedTuple
MODULES = sorted(path.relative_to(ROOT) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str, str]]:
    """Every import as (line, absolute dotted name, name that it binds)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, alias.asname or alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}", alias.asname or alias.name


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC_DESPITE_UNDERSCORE


def root_of(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def violations(source: str, path: Path) -> list[str]:
    """What the module at `path`, relative to the repository, imports or touches against the rules."""
    own, tree = path.parts[0], ast.parse(source)
    found, foreign = [], set()
    for line, dotted, bound in imports(tree, ".".join(("maskrobust", *path.parent.parts))):
        top, *inner = dotted.split(".")
        if top in MAY_IMPORT:
            found.append(f"{path}:{line}: {dotted} is imported as maskrobust.{dotted}")
        if top == "maskrobust" and inner and inner[0] in MAY_IMPORT:
            top, *inner = inner
        elif top not in NOT_INSTALLED | {"maskrobust"}:
            continue
        if top == own:
            continue
        foreign.add(bound)
        if top not in MAY_IMPORT[own] and top in MAY_IMPORT.keys() | NOT_INSTALLED:
            found.append(f"{path}:{line}: {own} must not import {dotted}")
        if any(is_private(part) for part in inner):
            found.append(f"{path}:{line}: {dotted} is private to {top}")
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr))
    return found + [
        f"{path}:{node.lineno}: {ast.unparse(node)} is private to another package"
        for node in attributes
        if root_of(node) in foreign
    ]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_keeps_to_the_layering(path):
    assert violations((ROOT / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_package_has_modules_to_check(package):
    assert any(path.parts[0] == package for path in MODULES)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("augment/policy.py", "import maskrobust.lm_modules"),
        ("augment/policy.py", "def f():\n    from maskrobust.train.cli import main"),
        ("augment/policy.py", "from maskrobust.configs import find_config"),
        ("lm_modules/masking/wrapper.py", "import maskrobust.train.cli as cli"),
        ("lm_modules/masking/wrapper.py", "from maskrobust.configs import find_config"),
        ("configs/__init__.py", "import maskrobust.augment"),
        ("train/fit.py", "import augment"),
        ("train/fit.py", "from train.data import Cues"),
        ("train/cli.py", "from tests.conftest import require_component"),
        ("train/cli.py", "from maskrobust.augment.random import _mix"),
        ("train/cli.py", "from maskrobust.augment import _tables"),
        ("train/cli.py", "import maskrobust.augment._tables.small"),
        ("train/cli.py", "from maskrobust.augment import random\nrandom._mix(keys)"),
        ("train/cli.py", "import maskrobust.augment.random\nmaskrobust.augment.random._mix(keys)"),
    ],
)
def test_a_breach_is_found(path, source):
    assert len(violations(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("train/cli.py", "import maskrobust.augment, maskrobust.configs"),
        ("lm_modules/masking/wrapper.py", "from maskrobust.augment.batch import Batch\nBatch._fields"),
        ("lm_modules/masking/wrapper.py", "from .._private import _name"),
        ("lm_modules/masking/wrapper.py", "from maskrobust.lm_modules.masking.rules import _table"),
        ("lm_modules/masking/wrapper.py", "import torch\ntorch._dynamo.reset()"),
        ("augment/policy.py", "from maskrobust.augment import __version__\nself._own = 1"),
        ("augment/policy.py", "from trains import engine"),
    ],
)
def test_what_is_allowed_is_not_a_breach(path, source):
    assert violations(source, Path(path)) == []
