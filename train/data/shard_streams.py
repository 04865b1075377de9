"""Read WebDataset's tar shards as streams of batches.

Shards may come from anyone. Nothing in them is executed, and nothing is written to disk.
"""

import logging
import math
import os
import shlex
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, count, islice, tee
from pathlib import Path
from random import Random
from re import match
from typing import Any, Self

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from webdataset.cache import FileCache
from webdataset.filters import shuffle
from webdataset.gopen import gopen, gopen_schemes, set_options
from webdataset.shardlists import ResampledShards, expand_urls
from webdataset.tariterators import group_by_keys

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES, View, decode_image, decode_mask
from maskrobust.train.data.loading import Loader, Position, PresentAhead, TrainingLoader, collate
from maskrobust.train.storage.files import parse_json, printable

Encoded = dict[str, Any]
"""A sample as WebDataset groups it: "__key__", "__url__", and the bytes of each file by its suffix."""

_SHARDS = ("*.tar", "*.tar.gz", "*.tgz")
_ENDED_BY_US = (0, 141, 23, -13)
"""Status of a command that was read to its end, and of a shell, of curl and of others that write to a closed pipe."""
_MOST_BAD_IN_A_ROW = 1000
_log = logging.getLogger("pytorch_lightning.shards")  # shown as Lightning's own lines are


def _open_s3(url: str, *_: object) -> Any:
    return gopen(f"pipe:aws s3 cp {shlex.quote(url)} -")


gopen_schemes.setdefault("s3", _open_s3)


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
        """Parse a block of 512 bytes.

        Raises:
            tarfile.ReadError: it is neither a header nor the mark of the end.
        """
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
    if "WDS_CACHE" not in os.environ:
        return gopen(url)
    cache = FileCache(
        os.path.expanduser(os.environ["WDS_CACHE"]),
        cache_size=int(os.environ.get("WDS_CACHE_SIZE", "-1")),
        url_to_name=lambda url: f"{blake2b(url.encode()).hexdigest()[:32]}.tar",  # its own are equal for two folders
    )
    return open(cache.get_file(url), "rb")


def read_shard(url: str) -> Iterator[Encoded]:
    """The samples of a shard in order, one in memory at a time.

    Raises:
        InputError: it cannot be opened or read to its end, holds no sample, or has two files of one name together.
    """
    stream: Any = None
    samples = 0
    try:
        with closing(_open(url)) as stream:
            set_options(stream, ignore_errors=True)  # a command may be ended before it has written all
            for sample in group_by_keys(_files(stream, url)):
                samples += 1
                yield sample
        if not samples or getattr(stream, "status", 0) not in _ENDED_BY_US:
            raise ValueError("it holds no sample")
    except (tarfile.TarError, OSError, EOFError, ValueError, AssertionError) as error:
        status = getattr(stream, "status", 0)
        said = (error.strerror or "it cannot be fetched") if isinstance(error, OSError) else [*error.args, error][0]
        why = said if status in _ENDED_BY_US else f"what fetches it ended with status {status}"
        raise InputError(
            f"the shard '{_one_line(url)}' cannot be read after {samples} samples ({_one_line(why)}); copy or write it "
            "again."
        ) from error


def _one_line(text: object) -> str:
    return printable(f"{text}"[:200]).replace("\n", r"\n")


@contextmanager
def _naming(sample: Encoded) -> Iterator[str]:
    """A sample's name; an `InputError` says with it what a `ValueError` says that the sample has."""
    name = _one_line(f"{sample['__url__']}/{sample['__key__']}")
    try:
        yield name
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"'{name}' has {_one_line(error)}; correct it, or skip such samples by data.on_bad."
        ) from error


