"""Read WebDataset's tar shards as streams of batches.

Shards may come from anyone. Nothing in them is executed, and nothing is written to disk.
"""

import logging
import os
import shlex
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count, cycle, islice
from operator import itemgetter
from pathlib import Path
from random import Random
from re import match
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset.cache import FileCache
from webdataset.filters import shuffle
from webdataset.gopen import gopen, gopen_schemes, set_options
from webdataset.shardlists import expand_urls
from webdataset.tariterators import group_by_keys

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, MissingFileError, UnreadableError
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES, decode_mask
from maskrobust.train.data.files.reading import Reading, check_shown
from maskrobust.train.data.loading import Position, collate
from maskrobust.train.data.transforms import Transform
from maskrobust.train.storage.files import parse_json, printable

Encoded = dict[str, Any]
"""A sample as WebDataset groups it: "__key__", "__url__", and the bytes of each file by its suffix."""

_SHARDS = ("*.tar", "*.tar.gz", "*.tgz")
_MOST_BAD_IN_A_ROW = 1000
_log = logging.getLogger("pytorch_lightning.shards")  # shown as Lightning's own lines are

gopen_schemes.setdefault("s3", lambda url, *_: gopen(f"pipe:aws s3 cp {shlex.quote(url)} -"))


def shard_urls(given: str | Sequence[str]) -> list[str]:
    """The shards that a user names, in order.

    Args:
        given: paths, folders of shards, or URLs that WebDataset opens, in its notation with braces, variables and "::";
            or a list of these. s3:// is opened by the command "aws s3 cp".

    Raises:
        MissingFileError: a file is not there, or a folder holds no shard.
        InputError: it is not in that notation.
    """
    try:
        named = [url for each in ([given] if isinstance(given, str) else given) for url in expand_urls(each)]
    except (AssertionError, ValueError) as error:
        raise InputError(f"'{given}' must be a list of shards, but is not ({error}); correct it.") from error
    urls = []
    for url in named:
        is_url = match("[a-z0-9]{2,}:", url)
        inside = [] if is_url else sorted(str(path) for pattern in _SHARDS for path in Path(url).glob(pattern))
        if not (is_url or inside or Path(url).is_file()):
            raise MissingFileError(f"'{url}' must be a shard, or a folder of {', '.join(_SHARDS)}; check the path.")
        urls += inside or [url]
    return urls


def sample_id(split: str, shard: str, key: str) -> int:
    """The id of a sample, in [-2^63, 2^63): 64 bits of a hash of its split, the name of its shard, and its key."""
    name = "\0".join((split, shard, key)).encode(errors="backslashreplace")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big", signed=True)


