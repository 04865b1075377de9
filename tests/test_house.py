"""The repository is whole: what it ships is found, declared, linked and layered; nothing names the machine it is on."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from importlinter.cli import lint_imports
from packaging.requirements import Requirement

import maskrobust
from maskrobust.configs import find_config
from tests.conftest import require_component

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("augment", "configs", "lm_modules", "train")
SETUPTOOLS = PROJECT["tool"]["setuptools"]
CONFIGS = sorted(path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "root")) + r")(?![\w-])")
REGISTRY_HOST = re.compile(r"\b(?:pypi|pythonhosted|debian|npmjs)" + r"\.org\b")


def repository_files():
    """Every file that is tracked, or would be once added."""
    require_component(ROOT / ".git", "run the tests in a git clone")
    require_component("git", "install git")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def relative_links(page):
    """Targets of a Markdown page's links and pictures that lie in the repository, code left out."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", page, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", prose) + re.findall(r"^\[[^\]]+\]:\s*(\S+)", prose, flags=re.MULTILINE)
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def imported_modules(package):
    """Top-level names of the third-party modules that a package imports."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"maskrobust"}


def distribution_name(requirement):
    """The normalised name that a requirement such as "Some_Name[extra]>=1" begins with."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_an_unknown_config_is_refused_in_one_sentence_that_lists_the_shipped_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="'no_such_config'") as refusal:
        find_config("no_such_config")
    message = str(refusal.value)
    assert all(name in message for name in CONFIGS)
    assert "\n" not in message
    with pytest.raises(FileNotFoundError, match="is a folder; give a YAML file"):
        find_config(str(tmp_path))


def test_the_installed_version_is_the_one_in_pyproject():
    assert metadata.version("maskrobust") == PROJECT["project"]["version"]


def test_the_citation_agrees_with_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format's schema 1.2.0 requires
    assert citation["cff-version"] == "1.2.0"
    project = PROJECT["project"]
    expected = (project["name"], project["version"], project["license"], project["description"], project["keywords"])
    assert tuple(citation[key] for key in ("title", "version", "license", "abstract", "keywords")) == expected


def test_the_changelog_has_a_section_for_this_version_or_for_what_comes_after_it():
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert PROJECT["project"]["version"] in sections[:2]


def folder_of(package):
    """Where a package as it is imported, such as "maskrobust.train.data", lies in the repository."""
    top = ".".join(package.split(".")[:2])
    return ROOT.joinpath(SETUPTOOLS["package-dir"][top], *package.split(".")[2:])


def test_every_file_inside_a_package_is_installed_with_it():
    installed = {path for package in SETUPTOOLS["packages"] for path in folder_of(package).glob("*.py")}
    for package, globs in SETUPTOOLS["package-data"].items():
        installed.update(path for pattern in globs for path in folder_of(package).glob(pattern))
    inside = {path for path in repository_files() if path.relative_to(ROOT).parts[0] in (*PACKAGES, "maskrobust")}
    assert inside - installed == set()


def required_by(line):
    """Names of the distributions that a declared one always brings along."""
    declared = Requirement(line)
    extras = declared.extras | {""}
    for each in map(Requirement, metadata.requires(declared.name) or ()):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
            yield distribution_name(each.name)


def test_every_import_is_a_declared_dependency_or_comes_with_one():
    extras = {name: lines for name, lines in PROJECT["project"]["optional-dependencies"].items() if name != "dev"}
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    declared = {distribution_name(line) for line in lines}
    declared |= {name for line in PROJECT["project"]["dependencies"] for name in required_by(line)}
    providers = metadata.packages_distributions()
    undeclared = [
        f"{package}: {module}"
        for package in PACKAGES
        for module in imported_modules(package) - {"triton"}  # which comes with torch's CUDA builds
        if declared.isdisjoint(distribution_name(name) for name in providers.get(module, ()))
    ]
    assert undeclared == []


def test_no_file_names_a_machine_path_or_a_registry():
    found = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, start=1)
            if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)
        ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_resolves(page):
    links = relative_links(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


PUBLIC_DESPITE_UNDERSCORE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}  # of typing.NamedTuple


def test_imports_keep_to_the_contracts(monkeypatch):
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # it would switch every other logger off
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True) == 0


def test_no_folder_reaches_into_the_private_names_of_another():
    assert [
        each
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*.py")
        for each in foreign_private_names(path.read_text(encoding="utf-8"), folder)
    ] == []


def foreign_private_names(source, own):
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


def is_private(name):
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC_DESPITE_UNDERSCORE


def test_a_misspelt_name_is_told_the_nearest_one():
    with pytest.raises(
        AttributeError, match=r"^maskrobust has no name 'LayerMaskin' \(did you mean LayerMasking\?\)\.$"
    ):
        maskrobust.LayerMaskin  # noqa: B018
    assert not hasattr(maskrobust, "nothing_like_it")


def test_importing_the_package_alone_imports_no_library():
    program = "import maskrobust, sys; print(*{'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""
