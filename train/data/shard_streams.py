"""Read WebDataset's tar shards as streams of batches.

Shards may come from anyone. Nothing in them is executed, and nothing is written to disk.
"""

import logging
import math
import os
import shlex
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
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
from maskrobust.lm_modules.training.processes import of_all_ranks
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES, decode_mask
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.loading import Position, collate
from maskrobust.train.data.transforms import Transform
from maskrobust.train.storage.files import parse_json, printable

Encoded = dict[str, Any]
"""A sample as WebDataset groups it: "__key__", "__url__", and the bytes of each file by its suffix."""

_SHARDS = ("*.tar", "*.tar.gz", "*.tgz")
_MOST_BAD_IN_A_ROW = 1000
_GOLDEN = (5**0.5 - 1) / 2
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
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Read the next header; a ReadError where there is neither one nor the mark of the end."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark of the end; stubs leave it out
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it has no header of a file, nor an end, where one belongs: {error}") from error


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
        return self.transform.of_sample(whole, self.seed, epoch, name)

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


def read_part(urls: Sequence[str], begin: float, end: float) -> Iterator[Encoded]:
    """The samples of a part of some shards, where shard i fills the places from i to i + 1.

    Sample n of shard i has the place i + (n x .618...) mod 1, so places are even in each shard, however many samples it
    has. Parts that meet share a shard, and no sample: together they hold each sample once. Parts of whole shards are
    those of WebDataset's `split_by_node` and `split_by_worker`, which would give processes other numbers of shards, and
    no shard to some.

    Args:
        urls: the shards.
        begin: where the part begins, at least 0.
        end: where it ends, at most the number of shards.
    """
    for shard in range(int(begin), math.ceil(end)):
        for number, sample in enumerate(read_shard(urls[shard])):
            if begin - shard <= number * _GOLDEN % 1 < end - shard:
                yield sample


@dataclass(eq=False)
class TrainingStream(IterableDataset[Batch]):
    """A fixed number of batches for each epoch, the same on every rank, and each sample once where shards are alike.

    An epoch's shards are in a random order that all processes share. Of these the loader processes of all ranks have
    parts, as long as the batches of each need. Process w of n makes the batches w, w + n, w + 2 n, ... of the epoch, by
    WebDataset's shuffle buffer; a part that ends too early, as of shards with fewer samples, begins again, and of one
    that is too long the rest is not seen. What a batch holds is a function of (seed, rank, w, n, epoch, its number).

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples per batch.
        steps: batches per epoch.
        seed: seed for the order.
        rank: rank of this process among those that train.
        ranks: number of these.
        shuffle_buffer: encoded samples in the buffer, at least 1; as many are in the memory of each loader process.

    Attributes:
        position: where the next pass starts. What comes earlier in the epoch is read, and not decoded.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    steps: int
    seed: int
    rank: int
    ranks: int
    shuffle_buffer: int
    position: Position = field(default=Position(-1, 0))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Batches up to the end of the epoch: all of them, or in a loader process its part."""
        (epoch, done), (worker, workers) = self.position, _worker_and_number()
        place = (done + worker) % workers  # the loader takes its first batch from process 0
        parts = [len(range(each, self.steps, workers)) for each in range(workers)]
        before = self.rank * self.steps + sum(parts[:place])
        encoded = self._again_and_again(epoch, place, before, before + parts[place])
        read = self.batch_size * len(range(place, done, workers))
        if not self.reader.skip:  # else which samples make a batch is known once they are decoded
            encoded, read = islice(encoded, read, None), 0
        samples = islice(self.reader.decoded(encoded, epoch), read, None)
        for _ in range(done + worker, self.steps, workers):
            yield collate(islice(samples, self.batch_size))

    def _again_and_again(self, epoch: int, place: int, first: int, last: int) -> Iterator[Encoded]:
        """The shuffled samples of a part, which is told in batches, of those of all ranks."""
        urls, draws = [*self.urls], Random(f"{self.seed} {epoch} {self.rank} {place}")
        Random(f"{self.seed} {epoch}").shuffle(urls)
        begin, end = (each * len(urls) / (self.steps * self.ranks) for each in (first, last))
        while True:
            read = 0
            for sample in shuffle(self.shuffle_buffer, rng=draws)(read_part(urls, begin, end)):
                read += 1
                yield sample
            if not read:  # a part of a shard with few samples may hold none
                begin, end = int(begin), math.ceil(end)


@dataclass(eq=False)
class PartStream(IterableDataset[Batch]):
    """Batches of a split, every sample once over all ranks and loader processes, each of which reads its part alone.

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples in a batch, at most.
        rank: rank of this process among those that share the split.
        ranks: number of these.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[Batch]:
        worker, workers = _worker_and_number()
        number, processes = self.rank * workers + worker, self.ranks * workers
        begin, end = (each * len(self.urls) / processes for each in (number, number + 1))
        samples = self.reader.decoded(read_part(self.urls, begin, end))
        while own := [*islice(samples, self.batch_size)]:
            yield collate(own)


@dataclass(eq=False)
class WholeStream(IterableDataset[Any]):
    """All batches of a split, the same ones on any number of processes.

    Each loader process reads all shards, and decodes the samples of its own batches alone.

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples in a batch, at most.
        masks_only: leave samples without an object mask out, but for the first.
        numbers: numbers of the batches that are wanted, from 0, which then come with them; None for all without.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    masks_only: bool = False
    numbers: range | None = None

    def __iter__(self) -> Iterator[Any]:
        worker, workers = _worker_and_number()
        own = (range(sys.maxsize) if self.numbers is None else self.numbers)[worker::workers]
        every = enumerate(sample for url in self.urls for sample in read_shard(url))
        samples = (each for place, each in every if not self.masks_only or self.reader.mask in each or not place)
        for number, encoded in enumerate(iter(lambda: [*islice(samples, self.batch_size)], [])):
            if number in own and (decoded := [*self.reader.decoded(encoded)]):
                yield collate(decoded) if self.numbers is None else (number, collate(decoded))


def _worker_and_number() -> tuple[int, int]:
    """This loader process and the number of them; (0, 1) in the training process."""
    info = get_worker_info()
    return (info.id, info.num_workers) if info else (0, 1)


class EvenLoader(DataLoader[Any]):
    """A loader with as many batches on every rank: one that has no more repeats a sample, as its id tells.

    Networks on several processes wait for each other in every batch. In its first whole pass the ranks tell each other
    at each batch whether they have one; from then on their number is known.

    Args:
        dataset: the part of this rank.
        other: returns a batch where the part has none.
        options: options for a `DataLoader`.
    """

    def __init__(self, dataset: PartStream, other: Callable[[], Batch], **options: Any) -> None:
        super().__init__(dataset, **options)
        self.other = other
        self._number: int | None = None

    def __iter__(self) -> Any:
        own, repeated, number = super().__iter__(), None, 0
        while self._has_more(batch := next(own, None), number):
            repeated = batch or repeated or self.other()
            yield batch or repeated.select(slice(1))
            number += 1
        self._number = number

    def _has_more(self, batch: Batch | None, number: int) -> bool:
        return any(of_all_ranks(batch is not None)) if self._number is None else number < self._number
