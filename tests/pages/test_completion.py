"""The page on completion: its function completes commands and options."""

import subprocess

import pytest

from tests.pages.commands import blocks
from tests.test_house import ROOT

STAND_IN = """maskrobust() {
    case $1 in
        --help) printf '%s\\n' 'usage: ...' '  fit        train' '  evaluate   measure' '  maskrobust fit --x 1  y' ;;
        evaluate) printf '%s\\n' 'usage: [--methods M] [--model.merge M]' '  -h, --help' '  --methods M  which.' ;;
    esac
}
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["maskrobust", ""], ["fit", "evaluate"]),
        (["maskrobust", "e"], ["evaluate"]),
        (["maskrobust", "evaluate", "--m"], ["--methods", "--model.merge"]),
        (["maskrobust", "evaluate", "--h"], ["--help"]),
        (["maskrobust", "evaluate", "--methods", "bl"], []),
    ],
    ids=" ".join,
)
def test_the_function_of_the_page_completes(typed: list[str], offered: list[str]) -> None:
    (function,) = (block.text for block in blocks(ROOT / "docs" / "completion.md") if block.language == "sh")
    asked = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _maskrobust; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "-c", STAND_IN + function + asked, "bash", *typed]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (offered, "")
