"""Whatever a file from a stranger holds: a result, or one sentence, and nothing else.

A run of the suite tries a few inputs of each kind, always the same ones; FUZZ_EXAMPLES=10000 tries so many others.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.guard import Tally, outcome
from tests.fuzz.kinds import KINDS, prepare


class Content(bytes):
    """The content of a file, in few words; the last one that failed lies where it was read."""

    def __repr__(self):
        return f"<{len(self)} bytes>"


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


@pytest.mark.timeout(24 * 3600 if EXAMPLES else 300)
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_ends_in_a_result_or_in_one_sentence(name, tmp_path, monkeypatch, capsys):
    kind, tally = KINDS[name], Tally()
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / kind.name
    path.parent.mkdir(exist_ok=True)

    @settings(
        max_examples=EXAMPLES or 8,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.files.map(Content))
    def try_one(content):
        path.write_bytes(content)
        tally[outcome(lambda: kind.read(path), tmp_path)] += 1

    try_one()
    assert not (tmp_path / "executed").exists() and not (tmp_path / "pwned").exists()
    if EXAMPLES:
        with capsys.disabled():
            print(f"\n{name}: {tally}")
