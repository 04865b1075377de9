"""The form of shards: tar files in WebDataset's convention, and beside them a manifest.

A sample is the files KEY.json, KEY.jpg (or another suffix of images) and, where it has an object mask, KEY.mask.png,
one after the other. KEY is its id in 19 digits; KEY.json repeats the id, and tells the label and whether there is a
mask. Where some samples show one object, a file of little-endian int64 numbers says which: the ids, ascending, of the
samples whose object is not numbered as they are, and then the objects of these, as many. All of it may come from
anyone, so everything in it is checked.
"""

import hashlib
import json
import re
import shlex
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, Self, cast

import fsspec
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator
from torch import Tensor
from webdataset.gopen import gopen, gopen_schemes
from webdataset.writer import TarWriter

from maskrobust.augment.random import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.base import EncodedSample
from maskrobust.train.storage.files import LARGEST_JSON, atomic_path, parse_json
from maskrobust.train.types import Split

LARGEST_SHARD = 10**6
"""Most samples of a shard."""

SHUFFLE_SEED = 0
"""Of the order in which samples are written; see `order_keys`."""

LARGEST_FILE = 256 * 2**20
"""Most bytes of a file in a shard."""

_SMALLEST_SAMPLE = 1024  # the header and one block of a file
_KEY_DIGITS = 19
_FILES_OF_A_SAMPLE = 3
_MASK_SUFFIX, _LABEL_SUFFIX = "mask.png", "json"
_FILE_NAME = re.compile(rf"[0-9]{{{_KEY_DIGITS}}}\.[a-z0-9]+(\.png)?")


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256, in hexadecimal digits."""


class ShardRecord(BaseModel):
    """What is known of one shard; a stranger may have written it.

    Attributes:
        name: of the file, below the folder of shards.
        samples: how many are in it.
        masks: how many of them have an object mask.
        bytes: size of the file.
        sha256: of the file, in hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^(train|val|test)-[0-9]{6,12}\.tar$")]
    samples: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SHARD)]
    masks: Annotated[int, Field(strict=True, ge=0)]
    bytes: Annotated[int, Field(strict=True, le=2**62)]
    sha256: Digest

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.masks > self.samples or self.samples > self.bytes // _SMALLEST_SAMPLE:
            raise ValueError(f"{self.name} cannot hold {self.samples} samples and {self.masks} masks")
        return self


class _Header(tarfile.TarInfo):
    """The header of a file in a shard: a regular file with a name and of a size that `write_shard` may have given it.

    tarfile reads links, devices, sparse files and long names as it meets them, whatever size they claim to have; this
    refuses a header before anything is read on its account.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        """Go on behind the header, where tarfile has every header that it meets pass, in all versions of Python.

        Raises:
            tarfile.ReadError: it is none of a shard.
        """
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not _FILE_NAME.fullmatch(self.name):
            raise tarfile.ReadError(f"'{self.name}' is no file of a sample")
        if not 0 <= self.size <= LARGEST_FILE:
            raise tarfile.ReadError(f"'{self.name}' has {self.size} bytes, and at most {LARGEST_FILE >> 20} MiB may be")
        member: Self = super()._proc_member(archive)  # type: ignore[misc]  # which its own comments let one override
        return member


class TarSample(NamedTuple):
    """The files of one sample in a shard.

    Attributes:
        key: what their names begin with.
        parts: content by the rest of the name; empty content where the sample was not wanted.
    """

    key: str
    parts: dict[str, bytes]

    @property
    def label_file(self) -> bytes | None:
        """The JSON with id, label, and whether there is a mask."""
        return self.parts.get(_LABEL_SUFFIX)

    @property
    def mask_file(self) -> bytes | None:
        """The PNG of the object mask."""
        return self.parts.get(_MASK_SUFFIX)

    @property
    def image_file(self) -> bytes | None:
        """The image, whatever its suffix."""
        others = (content for suffix, content in self.parts.items() if suffix not in (_LABEL_SUFFIX, _MASK_SUFFIX))
        return next(others, None)


def shard_name(split: Split, number: int) -> str:
    """The file name of a split's shard."""
    return f"{split}-{number:06d}.tar"


