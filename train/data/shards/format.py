"""The format of shards: tar files in WebDataset's convention, and a JSON manifest that says what they hold.

A sample is the files KEY.json, KEY.jpg (or another suffix of images) and, where it has an object mask, KEY.mask.png,
one after the other. KEY is its id in 19 digits; KEY.json repeats the id, and tells the label and whether there is a
mask. All of it may come from anyone, so everything in it is checked.
"""

import re
import shlex
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, Self, cast

import fsspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from webdataset.gopen import gopen, gopen_schemes

from maskrobust.errors import InputError
from maskrobust.train.storage.files import LARGEST_JSON, parse_json
from maskrobust.train.types import Split

LARGEST_SHARD = 10**6
"""Most samples of a shard."""

LARGEST_FILE = 256 * 2**20
"""Most bytes of a file in a shard."""

MANIFEST = "manifest.json"

KEY_DIGITS = 19
MASK_SUFFIX, LABEL_SUFFIX = "mask.png", "json"

_FILES_OF_A_SAMPLE = 3
_FILE_NAME = re.compile(rf"[0-9]{{{KEY_DIGITS}}}\.[a-z0-9]+(\.png)?")
_LONGEST_REASON = 300

_Id = Annotated[int, Field(ge=0, lt=2**63)]
_Mean = Annotated[float, Field(strict=True, ge=0, le=1)]
_Deviation = Annotated[float, Field(strict=True, ge=1e-6, le=1)]


class ShardRecord(BaseModel):
    """What is known of one shard; a stranger may have written it.

    Attributes:
        name: name of the file, below the folder of shards.
        samples: how many are in it.
        masks: how many of them have an object mask.
    """

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=r"^(train|val|test)-[0-9]{6,12}\.tar$")]
    samples: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SHARD)]
    masks: Annotated[int, Field(strict=True, ge=0, le=LARGEST_SHARD)]


class Manifest(BaseModel):
    """What a folder of shards holds.

    Attributes:
        class_names: names of the classes, in label order; none of images without labels.
        mean: mean of the training pixels, in [0, 1].
        std: standard deviation of the training pixels.
        source: what the shards were written from: the data module's class path and arguments.
        splits: shards of each split, in order.
        objects: the object that a sample shows, by its id, where that is not numbered as the sample is.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["maskrobust shards 2"] = "maskrobust shards 2"
    class_names: Annotated[tuple[Annotated[str, Field(max_length=255)], ...], Field(max_length=100_000)]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    source: Mapping[str, Any]
    splits: Mapping[Split, Annotated[tuple[ShardRecord, ...], Field(min_length=1)]]
    objects: Mapping[_Id, _Id] = {}

    @model_validator(mode="after")
    def _names_and_counts_fit(self) -> Self:
        for split, shard in ((split, shard) for split, shards in self.splits.items() for shard in shards):
            if not shard.name.startswith(f"{split}-") or shard.masks > shard.samples:
                raise ValueError(f"{shard.name} with {shard.masks} masks of {shard.samples} samples is none of {split}")
        return self

    def count(self, split: Split) -> tuple[int, int]:
        """How many samples a split has, and how many of them have an object mask."""
        shards = self.splits[split]
        return sum(each.samples for each in shards), sum(each.masks for each in shards)


def read_manifest(root: str) -> Manifest:
    """The manifest of a folder of shards.

    Args:
        root: folder or URL, as for `open_address`.

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


class _Header(tarfile.TarInfo):
    """The header of a file in a shard: a regular file with a name and of a size that a shard may have.

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
        return self.parts.get(LABEL_SUFFIX)

    @property
    def mask_file(self) -> bytes | None:
        """The PNG of the object mask."""
        return self.parts.get(MASK_SUFFIX)

    @property
    def image_file(self) -> bytes | None:
        """The image, whatever its suffix."""
        others = (content for suffix, content in self.parts.items() if suffix not in (LABEL_SUFFIX, MASK_SUFFIX))
        return next(others, None)


def read_shard(stream: BinaryIO, is_wanted: Callable[[int], bool] | None = None) -> Iterator[TarSample]:
    """The samples of a shard in order, one in memory at a time.

    Args:
        stream: the tar file; if it can seek, unwanted files are skipped.
        is_wanted: for a sample's position in the shard, whether its files are to be read; None reads all.

    Raises:
        tarfile.TarError, OSError: the stream ends early, is no tar file, or holds what shards do not.
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


def open_address(root: str, name: str) -> BinaryIO:
    """Open a file of a data set, wherever that is.

    Args:
        root: a folder; or an address that WebDataset takes (https:, pipe:, gs:, hf:, ...) or else fsspec does (s3:,
            ...), in which "{}" stands for the file's name, or which that name is added to. After pipe: it is a command
            for the shell.
        name: name of the file; the shell takes it as one word.

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
