"""The form of shards: tar files in WebDataset's convention.

A sample is the files KEY.json, KEY.jpg (or another suffix of images) and, where it has an object mask, KEY.mask.png,
one after the other. KEY is its id in 19 digits; KEY.json repeats the id, and tells the label and whether there is a
mask.
"""

import hashlib
import json
import re
import shlex
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, Self, cast

import fsspec
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from webdataset.gopen import gopen, gopen_schemes
from webdataset.writer import TarWriter

from maskrobust.augment.random import sample_keys
from maskrobust.errors import InputError
from maskrobust.train.data.base import EncodedSample
from maskrobust.train.storage.files import atomic_path
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