def order_keys(ids: Tensor) -> Tensor:
    """Keys (N,) int64, functions of the ids (N,) alone; samples sorted by them are in random order."""
    return sample_keys(SHUFFLE_SEED, ids)


def write_shard(path: Path, samples: Iterable[EncodedSample]) -> ShardRecord:
    """Write a shard, atomically. The same samples give the same bytes, at any time and for any user.

    Raises:
        InputError: two samples have the same id.
    """
    keys: set[str] = set()
    masks = 0
    with atomic_path(path) as temporary:
        with (
            temporary.open("wb") as file,
            closing(TarWriter(file, user="", group="", compress=False, encoder=False, mtime=0)) as tar,
        ):
            for sample in samples:
                key = f"{sample.id:0{_KEY_DIGITS}d}"
                if key in keys:
                    raise InputError(f"ids must be unique, got {sample.id} twice for '{path.name}'; correct the data.")
                keys.add(key)
                masks += sample.object_mask is not None
                tar.write({"__key__": key, **_files_of(sample)})
        size, digest = temporary.stat().st_size, sha256_of(temporary)
    return ShardRecord(name=path.name, samples=len(keys), masks=masks, bytes=size, sha256=digest)


def _files_of(sample: EncodedSample) -> dict[str, bytes]:
    about = {"id": sample.id, "label": sample.label, "mask": sample.object_mask is not None}
    mask = {} if sample.object_mask is None else {_MASK_SUFFIX: sample.object_mask}
    return {_LABEL_SUFFIX: json.dumps(about).encode(), sample.suffix: sample.image, **mask}


def read_shard(stream: BinaryIO, is_wanted: Callable[[int], bool] | None = None) -> Iterator[TarSample]:
    """The samples of a shard in order, one in memory at a time.

    Args:
        stream: of the tar file; one that can seek skips what is not wanted.
        is_wanted: by the sample's position in the shard, whether its files are to be read; None reads all.

    Raises:
        tarfile.TarError, OSError: the stream ends early, is no tar file, or holds what `write_shard` does not write.
    """
    can_seek = getattr(stream, "seekable", bool)()
    current: TarSample | None = None
    position = -1
    with tarfile.open(fileobj=stream, mode="r:" if can_seek else "r|", tarinfo=_Header) as tar:
        while (member := tar.next()) is not None:
            key, _, suffix = member.name.partition(".")
            if current is None or key != current.key or suffix in current.parts:
                if current is not None:
                    yield current
                current, position = TarSample(key, {}), position + 1
            if len(current.parts) == _FILES_OF_A_SAMPLE:
                raise tarfile.ReadError(f"'{key}' has more than {_FILES_OF_A_SAMPLE} files")
            file = tar.extractfile(member) if is_wanted is None or is_wanted(position) else None
            current.parts[suffix] = b"" if file is None else file.read()
            tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the shard
    if current is not None:
        yield current


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_address(root: str, name: str) -> BinaryIO:
    """Open a file of a data set, wherever that is.

    Args:
        root: a folder; or an address that WebDataset takes (https:, pipe:, gs:, hf:, ...) or else fsspec does (s3:,
            ...), in which "{}" stands for the file's name, or which that name is added to. After pipe: it is a command
            for the shell.
        name: of the file; the shell takes it as one word.

    Raises:
        OSError: it cannot be opened.
        InputError: nothing that is installed opens such addresses.
    """
    name = shlex.quote(name) if root.startswith("pipe:") else name
    address = root.replace("{}", name) if "{}" in root else f"{root.rstrip('/')}/{name}"
    scheme = re.match(r"([a-z][a-z0-9+.-]+):", address)
    if scheme is None or scheme[1] in gopen_schemes.keys() | {"file"}:
        return cast(BinaryIO, gopen(address))
    try:
        opened: BinaryIO = fsspec.open(address, "rb").open()
    except ImportError as error:
        raise InputError(f"'{address}' cannot be opened ({error}); install that, or give a pipe: address.") from error
    return opened


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
