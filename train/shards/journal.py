"""What has been written so far: one line for each finished shard, so that a killed run resumes."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import ShardRecord
from maskrobust.train.data.shards.manifest import MANIFEST, Manifest, read_record
from maskrobust.train.data.shards.objects import ObjectTable
from maskrobust.train.storage.files import parse_json, read_json, write_json, write_text

_JOURNAL = "written.jsonl"


class Journal:
    """The records of finished shards: while shards are written, a journal stands in for the manifest.

    Args:
        folder: of the shards.
        settings: a manifest without shards; what it says must be what an earlier run in that folder was told.

    Raises:
        InputError: the folder holds, or was to hold, shards of other data or settings.
    """

    def __init__(self, folder: Path, settings: Manifest) -> None:
        self.folder, self.settings = folder, settings
        self._path = folder / _JOURNAL
        described, known = self._earlier()
        if described is not None and described != _described(settings):
            raise InputError(
                f"'{folder}' holds shards of other data or settings; choose another --out, or delete it to write them "
                "anew."
            )
        self._known = {record.name: record for record in known}
        lines = [_described(settings), *(record._asdict() for record in known)]
        write_text(self._path, "".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / MANIFEST).unlink(missing_ok=True)

    def known(self, name: str) -> ShardRecord | None:
        """What an earlier run, or this one, wrote under a name."""
        return self._known.get(name)

    def note(self, record: ShardRecord) -> None:
        """Remember a finished shard."""
        if self._known.get(record.name) != record:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(f"{json.dumps(record._asdict())}\n")
        self._known[record.name] = record

    def finish(
        self, splits: Mapping[Any, tuple[ShardRecord, ...]], objects: ObjectTable, shuffle_seed: int | None
    ) -> Manifest:
        """Write the objects of the samples and the manifest, now that all shards are there, and delete other shards."""
        for name in self._known.keys() - {record.name for records in splits.values() for record in records}:
            (self.folder / name).unlink(missing_ok=True)
        digest = objects.write(self.folder)
        manifest = replace(self.settings, splits=splits, objects=digest, shuffle_seed=shuffle_seed)
        write_json(self.folder / MANIFEST, manifest.to_json())
        self._path.unlink(missing_ok=True)
        return manifest

    def _earlier(self) -> tuple[Any, list[ShardRecord]]:
        """Settings and records of an earlier run; None and none where there was none."""
        path = self.folder / MANIFEST
        if path.is_file() and not self._path.is_file():
            manifest = Manifest.from_json(read_json(path), str(path))
            records = [record for shards in manifest.splits.values() for record in shards]
            return _described(manifest) | {"splits": list(manifest.splits)}, records
        return _read(self._path) if self._path.is_file() else (None, [])


def _described(manifest: Manifest) -> dict[str, Any]:
    """What decides the shards, as JSON gives it back."""
    content = manifest.to_json()
    del content["objects"], content["shuffle_seed"]  # known when all shards are there
    if manifest.resize is None:  # as journals were written before it could be given
        del content["resize"]
    described: dict[str, Any] = json.loads(json.dumps(content | {"splits": list(content["splits"])}))
    return described


def _read(path: Path) -> tuple[Any, list[ShardRecord]]:
    """The settings, and the records that can be read; a kill may have torn one."""
    first, *lines = path.read_bytes().splitlines() or [b""]
    settings: Any = "unreadable"
    records = []
    with suppress(ValueError):
        settings = parse_json(first)
    for line in lines:
        with suppress(ValueError):
            records.append(read_record(parse_json(line)))
    return settings, records
