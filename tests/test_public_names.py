"""The names that `import maskrobust` offers."""

import subprocess
import sys

import pytest

import maskrobust


@pytest.mark.parametrize("name", maskrobust.__all__)
def test_every_name_of_the_stub_is_there_without_another_import(name: str) -> None:
    assert getattr(maskrobust, name) is not None


def test_importing_the_package_alone_imports_no_library() -> None:
    program = "import maskrobust, sys; print(*{'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""
