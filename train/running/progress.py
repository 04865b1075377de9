"""Show progress: bars on a terminal, and otherwise a line every half minute."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_A_LINE = 30.0
"""Between two lines; the first comes earlier, with the first estimate of a longer time."""

_SECONDS_A_LOOK = 0.5
_WHOLE_RUN = 24.0 * 3600.0


class CountingDisplay(Progress):
    """A bar, a count and times for each task; nothing of it stays when it ends.

    Without a terminal it writes a line each half minute: what is done of each task, and how long the rest takes. A
    quiet console gets nothing.

    Args:
        console: the console to write to.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
            auto_refresh=console.is_terminal,  # else `track` would count in a thread that a disabled display ends
            speed_estimate_period=_WHOLE_RUN,
        )
        self._ended = threading.Event()
        self._writer: threading.Thread | None = None

    def start(self) -> None:
        """Begin to show progress."""
        super().start()
        if self.disable and not self.console.quiet:
            self._writer = threading.Thread(target=self._write_lines, daemon=True)
            self._writer.start()

    def stop(self) -> None:
        """Show no more."""
        self._ended.set()
        if self._writer is not None:
            self._writer.join()
        super().stop()

    def _write_lines(self) -> None:
        start, estimated = self.get_time(), set[int]()
        while not self._ended.wait(_SECONDS_A_LOOK):
            tasks = [task for task in self.tasks if task.visible and not task.finished]
            new = {task.id for task in tasks if (task.time_remaining or 0.0) >= SECONDS_A_LINE} - estimated
            if tasks and (new or self.get_time() - start >= SECONDS_A_LINE):
                self.console.print("; ".join(map(_line, tasks)), markup=False, highlight=False, soft_wrap=True)
                start = self.get_time()
                estimated |= new


@contextmanager
def stage(progress: Progress, description: str) -> Iterator[None]:
    """Show a part of a command that counts nothing, while it lasts."""
    task = progress.add_task(description, total=None)
    try:
        yield
    finally:
        progress.remove_task(task)


def _line(task: Task) -> str:
    """As in "asking about images: 3 of 40, 12 min left"."""
    done = f"{int(task.completed)} of {int(task.total)}" if task.total else f"{int(task.completed)}"
    left = task.time_remaining
    time = f"{_duration(task.elapsed or 0.0)} so far" if left is None else f"about {_duration(left)} left"
    return f"{task.description}: {', '.join([done] * bool(task.total or task.completed) + [time])}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class ClaimProgress(CountingDisplay):
    """Runs of a claim that are finished, epochs of the one under way, batches of its evaluation.

    A live display as a context manager; on a stream that is no terminal, lines: for each run, and now and then.

    Args:
        console: the console to write to.
        runs: number of runs of the whole claim.

    Attributes:
        all_runs: the task that counts runs.
        current: the task that counts steps of what `begin` has named.
    """

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console)
        self.all_runs = self.add_task("all runs", total=runs)
        self.current = self.add_task("", total=None, visible=False)

    def begin(self, activity: str, what: str) -> None:
        """Say what begins: an activity such as "training", and of what."""
        if not self.console.is_terminal:
            self.console.print(f"{activity:<10} {what}", markup=False)
        self.reset(self.current, description=f"{activity} {what}", total=None, visible=True)