@dataclass
class SampleReader:
    """What the files of a sample mean.

    Attributes:
        split: the split, for ids.
        place: what the URLs of all its shards begin with; the rest is the name of a shard.
        classes: number of each class by its name; none where labels are not read.
        label_field: the field of the file "json" that holds the label; None to read the file "cls".
        mask: suffix of the object mask.
        view: geometry of image and mask.
        skip: whether a sample that cannot be read is passed over.
        skipped: (number of loader processes, at least 1) int64, in shared memory: how many were, in this pass.
    """

    split: str
    place: str
    classes: dict[str, int]
    label_field: str | None
    mask: str
    view: View
    skip: bool
    skipped: torch.Tensor

    def label(self, sample: Encoded) -> str | int | None:
        """A label as it is written: a number, or the name of a class; None where there is none.

        Raises:
            InputError: it is neither.
        """
        with _naming(sample):
            if self.label_field is None:
                label = sample.get("cls", b"").decode().strip() or None
            else:
                fields = parse_json(sample.get("json", b"{}"))
                label = fields.get(self.label_field) if isinstance(fields, dict) else None
            if not isinstance(label, str | int | None):
                raise ValueError(f"the label {label}, where a number or the name of a class belongs")
            return int(label) if isinstance(label, str) and label.isdecimal() and label not in self.classes else label

    def decode(self, sample: Encoded) -> Batch:
        """A sample as a `Batch` whose tensors lack the leading dimension; its label is -1 where none are read.

        Raises:
            InputError: something is wrong with it, which the message says, with its shard and key.
        """
        with _naming(sample) as name:
            images = [suffix for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES]
            if len(images) != 1:
                raise ValueError(f"{len(images)} images in {[*sample][2:]}, where one belongs")
            label = self.label(sample) if self.classes else -1
            if label is None:
                raise ValueError(f"no label ({self.label_field or 'cls'})")
            number = self.classes.get(label, label) if isinstance(label, str) else label
            if self.classes and number not in range(len(self.classes)):
                raise ValueError(f"the label '{label}', which is none of the {len(self.classes)} data.classes")
            image = decode_image(sample[images[0]], name)
            object_mask = torch.zeros_like(image[:1], dtype=torch.bool)
            if self.mask in sample:
                object_mask = decode_mask(sample[self.mask], "binary", f"{name}.{self.mask}")
            size, size_of_mask = tuple(image.shape[1:]), tuple(object_mask.shape[1:])
            if size != size_of_mask:
                raise ValueError(f"an image of {size} pixels (height, width), but a mask of {size_of_mask}")
            key = sample_id(self.split, sample["__url__"].removeprefix(self.place), sample["__key__"])
            return Batch(torch.tensor(key), *self.view(image, object_mask), torch.tensor(int(number)))

    def decoded(self, samples: Iterable[Encoded]) -> Iterator[Batch]:
        """Samples as `decode` makes them, but for those that are passed over, of which the first is named.

        Raises:
            InputError: a sample cannot be read, and is not to be passed over; or 1000 in a row cannot.
        """
        worker, in_a_row = get_worker_info(), 0
        skipped = self.skipped[worker.id if worker else 0]
        for sample in samples:
            try:
                yield self.decode(sample)
                in_a_row = 0
            except InputError as error:
                in_a_row += 1
                if not self.skip or in_a_row == _MOST_BAD_IN_A_ROW:
                    raise
                if not skipped:
                    _log.warning(f"{self.split}: skipped, as others will be: {error}")
                skipped += 1

    def tell_skipped(self) -> None:
        """Log how many samples all loader processes have passed over in the pass that ends, if any."""
        if total := int(self.skipped.sum()):
            _log.warning(f"{self.split}: {total} samples that cannot be read were skipped")
        self.skipped.zero_()


def _samples(urls: Iterable[str]) -> Iterator[Encoded]:
    return chain.from_iterable(map(read_shard, urls))


