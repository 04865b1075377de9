"""The manifest of a folder of shards: what they hold. It may come from anyone, so everything in it is checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import LARGEST_SHARD, ShardRecord, open_address
from maskrobust.train.storage.files import LARGEST_JSON, parse_json
from maskrobust.train.types import Split

MANIFEST = "manifest.json"
_FORMAT = "maskrobust shards 1"
_MOST_CLASSES = 100_000
_LONGEST_NAME = 255
_LARGEST_SIZE = 2**62
_LARGEST_SIDE = 2**31
_SMALLEST_SAMPLE = 1024  # the header and one block of a file


class _FaultError(Exception):
    """What is wrong with a manifest."""


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    Attributes:
        class_names: in label order.
        mean: of the training pixels, in [0, 1].
        std: their standard deviation.
        source: what the shards were written from: the data module's class path and arguments.
        samples_per_shard: in all shards of a split but its last.
        splits: shards of each split, in order.
        resize: shorter side in pixels that larger images were reduced to; None where they were stored as they are.
        objects: SHA-256 of the file that says which samples show one object (`shard_objects`); None where none do.
        shuffle_seed: samples are in the order of `shard_format.order_keys` of this seed; None where they may be sorted,
            by class for example.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: Mapping[str, Any]
    samples_per_shard: int
    splits: Mapping[Split, tuple[ShardRecord, ...]]
    resize: int | None = None
    objects: str | None = None
    shuffle_seed: int | None = None

    @property
    def samples(self) -> int:
        """How many there are in all splits."""
        return sum(record.samples for records in self.splits.values() for record in records)

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        splits = {
            split: {"samples": sum(each.samples for each in records), "shards": [each._asdict() for each in records]}
            for split, records in self.splits.items()
        }
        names = ("class_names", "mean", "std", "source", "samples_per_shard", "resize", "objects", "shuffle_seed")
        known = {name: getattr(self, name) for name in names}
        return {"format": _FORMAT, **known, "splits": splits}

    @classmethod
    def from_json(cls, content: Any, address: str) -> "Manifest":
        """Understand the content of manifest.json.

        Args:
            content: as `to_json` made it.
            address: where it is from, for messages.

        Raises:
            InputError: it is of another format, or holds a name, number or digest that `to_json` does not write.
        """
        try:
            _expect(isinstance(content, dict) and content.get("format") == _FORMAT, "format", _FORMAT)
            splits = _mapping(content, "splits")
            _expect(splits.keys() <= set(get_args(Split)), "splits", f"those of {', '.join(get_args(Split))}")
            return cls(
                _class_names(content),
                _colours(content, "mean", lowest=0.0),
                _colours(content, "std", lowest=1e-6),
                _mapping(content, "source"),
                _whole_number(content, "samples_per_shard", 1, LARGEST_SHARD),
                {split: _records(split, _mapping(splits, split)) for split in get_args(Split) if split in splits},
                None if content.get("resize") is None else _whole_number(content, "resize", 1, _LARGEST_SIDE),
                None if content.get("objects") is None else _digest(content, "objects", "objects"),
                None if content.get("shuffle_seed") is None else _whole_number(content, "shuffle_seed", 0, 2**63 - 1),
            )
        except _FaultError as error:
            raise InputError(
                f"'{address}' must be a manifest of the format '{_FORMAT}', but is not ({error}); write the shards "
                "with maskrobust shards."
            ) from error


def read_manifest(root: str) -> Manifest:
    """The manifest of a folder of shards.

    Args:
        root: as for `open_address`.

    Raises:
        InputError: it cannot be read, or is of another format.
    """
    try:
        with open_address(root, MANIFEST) as stream:
            content = parse_json(stream.read(LARGEST_JSON + 1))
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{root}' must hold {MANIFEST}, which cannot be read ({error}); check root, or write the shards with "
            "maskrobust shards."
        ) from error
    return Manifest.from_json(content, f"{root}/{MANIFEST}")


def read_record(content: Any) -> ShardRecord:
    """A shard's record, as its `_asdict` gives it.

    Raises:
        ValueError: it is none.
    """
    name = content.get("name") if isinstance(content, dict) else None
    split = name.partition("-")[0] if isinstance(name, str) else ""
    try:
        _expect(split in get_args(Split), "the name of a shard", "that of a split")
        return _record(content, split)
    except _FaultError as error:
        raise ValueError(str(error)) from error


def _records(split: str, content: Mapping[str, Any]) -> tuple[ShardRecord, ...]:
    shards = content.get("shards")
    _expect(isinstance(shards, list), f"splits.{split}.shards", "a list")
    return tuple(_record(each, split) for each in shards or ())


def _record(content: Any, split: str) -> ShardRecord:
    fields = {"made_from", *content} if isinstance(content, dict) else set()  # which earlier versions did not write
    _expect(fields == set(ShardRecord._fields), "a shard", "its six entries")
    name = content["name"]
    is_name = isinstance(name, str) and re.fullmatch(rf"{split}-[0-9]{{6,12}}\.tar", name)
    _expect(bool(is_name), "the name of a shard", f"as in {split}-000000.tar")
    size = _whole_number(content, "bytes", 0, _LARGEST_SIZE)
    samples = _whole_number(content, "samples", 0, min(LARGEST_SHARD, size // _SMALLEST_SAMPLE))
    digest = _digest(content, "sha256", f"sha256 of {name}")
    made_from = None if content.get("made_from") is None else _digest(content, "made_from", f"made_from of {name}")
    return ShardRecord(name, samples, _whole_number(content, "masks", 0, samples), size, digest, made_from)


def _class_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    names = content.get("class_names")
    if not isinstance(names, list) or not 1 <= len(names) <= _MOST_CLASSES:
        raise _FaultError(f"class_names must be 1 to {_MOST_CLASSES} names")
    if not all(isinstance(each, str) and len(each) <= _LONGEST_NAME for each in names):
        raise _FaultError(f"class_names must be texts of at most {_LONGEST_NAME} characters")
    return tuple(names)


def _colours(content: Mapping[str, Any], name: str, lowest: float) -> tuple[float, float, float]:
    numbers = content.get(name)
    if not isinstance(numbers, list) or len(numbers) != 3 or not all(_is_number(each, lowest) for each in numbers):
        raise _FaultError(f"{name} must be three numbers in [{lowest:g}, 1]")
    red, green, blue = (float(each) for each in numbers)
    return red, green, blue


def _is_number(value: object, lowest: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and lowest <= value <= 1


def _mapping(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    if not isinstance(found, dict):
        raise _FaultError(f"{name} must be a mapping")
    return found


def _whole_number(content: Mapping[str, Any], name: str, lowest: int, highest: int) -> int:
    number = content.get(name)
    if type(number) is not int or not lowest <= number <= highest:
        raise _FaultError(f"{name} must be a whole number in [{lowest}, {highest}]")
    return number


def _digest(content: Mapping[str, Any], name: str, called: str) -> str:
    digest = content.get(name)
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise _FaultError(f"{called} must be 64 hexadecimal digits")
    return digest


def _expect(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise _FaultError(f"{name} must be {expected}")
