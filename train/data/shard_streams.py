"""Read WebDataset's tar shards as streams of batches.

Shards may come from anyone. Nothing in them is executed, and nothing is written to disk.
"""

import logging
import os
import shlex
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from random import Random
from re import fullmatch, match
from typing import Any, Self

import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.cache import FileCache
from webdataset.filters import shuffle
from webdataset.gopen import gopen, gopen_schemes, set_options
from webdataset.shardlists import ResampledShards, expand_urls, split_by_worker
from webdataset.tariterators import group_by_keys

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES, View, decode_image, decode_mask
from maskrobust.train.data.loading import Position, PresentAhead, collate
from maskrobust.train.storage.files import parse_json, printable

Encoded = dict[str, Any]
"""A sample as WebDataset groups it: "__key__", "__url__", and the bytes of each file by its suffix."""

_SHARDS = (".tar", ".tar.gz", ".tgz")
_ENDED_BY_US = {0, 141, 23, -13}
"""Status of a command that was read to its end, and of a shell, of curl and of others that write to a closed pipe."""
_MOST_BAD_IN_A_ROW = 1000
_log = logging.getLogger("pytorch_lightning.shards")  # shown as Lightning's own lines are


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
        if match("[a-z0-9]{2,}:", url):
            is_s3 = url.startswith("s3:") and "s3" not in gopen_schemes
            urls.append(f"pipe:aws s3 cp {shlex.quote(url)} -" if is_s3 else url)
            continue
        inside = sorted(str(path) for path in Path(url).glob("*") if path.name.endswith(_SHARDS))
        if not inside and not Path(url).is_file():
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
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            found = f"{bytes(buf[:20])!r} in place of a header" if buf else "no mark of its end"
            raise tarfile.ReadError(f"it has {found}") from error


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
    return next(iter(cache([{"url": url}])))["stream"]


def _close(stream: Any) -> int | None:
    """Close a shard; the status of the command that fetches it where that is an error."""
    is_command = set_options(stream, ignore_errors=True)
    if stream is not None:
        stream.close()
    return stream.status if is_command and stream.status not in _ENDED_BY_US else None


def read_shard(url: str) -> Iterator[Encoded]:
    """The samples of a shard in order, one in memory at a time.

    Raises:
        InputError: it cannot be opened or read to its end, holds no sample, or has a key or a file twice.
    """
    stream: Any = None
    keys: set[str] = set()
    try:
        stream = _open(url)
        set_options(stream, ignore_errors=True)
        for sample in group_by_keys(_files(stream, url)):
            if sample["__key__"] in keys:
                raise ValueError(f"the files of the key '{sample['__key__']}' do not follow each other, or come twice")
            keys.add(sample["__key__"])
            yield sample
        if not keys or _close(stream):
            raise ValueError("it holds no sample")
    except (tarfile.TarError, OSError, EOFError, ValueError, AssertionError, RecursionError) as error:
        said = [*error.args, error][0] if not isinstance(error, OSError) else error.strerror or "it cannot be fetched"
        why = said if (status := _close(stream)) is None else f"what fetches it ended with status {status}"
        raise InputError(
            f"the shard '{_one_line(url)}' cannot be read after {len(keys)} samples ({_one_line(why)}); copy or write "
            "it again."
        ) from error
    finally:
        _close(stream)


