"""Every fault of messages.md, tried: what the user is told, and that nothing is lost."""

import hashlib
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.train.faults.cases import SECTIONS, Case
from tests.train.faults.inputs import CHECKPOINT, CLAIM, CUES, EVALUATE, WRITE_SHARDS, write_inputs
from tests.train.test_cli import sentence_of

PAGE = Path(__file__).parent / "messages.md"
CASES = {title: case for cases in SECTIONS.values() for title, case in cases.items()}


def documented():
    """Section, fault and message of every row of the page's tables."""
    for section, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for fault, message in re.findall(r"^\| (.+?) \| `(.+)` \|$", body, re.MULTILINE):
            yield section, fault, message


def fits(sentence, documented_sentence):
    """Whether a sentence is the documented one, where ... is what libraries say, or what differs from run to run."""
    return re.fullmatch(".*".join(map(re.escape, documented_sentence.split("..."))), sentence) is not None


def files():
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path().rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return write_inputs(folder)


def test_the_page_lists_the_faults_that_are_tried():
    listed = [(section, fault) for section, fault, _ in documented()]
    assert listed == [(section, title) for section, cases in SECTIONS.items() for title in cases]


@pytest.mark.parametrize("title", CASES)
def test_a_fault_is_told_in_one_sentence_and_nothing_is_lost(title, inputs, tmp_path, monkeypatch, capsys):
    case: Case = CASES[title]
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    case.spoil()
    before = files()
    sentence = sentence_of(case.command, capsys).replace(f"{tmp_path}/", "")
    after = files()
    assert {name: after.get(name) for name in before} == before, "nothing is lost or changed"
    added = [name for name in after if name not in before]
    assert [name for name in added if not any(fnmatch(name, pattern) for pattern in case.leaves)] == []

    assert not Path("executed").exists()
    message = {fault: message for _, fault, message in documented()}[title]
    assert fits(sentence, message), f"{sentence}\nis not\n{message}"


@pytest.mark.parametrize(
    "command",
    [
        ["fit", *CUES, "--trainer.default_root_dir=/proc/x"],
        [*EVALUATE, f"--network={CHECKPOINT}", "--out=/proc/x"],
        ["explain", "--config=cues.yaml", f"--network={CHECKPOINT}", "--out=/proc/x"],
        ["export", f"--network={CHECKPOINT}", "--out=/proc/x"],
        ["masks", "--config=cues.yaml", "--out=/proc/x"],
        [*WRITE_SHARDS, "--out=/proc/x"],
        [*CLAIM, "--out=/proc/x"],
    ],
    ids=lambda command: command[0],
)
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_computed(command, inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    before = files()
    assert re.fullmatch(
        r"'/proc/x(/cues)?' must be a folder that can be written to, but '/proc' takes no files "
        r"\(No such file or directory\); choose another path, or change its permissions.",
        sentence_of(command, capsys),
    )
    assert files() == before