class _Header(tarfile.TarInfo):
    """A header; tarfile takes a shard that breaks off between two files, or has a broken header, for a whole one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        """Parse a block of 512 bytes; a ReadError where it is neither a header nor the mark of the end."""
        try:
            return super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]  # as tarfile itself does
        except tarfile.HeaderError as error:
            if buf and not any(buf):
                raise
            raise tarfile.ReadError(f"it has {bytes(buf[:20])!r} where a header or its end belongs") from error


def _files(stream: Any, url: str) -> Iterator[Encoded]:
    """The regular files of a tar file, but those whose names begin with "__", as WebDataset groups them."""
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as tar:
        for header in tar:
            file = tar.extractfile(header) if header.isreg() and not header.name.startswith("__") else None
            if file is not None:
                yield {"fname": header.name, "data": file.read(), "__url__": url}
            tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the shard
    while stream.read(2**20):
        pass  # so that a command can end by itself


def _open(url: str) -> Any:
    """A shard as WebDataset opens it, from its cache where the environment names one."""
    if (folder := os.environ.get("WDS_CACHE")) is None:
        return gopen(url)
    size = int(os.environ.get("WDS_CACHE_SIZE", "-1"))
    # its own names are equal for two folders
    named = FileCache(folder, cache_size=size, url_to_name=lambda url: f"{blake2b(url.encode()).hexdigest()[:32]}.tar")
    return open(named.get_file(url), "rb")


def read_shard(url: str) -> Iterator[Encoded]:
    """The samples of a shard in order, one in memory at a time; a key that comes again gets a zero byte and its number.

    Raises:
        InputError: it cannot be opened or read to its end, holds no sample, or has two files of one name together.
    """
    stream: Any = None
    samples, keys = 0, Counter[str]()

    def status() -> int:
        """That of the command that fetches it, where one does and it has ended."""
        return getattr(stream, "status", None) or 0

    try:
        with closing(_open(url)) as stream:
            set_options(stream, ignore_errors=True)  # a command may be ended before it has written all
            for sample in group_by_keys(_files(stream, url)):
                samples += 1
                keys[key := sample["__key__"]] += 1
                if keys[key] > 1:
                    sample["__key__"] = f"{key}\0{keys[key]}"  # another sample, which needs an id of its own
                yield sample
        if not samples or status():
            raise ValueError("it holds no sample")
    except (tarfile.TarError, OSError, EOFError, ValueError, AssertionError) as error:
        said = (error.strerror or "it cannot be fetched") if isinstance(error, OSError) else [*error.args, error][0]
        why = _one_line(f"what fetches it ended with status {status()}" if status() else said)
        raise UnreadableError(
            f"the shard '{_one_line(url)}' cannot be read after {samples} samples ({why}); copy or write it again."
        ) from error


def _one_line(text: object) -> str:
    return printable(f"{text}"[:200]).replace("\n", r"\n")


@dataclass
class SampleReader:
    """What the files of a sample mean.

    Attributes:
        split: the split, for ids.
        place: what the URLs of all its shards begin with; the rest is the name of a shard.
        classes: number of each class by its name; none where labels are not read.
        label_field: the field of the file "json" that holds the label; None to read the file "cls".
        mask: suffix of the object mask.
        visible: suffix of the mask of what is visible; None where none has one.
        reading: how images are read.
        transform: makes the views.
        seed: decides them, with a sample's id and the epoch.
        skip: whether a sample that cannot be read is passed over.
        skipped: how many this process has passed over.
    """

    split: str
    place: str
    classes: dict[str, int]
    label_field: str | None
    mask: str
    visible: str | None
    reading: Reading
    transform: Transform
    seed: int
    skip: bool
    skipped: int = 0

    def label(self, sample: Encoded) -> str:
        """A label as it is written; empty where there is none."""
        if self.label_field is None:
            return str(sample.get("cls", b"").decode().strip())
        fields = parse_json(sample.get("json", b"{}"))
        return str(fields.get(self.label_field, "")) if isinstance(fields, dict) else ""

    def id(self, sample: Encoded) -> int:
        """The id of a sample; see `sample_id`."""
        return sample_id(self.split, sample["__url__"].removeprefix(self.place), sample["__key__"])

    def decode(self, sample: Encoded, epoch: int = 0) -> Batch:
        """A sample as a `Batch` whose tensors lack the leading dimension; its label is -1 where none are read.

        Its view follows from (seed, id, epoch).

        Raises:
            InputError: something is wrong with it, which the message says, with its shard and key.
        """
        name = _one_line(f"{sample['__url__']}/{sample['__key__']}")
        try:
            images = [suffix for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES]
            images = [suffix for suffix in images if suffix != "npy" or len(images) == 1]  # features, beside an image
            if len(images) != 1:
                raise ValueError(f"{len(images)} images in {[*sample][2:]}, where one belongs")
            label = self._number(self.label(sample)) if self.classes else -1
            image, visible = self.reading.decode(sample[images[0]], name)
            suffixes = [each for each in (self.mask, self.visible) if each in sample]
            masks = {each: decode_mask(sample[each], "binary", f"{name}.{each}") for each in suffixes}
            for mask in masks.values():
                if (size := [*image.shape[1:]]) != (size_of_mask := [*mask.shape[1:]]):
                    raise ValueError(f"an image of {size} pixels (height, width), but a mask of {size_of_mask}")
            object_mask = masks.get(self.mask, torch.zeros_like(image[:1], dtype=torch.bool))
            if self.visible is not None:
                visible = masks.get(self.visible)
                if visible is None or not visible.any():
                    raise ValueError(f"no pixel that '{self.visible}' says to be visible")
        except InputError:
            raise
        except ValueError as error:
            why = f"'{name}' has {_one_line(error)}"
            raise UnreadableError(f"{why}; correct it, or skip such samples by data.on_bad.") from error
        whole = Batch(torch.tensor(self.id(sample)), image, object_mask, torch.tensor(label), visible)
        seen = self.transform.of_sample(whole, self.seed, epoch)
        if self.transform.given == "none":
            check_shown(seen, name)
        return seen

    def _number(self, label: str) -> int:
        if not label:
            raise ValueError(f"no label ({self.label_field or 'cls'})")
        number = self.classes.get(label, int(label) if label.isdecimal() else -1)
        if number not in range(len(self.classes)):
            raise ValueError(f"the label '{label}', which is none of the {len(self.classes)} data.classes")
        return number

    def decoded(self, samples: Iterable[Encoded], epoch: int = 0) -> Iterator[Batch]:
        """Samples as `decode` makes them, but for those that are passed over.

        The first, second, fourth, eighth, ... of these is logged, with their number so far.

        Raises:
            InputError: a sample cannot be read, and is not to be passed over; or 1000 in a row cannot.
        """
        in_a_row = 0
        for sample in samples:
            try:
                yield self.decode(sample, epoch)
                in_a_row = 0
            except InputError as error:
                in_a_row += 1
                if not self.skip or in_a_row == _MOST_BAD_IN_A_ROW:
                    raise
                self.skipped += 1
                if self.skipped.bit_count() == 1:
                    _log.warning(f"{self.split}: {self.skipped} skipped by this process so far, the last one: {error}")


def from_anywhere(urls: Sequence[str], most: int, draws: Random) -> Iterator[Encoded]:
    """All samples again and again, in shards of a random order, from a random sample on.

    Each sample is equally likely to be the first one, and so to be any other: none is read less often, wherever an
    epoch ends. For that a shard and a place below `most` are drawn until the shard reaches to that place.

    Args:
        urls: the shards.
        most: samples in the largest shard, at most; of a larger one the first so many can be the first one.
        draws: random numbers.
    """
    order, first = [*urls], None
    while first is None:
        draws.shuffle(order)
        begun = islice(read_shard(order[0]), draws.randrange(most), None)
        first = next(begun, None)
    yield first
    yield from begun
    for url in cycle([*order[1:], order[0]]):
        yield from read_shard(url)


@dataclass(eq=False)
class TrainingStream(IterableDataset[Batch]):
    """A fixed number of batches for each epoch, the same on every rank.

    Each loader process of each rank reads all shards in an order of its own, `from_anywhere` on, through WebDataset's
    shuffle buffer. The batches w, w + n, w + 2 n, ... of an epoch are those of process w of n. What a process reads is
    a function of (seed, rank, w, epoch, and the batch of the epoch that the training goes on with).

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples per batch.
        steps: batches per epoch.
        most: samples in the largest shard, at most.
        seed: seed for the order.
        rank: rank of this process among those that train.
        shuffle_buffer: encoded samples in the buffer, at least 1; as many are in the memory of each loader process.

    Attributes:
        position: where the next pass starts.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    steps: int
    most: int
    seed: int
    rank: int
    shuffle_buffer: int
    position: Position = field(default=Position(-1, 0))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        """Batches up to the end of the epoch: all of them, or in a loader process its part."""
        worker, position = get_worker_info(), self.position
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        draws = Random(f"{self.seed} {self.rank} {place} {position.epoch} {position.batches}")
        encoded = shuffle(self.shuffle_buffer, rng=draws)(from_anywhere(self.urls, self.most, draws))
        samples = self.reader.decoded(encoded, position.epoch)
        for _ in range(position.batches + place, self.steps, workers):
            yield collate(islice(samples, self.batch_size))


