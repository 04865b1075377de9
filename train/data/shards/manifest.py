"""What lies beside shards: their manifest, and where some samples show one object, the file that says which.

Both may come from anyone, so everything in them is checked. The file of objects holds little-endian int64 numbers: the
ids, ascending, of the samples whose object is not numbered as they are, and then the objects of these, as many.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import LARGEST_SHARD, Digest, ShardRecord, open_address
from maskrobust.train.storage.files import LARGEST_JSON, atomic_path, parse_json
from maskrobust.train.types import Split

MANIFEST = "manifest.json"

_LONGEST_REASON = 300

_Mean = Annotated[float, Field(strict=True, ge=0, le=1)]
_Deviation = Annotated[float, Field(strict=True, ge=1e-6, le=1)]

OBJECTS = "objects.bin"

_PIECE = 2**20
_NUMBER = np.dtype("<i8")
_LARGEST = 2**28  # bytes: those of 16 million samples, whatever a manifest says it holds


class SplitRecord(BaseModel):
    """The shards of a split, in order."""

    model_config = ConfigDict(frozen=True)

    shards: Annotated[tuple[ShardRecord, ...], Field(min_length=1)]

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's manual has it
    @property
    def samples(self) -> int:
        """How many they hold."""
        return sum(each.samples for each in self.shards)

    @property
    def masks(self) -> int:
        """How many of their samples have an object mask."""
        return sum(each.masks for each in self.shards)


class Manifest(BaseModel):
    """What a folder of shards holds.

    Attributes:
        class_names: in label order.
        mean: of the training pixels, in [0, 1].
        std: their standard deviation.
        source: what the shards were written from: the data module's class path and arguments.
        samples_per_shard: in all shards of a split but its last.
        splits: shards of each split.
        resize: shorter side in pixels that larger images were reduced to; None where they were stored as they are.
        objects: SHA-256 of the file that says which samples show one object (`objects`); None where none do.
        shuffle_seed: samples are in the order of `format.order_keys` of this seed; None where they may be sorted, by
            class for example.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["maskrobust shards 1"] = "maskrobust shards 1"
    class_names: Annotated[tuple[Annotated[str, Field(max_length=255)], ...], Field(min_length=1, max_length=100_000)]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    source: Mapping[str, Any]
    samples_per_shard: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SHARD)]
    splits: Mapping[Split, SplitRecord]
    resize: Annotated[int, Field(strict=True, ge=1, le=2**31)] | None = None
    objects: Digest | None = None
    shuffle_seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] | None = None

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for split, record in self.splits.items():
            for shard in record.shards:
                if not shard.name.startswith(f"{split}-"):
                    raise ValueError(f"{shard.name} is no shard of {split}")
        return self

    @property
    def samples(self) -> int:
        """How many there are in all splits."""
        return sum(record.samples for record in self.splits.values())


def read_manifest(root: str) -> Manifest:
    """The manifest of a folder of shards.

    Args:
        root: as for `open_address`.

    Raises:
        InputError: it cannot be read, is of another format, or holds a name, number or digest that is none of a shard.
    """
    try:
        with open_address(root, MANIFEST) as stream:
            content = parse_json(stream.read(LARGEST_JSON + 1))
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{root}' must hold {MANIFEST}, which cannot be read ({error}); check root, or write the shards with "
            "maskrobust shards."
        ) from error
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"] if re.fullmatch(r"\w{1,40}", str(each)))
        raise InputError(
            f"'{root}/{MANIFEST}' must be a manifest as maskrobust shards writes it, but is not "
            f"({f'{place}: ' if place else ''}{first['msg']}"[:_LONGEST_REASON]
            + "); write the shards again."
        ) from error


class ObjectTable(NamedTuple):
    """The objects of some samples; any other sample is an object of its own, numbered by its id.

    Attributes:
        ids: (N,) int64, ascending.
        objects: (N,) int64.
    """

    ids: Tensor
    objects: Tensor

    @classmethod
    def of(cls, parts: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """The table of samples whose ids (N,) and objects (N,) come in parts."""
        ids, objects = map(torch.cat, zip(*parts, strict=True))
        shared = (objects != ids).nonzero()[:, 0]
        order = shared[ids[shared].argsort()]
        return cls(ids[order], objects[order])

    def object_of(self, ids: Tensor) -> Tensor:
        """The object (N,) of each sample (N,), int64."""
        if not len(self.ids):
            return ids
        known, objects = self.ids.to(ids.device), self.objects.to(ids.device)
        places = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return torch.where(known[places] == ids, objects[places], ids)

    def write(self, folder: Path) -> str | None:
        """Write the file, atomically, and return its SHA-256; None, and no file, for an empty table."""
        if not len(self.ids):
            return None
        content = np.stack([self.ids.numpy(), self.objects.numpy()]).astype(_NUMBER).tobytes()
        with atomic_path(folder / OBJECTS) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()


def read_objects(root: str, sha256: str | None, samples: int) -> ObjectTable:
    """The objects of samples in shards.

    Args:
        root: as for `open_address`.
        sha256: of the file, in hexadecimal digits; None where there is none, so that the table is empty.
        samples: of all splits; no more can be in the file.

    Raises:
        InputError: it cannot be read, is another file, or its ids do not ascend.
    """
    if sha256 is None:
        return ObjectTable(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    largest = min(2 * samples * _NUMBER.itemsize, _LARGEST)
    content = bytearray()
    try:
        with open_address(root, OBJECTS) as stream:
            while len(content) <= largest and (piece := stream.read(_PIECE)):
                content += piece
        if len(content) > largest or hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its size or its checksum is another")
        numbers: NDArray[np.int64] = np.frombuffer(content, _NUMBER).astype(np.int64).reshape(2, -1)
        if not (np.diff(numbers[0]) > 0).all():
            raise ValueError("its ids do not ascend")
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{root}' must hold the {OBJECTS} that its manifest names by its checksum, but does not ({error}); "
            "write the shards again with maskrobust shards."
        ) from error
    return ObjectTable(*torch.from_numpy(numbers))
