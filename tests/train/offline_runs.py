"""Offline runs of Weights & Biases, read back from the file that its service has written for `wandb sync`."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import MetricRecord, Record

BLOCK = 32768
HEADER = struct.calcsize("<IHB")


@dataclass
class OfflineRun:
    """What one file says: the run, its nested configuration, a dict for each row of its history; `started` in ns."""

    folder: Path
    id: str = ""
    name: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    started: int = 0
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def logged(self, name: str) -> list[Any]:
        """Every value of one name, in order."""
        return [row[name] for row in self.history if name in row]


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Every offline run below a folder, in the order in which they began; ends W&B's service, which may still write."""
    wandb.teardown()
    runs = [read_run(path) for path in folder.rglob("offline-run-*/run-*.wandb")]
    return sorted(runs, key=lambda run: run.started)


def read_run(path: Path) -> OfflineRun:
    """One run, from its .wandb file."""
    run = OfflineRun(path.parent)
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            given = record.run
            run.id, run.name, run.project, run.entity = given.run_id, given.display_name, given.project, given.entity
            run.group, run.tags, run.started = given.run_group, [*given.tags], given.start_time.ToNanoseconds()
            update(run.config, given.config.update)
        elif kind == "config":
            update(run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            update(row, record.history.item)
            run.history.append(row)
        elif kind == "metric":
            run.metrics[record.metric.name.replace("\\.", ".")] = record.metric
        elif kind == "summary":
            update(run.summary, record.summary.update)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def update(found: dict[str, Any], items: Any) -> None:
    """Set each item of a record, whose name may be a path."""
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = json.loads(item.value_json)


def records(content: bytes) -> Iterator[Record]:
    """The records of a LevelDB log (crc32, length and kind ahead of each piece), after W&B's own 7 bytes."""
    assert content[:4] == b":W&B"
    position, pieces = 7, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += HEADER
        pieces += content[position : position + length]
        position += length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield Record.FromString(pieces)
            pieces = b""