@dataclass(eq=False)
class TrainingStream(IterableDataset[Batch]):
    """A fixed number of batches for each epoch, from shards drawn with replacement.

    Each loader process of each rank draws shards uniformly (WebDataset's `ResampledShards`). It leaves out up to a
    shard of samples, so that each place in a shard is equally likely however short the epoch, and shuffles the rest in
    WebDataset's buffer. The batches w, w + n, w + 2 n, ... of an epoch are those of process w of n. What a process
    reads is a function of (seed, rank, w, epoch, and the batch of the epoch that the training goes on with).

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples per batch.
        steps: batches per epoch, on every rank.
        samples_per_shard: mean number of samples in a shard.
        seed: seed for the choice of shards, their order and the crops.
        rank: rank of this process among those that train.
        shuffle_buffer: encoded samples in the buffer, at least 1; as many are in the memory of each loader process.

    Attributes:
        present_ahead: what the loader process does with a batch; None for nothing.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    steps: int
    samples_per_shard: int
    seed: int
    rank: int
    shuffle_buffer: int
    present_ahead: PresentAhead | None = None

    def __post_init__(self) -> None:
        self._position, self._next_epoch = torch.tensor(Position(0, 0)).share_memory_(), 0

    def begin(self, position: Position | None) -> None:
        """Let the passes that begin from now on start at a position, also in loader processes that are running.

        Args:
            position: position of the training; None for the start of the next epoch.
        """
        self._position.copy_(torch.tensor(position or Position(self._next_epoch, 0)))
        self._next_epoch = int(self._position[0]) + 1

    @property
    def position(self) -> Position:
        """Where the passes start that begin from now on."""
        return Position(*self._position.tolist())

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        """Batches up to the end of the epoch: all of them, or in a loader process its part."""
        worker, position = get_worker_info(), self.position
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        draws = Random(f"{self.seed} {self.rank} {place} {position.epoch} {position.batches}")
        shards = ResampledShards(self.urls, deterministic=True, seed=draws.getrandbits(63), worker_seed=int)
        encoded = islice(_samples(each["url"] for each in shards), draws.randrange(self.samples_per_shard), None)
        samples = self.reader.decoded(shuffle(self.shuffle_buffer, rng=draws)(encoded))
        batches = range(position.batches + place, self.steps, workers)
        for _, optimiser_step in zip(batches, islice(position.steps(), place, None, workers), strict=False):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(draws.getrandbits(63))
                batch = collate(islice(samples, self.batch_size))
            yield batch if self.present_ahead is None else self.present_ahead(batch, optimiser_step)


class ShardTrainingLoader(TrainingLoader):
    """A loader of a `TrainingStream` that tells with its last batch how many samples were skipped."""

    def __iter__(self) -> Any:
        stream: Any = self.dataset
        for number, batch in enumerate(super().__iter__(), 1):
            if number == stream.steps - stream.position.batches:
                stream.reader.tell_skipped()
            yield batch


@dataclass(eq=False)
class EvaluationBatches(Dataset[Batch | list[Batch] | None]):
    """The batches of a split by their number from 0, asked for in ascending order.

    Each process passes over the samples of batches that it is not asked for without decoding them.

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples in a batch, at most.
        rank: rank of this process among those that have the same numbers asked of them, and deal the samples.
        ranks: number of these processes.
        masks_only: leave samples without an object mask out, but for the first.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    rank: int
    ranks: int
    masks_only: bool

    def __post_init__(self) -> None:
        self._next, self._samples = math.inf, iter(list[Encoded]())

    def __getitem__(self, number: int) -> Batch | list[Batch] | None:
        """This rank's samples of a batch of all ranks; empty where none can be read, None behind the last batch.

        Only where a rank has no sample of a batch that others have, one comes twice: ids tell.
        """
        if number < self._next:
            samples = enumerate(_samples(self.urls))
            wanted = (each for place, each in samples if not self.masks_only or self.reader.mask in each or not place)
            self._next, self._samples = 0, wanted
        whole = self.batch_size * self.ranks
        passed = int(number - self._next) * whole
        turn = [*islice(self._samples, passed, passed + whole)]
        self._next = number + 1
        own = [*self.reader.decoded(turn[self.rank :: self.ranks] or turn[-1:])]
        if not own and self.ranks > 1:  # the others may have one
            uncounted = replace(self.reader, skipped=torch.zeros_like(self.reader.skipped))
            own = [*islice(uncounted.decoded(turn), 1)]
        return (collate(own) if own else []) if turn else None


class EvaluationLoader:
    """Loads `EvaluationBatches`, all or those with some numbers.

    Args:
        batches: the batches.
        options: options for a `DataLoader`.
    """

    def __init__(self, batches: EvaluationBatches, **options: Any) -> None:
        self._batches, self._options = batches, options
        self._loader = self._loading(range(sys.maxsize))

    def __iter__(self) -> Iterator[Batch]:
        return (batch for _, batch in self._read(count(), self._loader))

    def numbered(self, numbers: Iterator[int]) -> Iterator[tuple[int, Batch]]:
        """Batches with these numbers, ascending from 0, as far as there are any, each with its number."""
        asked, named = tee(numbers)
        return self._read(named, self._loading(asked))

    def _loading(self, numbers: Iterable[int]) -> Loader[Batch]:
        return Loader(self._batches, sampler=numbers, **self._options)  # type: ignore[arg-type]  # any iterable will do

    def _read(self, numbers: Iterator[int], loader: Loader[Batch]) -> Iterator[tuple[int, Batch]]:
        for number, batch in zip(numbers, loader, strict=False):
            if batch is None:
                break
            if batch:
                yield number, batch
        self._batches.reader.tell_skipped()
