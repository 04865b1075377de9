"""What a command says of its progress without a terminal."""

import io
import time

import pytest
from rich.console import Console

from maskrobust.train.running import progress as module
from maskrobust.train.running.progress import CountingDisplay, stage


def display(**options):
    written = io.StringIO()
    return CountingDisplay(Console(file=written, width=20, **options)), written


def wait_for(is_there):
    for _ in range(500):
        if is_there():
            return
        time.sleep(0.02)
    raise AssertionError("nothing was written for ten seconds")


@pytest.fixture
def fast(monkeypatch):
    """Lines at each look, the first of which comes with the first estimate."""
    monkeypatch.setattr(module, "_SECONDS_A_LOOK", 0.01)
    monkeypatch.setattr(module, "SECONDS_A_LINE", 0.1)


def test_without_a_terminal_lines_say_what_is_done_and_what_is_left(fast):
    progress, written = display()
    with progress:
        task = progress.add_task("asking about images", total=400, completed=3)
        wait_for(lambda: "asking about images: 3 of 400, 0 s so far\n" in written.getvalue())
        progress.advance(task)
        time.sleep(0.01)
        progress.advance(task)
        wait_for(lambda: "asking about images: 5 of 400, about" in written.getvalue())
        with stage(progress, "computing [bold] intervals"):
            wait_for(lambda: "left; computing [bold] intervals: 0 s so far\n" in written.getvalue())
    assert written.getvalue().endswith("\n") and "\x1b" not in written.getvalue()


def test_a_quiet_console_gets_nothing(fast):
    progress, written = display(quiet=True)
    with progress:
        progress.add_task("asking about images", total=4)
        time.sleep(0.3)
    assert written.getvalue() == ""
