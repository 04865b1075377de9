"""Read samples from shards as tensors. A faulty sample ends the command with its name."""

import copy
import random
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from math import ceil
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import View, decode_image, decode_mask
from maskrobust.train.data.loading import Position, PresentAhead, collate
from maskrobust.train.data.shards.format import ShardRecord, TarSample, open_address, read_shard
from maskrobust.train.storage.files import printable

_LONGEST_LABEL = 1000


class Label(BaseModel):
    """The JSON of a sample.

    Attributes:
        id: id of the sample.
        label: its label; -1 without one.
        mask: whether it has an object mask.
    """

    model_config = ConfigDict(strict=True)

    id: Annotated[int, Field(ge=0, lt=2**63)]
    label: Annotated[int, Field(ge=-1)]
    mask: bool


class ShardReader:
    """Reads the samples of shards.

    Args:
        root: where the shards are; see `format.open_address`.
        num_classes: labels must lie in [0, num_classes); 0 where there are no labels, which is -1 for each.
        exact_size: side that images must have; None for any size.
    """

    def __init__(self, root: str, num_classes: int, exact_size: int | None = None) -> None:
        self.root, self.num_classes, self.exact_size = root, num_classes, exact_size

    def encoded(self, record: ShardRecord, is_wanted: Callable[[int], bool] | None = None) -> Iterator[TarSample]:
        """The samples of a shard in order.

        Args:
            record: what the manifest says of it.
            is_wanted: for a position, whether its sample is to be read; None reads all.

        Raises:
            InputError: the shard cannot be read to its end, or holds another number of samples, or a key twice.
        """
        keys: set[str] = set()
        try:
            with open_address(self.root, record.name) as stream:
                for sample in read_shard(stream, is_wanted):
                    if sample.key in keys:
                        raise _fault(f"{record.name}/{sample.key}", "is there twice")
                    keys.add(sample.key)
                    yield sample
        except (tarfile.TarError, OSError) as error:
            raise _fault(record.name, f"breaks off after {len(keys)} of {record.samples} samples ({error})") from error
        if len(keys) != record.samples:
            raise _fault(record.name, f"holds {len(keys)} samples, where the manifest says {record.samples}")

    def decode(self, record: ShardRecord, encoded: TarSample) -> Batch:
        """A sample as a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: something is wrong with it.
        """
        place = f"{record.name}/{encoded.key}"
        about = _read_label(encoded, place)
        if about.label not in (range(self.num_classes) or (-1,)):
            expected = f"not in [0, {self.num_classes})" if self.num_classes else "of no class of the manifest"
            raise _fault(place, f"has the label {about.label}, which is {expected}")
        if encoded.image_file is None:
            raise _fault(place, "has no image")
        if about.mask and encoded.mask_file is None:
            raise _fault(place, "has no object mask, though one was written")
        try:
            image = decode_image(encoded.image_file, place)
            nothing = torch.zeros_like(image[:1], dtype=torch.bool)
            mask = decode_mask(encoded.mask_file, "binary", place) if encoded.mask_file else nothing
        except ValueError as error:
            raise _fault(place, f"has an image or a mask that cannot be read ({error.__cause__})") from error
        if mask.shape[1:] != image.shape[1:]:
            raise _fault(place, f"has an image of {_size(image)} pixels (height x width), but a mask of {_size(mask)}")
        if self.exact_size is not None and image.shape[1:] != (self.exact_size, self.exact_size):
            raise _fault(
                place,
                f"has {_size(image)} pixels (height x width), where image_size {self.exact_size} is shown as it is",
            )
        return Batch(torch.tensor(about.id), image, mask, torch.tensor(about.label))


def _read_label(encoded: TarSample, place: str) -> Label:
    content = encoded.label_file or b""
    try:
        return Label.model_validate_json(content if len(content) <= _LONGEST_LABEL else b"")
    except ValidationError as error:
        raise _fault(place, "has no readable label") from error


def _fault(place: str, what: str) -> InputError:
    return InputError(f"'{place}' {printable(what)}; write that shard again with maskrobust shards.")


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[2]}"