@dataclass
class SampleReader:
    """What the files of a sample mean.

    Attributes:
        split: the split, for ids.
        place: what the URLs of all its shards begin with; the rest is the name of a shard.
        classes: names of the classes; none where labels are not read.
        label_field: the field of the file "json" that holds the label; None to read the file "cls".
        mask: suffix of the object mask.
        view: geometry of image and mask.
        skip: whether a sample that cannot be read is passed over.
        bad: how many were, in this process.
    """

    split: str
    place: str
    classes: Sequence[str]
    label_field: str | None
    mask: str
    view: View
    skip: bool
    bad: int = 0

    def label(self, sample: Encoded) -> int | str | None:
        """A label as it is written, a number or the name of a class; None where there is none.

        Raises:
            InputError: it is neither.
        """
        with _named(sample):
            if self.label_field is None:
                found = sample["cls"].decode().strip() if "cls" in sample else None
            else:
                content = parse_json(sample.get("json", b"null"))
                found = content.get(self.label_field) if isinstance(content, dict) else None
            if isinstance(found, bool) or not isinstance(found, int | str | None):
                raise ValueError(f"the label {found}, where a number or the name of a class belongs")
        return int(found) if isinstance(found, str) and fullmatch("[0-9]{1,9}", found) else found

    def decode(self, sample: Encoded) -> Batch:
        """A sample as a `Batch` whose tensors lack the leading dimension; its label is -1 where none are read.

        Raises:
            InputError: something is wrong with it, which the message says, with its shard and key.
        """
        images = [each for each in sample if f".{each}" in IMAGE_SUFFIXES]
        label = self.label(sample) if self.classes else -1
        number = self.classes.index(label) if isinstance(label, str) and label in self.classes else label
        with _named(sample) as name:
            if len(images) != 1:
                raise ValueError(f"{len(images)} images in {[*sample][2:]}, where one belongs")
            if number is None:
                raise ValueError(f"no label ({self.label_field or 'cls'})")
            if self.classes and number not in range(len(self.classes)):
                raise ValueError(f"the label '{label}', which is none of the {len(self.classes)} data.classes")
        image = decode_image(sample[images[0]], name)
        if self.mask in sample:
            object_mask = decode_mask(sample[self.mask], "binary", f"{name}.{self.mask}")
        else:
            object_mask = torch.zeros_like(image[:1], dtype=torch.bool)
        size, size_of_mask = tuple(image.shape[1:]), tuple(object_mask.shape[1:])
        with _named(sample):
            if size != size_of_mask:
                raise ValueError(f"an image of {size} pixels (height, width), but a mask of {size_of_mask}")
        key = sample_id(self.split, sample["__url__"].removeprefix(self.place), sample["__key__"])
        return Batch(torch.tensor(key), *self.view(image, object_mask), torch.tensor(number))

    def decoded(self, samples: Iterable[Encoded]) -> Iterator[Batch]:
        """Samples as `decode` makes them, but for those that are passed over; the 1st, 2nd, 4th, 8th, ... is told.

        Raises:
            InputError: a sample cannot be read, and is not to be passed over; or 1000 in a row cannot.
        """
        in_a_row = 0
        for sample in samples:
            try:
                read = self.decode(sample)
            except InputError as error:
                self.bad, in_a_row = self.bad + 1, in_a_row + 1
                if not self.skip or in_a_row == _MOST_BAD_IN_A_ROW:
                    raise
                if self.bad.bit_count() == 1:
                    _log.warning(f"{self.split}: {self.bad} samples skipped by a loader process, the last as {error}")
                continue
            in_a_row = 0
            yield read


@contextmanager
def _named(sample: Encoded) -> Iterator[str]:
    """A sample's name; an `InputError` says with it what a `ValueError` says that the sample has."""
    name = _one_line(f"{sample['__url__']}/{sample['__key__']}")
    try:
        yield name
    except ValueError as error:
        raise InputError(
            f"'{name}' has {_one_line(error)}; correct it, or skip such samples by data.on_bad."
        ) from error


def _one_line(text: object) -> str:
    return printable(f"{text}"[:200]).replace("\n", r"\n")


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

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        """Batches up to the end of the epoch: all of them, or in a loader process its part."""
        worker = get_worker_info()
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        position = Position(*self._position.tolist())
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


@dataclass(eq=False)
class EvaluationStream(IterableDataset[Batch]):
    """Each sample once, over all ranks and loader processes together, and as many batches on each rank.

    Each loader process reads every n-th shard (WebDataset's `split_by_worker`), whose samples the ranks take in turns:
    each rank reads all shards, and decodes its own samples. Only where a rank has no sample for a batch that others
    have, one comes twice: ids tell.

    Args:
        urls: the shards.
        reader: reader of their samples.
        batch_size: samples in a batch, at most.
        rank: rank of this process among those that evaluate.
        ranks: number of processes.
        masks_only: leave samples without an object mask out, but for the first of each loader process.
    """

    urls: list[str]
    reader: SampleReader
    batch_size: int
    rank: int
    ranks: int
    masks_only: bool

    def __iter__(self) -> Iterator[Batch]:
        """Batches of this loader process."""
        samples = enumerate(_samples(split_by_worker(self.urls)))
        wanted = (sample for place, sample in samples if not self.masks_only or self.reader.mask in sample or not place)
        batch = list[Batch]()
        while turn := [*islice(wanted, self.batch_size * self.ranks)]:
            own = [*self.reader.decoded(turn[self.rank :: self.ranks] or turn[-1:])]
            if not own and self.ranks > 1:  # the others may have one
                own = batch or [*islice(self.reader.decoded(turn), 1)]
            if batch := own:
                yield collate(batch)
