"""Time several ways to do the same in turns within one run, so that they can be compared."""

import gc
import multiprocessing
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from maskrobust.train.storage.files import write_json
from maskrobust.train.storage.provenance import device_name

Row = dict[str, Any]
JSON = Path("runs/bench.json")
"""Where the numbers are written by default."""

_WIDTH_IN_FILES = 1000  # of columns, at most: no name is cut

_PAGES_TO_BYTES = resource.getpagesize()
_KIB = 1024


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Call every function once in each round, after one round that does not count.

    Alternating runs share what else the machine does, so that ratios within a round are steadier than times.

    Args:
        functions: by name.
        rounds: number of calls of each, at least 1.
        device: waited for before and after each call.

    Returns:
        Seconds of each call, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            _wait_for(device)
            start = time.perf_counter()
            function()
            _wait_for(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in seconds.items()}


def median_ratio(times: list[float], baseline: list[float]) -> float:
    """Median over rounds of a time over the baseline's in the same round."""
    return statistics.median(one / other for one, other in zip(times, baseline, strict=True))


def count_waits(function: Callable[[], object], device: torch.device) -> int | None:
    """How often Python waits for a CUDA device in one call, as CUDA's sync debug mode counts; None elsewhere."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in found)


def peak_memory(make: Callable[[], Callable[[], object]], device: torch.device) -> int:
    """Bytes that a function takes at most, with what it was made of.

    On CUDA the allocator counts them. On a CPU a process of its own, forked before torch has started threads, makes and
    calls the function twice, and the growth of its resident memory counts, without that of libraries.

    Args:
        make: builds everything that the function needs, and returns it.
        device: what it runs on.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _call_twice(make)
        return torch.cuda.max_memory_allocated() - before
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(make, queue.put))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"the process that measures memory ended with {process.exitcode}; is memory exhausted?")
    growth: int = queue.get()
    return growth


def _measure(make: Callable[[], Callable[[], object]], report: Callable[[int], None]) -> None:
    resident, of_files = _resident_memory()
    _call_twice(make)
    loaded = _resident_memory()[1] - of_files
    report(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB - resident - loaded)


def _resident_memory() -> tuple[int, int]:
    """Resident bytes of this process, and those of them that are pages of files: libraries, loaded as they are used."""
    _, resident, of_files, *_ = Path("/proc/self/statm").read_text().split()
    return int(resident) * _PAGES_TO_BYTES, int(of_files) * _PAGES_TO_BYTES


def _call_twice(make: Callable[[], Callable[[], object]]) -> None:
    function = make()
    function()
    function()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(part: str, rows: Iterable[Row], device: torch.device, path: Path, **settings: Any) -> None:
    """Print rows as one table, and write them with machine and settings as JSON.

    Args:
        part: the name of the benchmark, which is the key of its settings and rows in the JSON.
        rows: at least one, all with the same keys, which are the columns.
        device: what was measured.
        path: of the JSON.
        settings: what else is written.
    """
    rows = list(rows)
    machine = f"{platform.machine()}, {device_name(device)}"
    write_json(path, {"machine": machine, "torch": torch.__version__, part: {**settings, "rows": rows}})
    table = Table(title=f"{part}; {machine}; torch {torch.__version__}")
    for column, value in rows[0].items():
        table.add_column(column.replace("_", " "), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*map(_written, row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    console.print(table)
    print(f"numbers: {path}")


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