@dataclass(eq=False)
class EvaluationStream(IterableDataset[tuple[int, Batch]]):
    """Batches of a split with their numbers from 0, every sample once over all ranks and loader processes.

    Each loader process reads all shards, and decodes the samples of its own batches alone. So batches are the same on
    any number of processes, and each rank has as many, however few the shards are. Only where a rank has no sample of a
    batch that others have, one comes twice: ids tell.

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples of one rank in a batch, at most.
        masks_only: leave samples without an object mask out, but for the first.
        rank: rank of this process among those that share each batch.
        ranks: number of these processes.
        numbers: numbers of the batches that are wanted.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    masks_only: bool = False
    rank: int = 0
    ranks: int = 1
    numbers: range = range(sys.maxsize)

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        worker = get_worker_info()
        wanted = self.numbers[worker.id :: worker.num_workers] if worker else self.numbers
        every = enumerate(sample for url in self.urls for sample in read_shard(url))
        samples = (each for place, each in every if not self.masks_only or self.reader.mask in each or not place)
        for number in count():
            turn = [*islice(samples, self.batch_size * self.ranks)]
            if not turn:
                return
            if number in wanted:
                others = (each for place, each in enumerate(turn) if place % self.ranks != self.rank)
                own = [*self.reader.decoded(turn[self.rank :: self.ranks])]
                if own := own or [*islice(self.reader.decoded(others), 1)]:
                    yield number, collate(own)


class EvaluationLoader(DataLoader[Any]):
    """A loader of an `EvaluationStream` that leaves the numbers out."""

    def __iter__(self) -> Any:
        return map(itemgetter(1), super().__iter__())