class TrainingStream(IterableDataset[Batch]):
    """A fixed number of batches for each epoch, from shards drawn with replacement.

    Each loader process of each rank draws shards uniformly, and shuffles their samples in WebDataset's buffer. In each
    epoch it begins at a sample drawn from all of them, and reads on from there to the end of its shard, so that every
    sample is equally likely however uneven the shards are, and however short the epoch. The batches w, w + n, w + 2 n,
    ... of an epoch are those of process w of n. What a process reads is a function of (seed, rank, w, epoch): a
    training that goes on within an epoch reads what that epoch began with.

    Args:
        reader: reader of the shards.
        records: records of the shards to draw from, each with at least one sample.
        view: geometry of the crops; None to take images as they are.
        batch_size: samples per batch.
        steps: batches per epoch, on every rank.
        seed: seed for the choice of shards, their order and the crops.
        rank: rank of this process among those that train.
        shuffle_buffer: encoded samples in the buffer, at least 1; as many are in the memory of each loader process.

    Attributes:
        present_ahead: what the loader process does with a batch; None for nothing.
    """

    def __init__(
        self,
        reader: ShardReader,
        records: Sequence[ShardRecord],
        view: View | None,
        batch_size: int,
        steps: int,
        seed: int,
        rank: int,
        shuffle_buffer: int,
    ) -> None:
        self.reader, self.records, self.view = reader, records, view
        self.batch_size, self.steps = batch_size, steps
        self.seed, self.rank = seed, rank
        self.shuffle_buffer = shuffle_buffer
        self.present_ahead: PresentAhead | None = None
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
        position, (worker, workers) = Position(*self._position.tolist()), _worker_and_number()
        draws = random.Random(f"{self.seed} {self.rank} {worker} {position.epoch}")
        samples = shuffle(self.shuffle_buffer, rng=draws)(self._drawn(draws))
        batches = range(position.batches + worker, self.steps, workers)
        for _, optimiser_step in zip(batches, islice(position.steps(), worker, None, workers), strict=False):
            chosen = [self.reader.decode(*sample) for sample in islice(samples, self.batch_size)]
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(draws.getrandbits(63))
                batch = collate([as_seen(sample, self.view) for sample in chosen])
            yield batch if self.present_ahead is None else self.present_ahead(batch, optimiser_step)

    def _drawn(self, draws: random.Random) -> Iterator[tuple[ShardRecord, TarSample]]:
        """The samples of shards drawn with replacement, without an end, beginning anywhere in the first of them."""
        (record,) = draws.choices(self.records, [each.samples for each in self.records])
        first = draws.randrange(record.samples)
        while True:
            for encoded in islice(self.reader.encoded(record, first.__le__), first, None):
                yield record, encoded
            record, first = draws.choice(self.records), 0


class EvaluationStream(IterableDataset[Batch]):
    """Each sample of a split once, over all ranks and loader processes together.

    Sample p is read by rank p mod n, in an order that does not depend on loader processes; ranks have equally many
    batches, whose sizes differ by one at most, for a network in training exchanges its buffers before each of them.
    Only where that leaves a batch empty, a sample comes twice: ids tell.

    A loader process passes over the samples of the others: it seeks in a local file, but reads all of a stream.

    Args:
        reader: reader of the shards.
        records: records of the split's shards, in order.
        view: geometry; None to take images as they are.
        batch_size: samples in a batch, at most.
        rank: rank of this process among those that evaluate.
        ranks: number of processes.
    """

    def __init__(
        self,
        reader: ShardReader,
        records: Sequence[ShardRecord],
        view: View | None,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.reader, self.records, self.view = reader, records, view
        total = sum(record.samples for record in records)
        self.batches = deal_positions(total, batch_size, rank, ranks)

    def __len__(self) -> int:
        return len(self.batches)

    def with_batches(self, batches: Sequence[range]) -> Self:
        """The same stream of some of its batches, in ascending order."""
        some = copy.copy(self)
        some.batches = [*batches]
        return some

    def __iter__(self) -> Iterator[Batch]:
        """All batches, or in a loader process its part."""
        worker, workers = _worker_and_number()
        own = self.batches[worker::workers]
        samples = self._samples([position for batch in own for position in batch])
        for batch in own:
            yield collate([next(samples) for _ in batch])

    def _samples(self, positions: Sequence[int]) -> Iterator[Batch]:
        """The sample at each of the ascending positions."""
        first = 0
        for record in self.records:
            start, stop = (bisect_left(positions, end) for end in (first, first + record.samples))
            wanted = [position - first for position in positions[start:stop]]
            for position, encoded in enumerate(self.reader.encoded(record, {*wanted}.__contains__) if wanted else ()):
                for _ in range(wanted.count(position)):
                    yield as_seen(self.reader.decode(record, encoded), self.view)
            first += record.samples


def deal_positions(total: int, batch_size: int, rank: int, ranks: int) -> list[range]:
    """The positions in a split that one rank evaluates, in batches, of which all ranks have equally many.

    Args:
        total: samples in the split, at least 1.
        batch_size: positions in a batch, at most.
        rank: rank of the process, in [0, ranks).
        ranks: number of processes.

    Returns:
        Ascending positions, rank, rank + ranks, ..., in batches whose sizes differ by one at most. A batch that would
        be empty repeats a position instead.
    """
    own = range(rank, total, ranks) or range(total - 1, total)
    number = ceil(ceil(total / ranks) / batch_size)
    cuts = [len(own) * batch // number for batch in range(number + 1)]
    return [own[start : max(stop, start + 1)] for start, stop in pairwise(cuts)]


def as_seen(sample: Batch, view: View | None) -> Batch:
    """A single sample after its view; None takes it as it is."""
    if view is None:
        return sample
    images, object_mask = view(sample.images, sample.object_mask)
    return sample._replace(images=images, object_mask=object_mask)


def _worker_and_number() -> tuple[int, int]:
    """Which loader process this is, and of how many; (0, 1) where there are none."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)
