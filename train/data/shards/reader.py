"""Reading shards: samples as tensors, and faults counted, named, and tolerated up to a limit."""

import logging
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import decode_image, decode_mask
from maskrobust.train.data.shards.format import ShardRecord, TarSample, open_address, read_shard
from maskrobust.train.storage.files import parse_json
from maskrobust.train.storage.plain_text import printable

_log = logging.getLogger(__name__)
_FAULTS_IN_A_ROW = 1000
_LONGEST_LABEL = 1000


class Sample(NamedTuple):
    """One sample, decoded.

    Attributes:
        id: of the sample.
        image: (3, H, W) uint8.
        object_mask: (1, H, W) bool.
        label: in [0, num_classes).
    """

    id: int
    image: Tensor
    object_mask: Tensor
    label: int


class Faults:
    """The distinct faults that one process has met.

    Args:
        limit: how many are tolerated, each with a warning; None for any number, without one.

    Attributes:
        found: what is wrong, by place: the name of a shard, or of a shard and a sample's key.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.found: dict[str, str] = {}
        self._in_a_row = 0

    def meet(self, place: str, what: str) -> None:
        """Count a fault, unless it has been met before.

        Raises:
            InputError: it is one more than tolerated, or there has been nothing else for long.
        """
        what = printable(what)
        self._in_a_row += 1
        if self.limit is not None and self._in_a_row > _FAULTS_IN_A_ROW:
            raise InputError(f"'{place}' {what}, and nothing else can be read; write the shards again.")
        if place in self.found:
            return
        self.found[place] = what
        if self.limit is None:
            return
        count = len(self.found)
        if count > self.limit:
            raise InputError(
                f"'{place}' {what}; {count} faulty place{'s' * (count > 1)} in the shards that one process read, where "
                f"{self.limit} may be: write them again with maskrobust shards, or allow more (max_faults for training,"
                " max_evaluation_faults)."
            )
        _log.warning("passed over fault %d: '%s' %s", count, place, what)

    def pass_by(self) -> None:
        """Note that a sample has been read without a fault."""
        self._in_a_row = 0


class ShardReader:
    """Reads the samples of shards, and tells `faults` what is wrong with them.

    Args:
        root: where the shards are; see `shard_format.open_address`.
        num_classes: labels must lie in [0, num_classes).
        faults: told about what is wrong.
        exact_size: side that images must have; None for any size.
    """

    def __init__(self, root: str, num_classes: int, faults: Faults, exact_size: int | None = None) -> None:
        self.root, self.num_classes, self.faults, self.exact_size = root, num_classes, faults, exact_size

    def encoded(
        self, record: ShardRecord, is_wanted: Callable[[int], bool] | None = None
    ) -> Iterator[TarSample | None]:
        """The samples of a shard by position, up to the end or where it breaks off; None for one whose key came before.

        Args:
            record: what the manifest says of it.
            is_wanted: by position, whether the sample is to be read; None reads all.

        Raises:
            InputError: a fault too many.
        """
        seen: set[str] = set()
        position = 0
        try:
            with open_address(self.root, record.name) as stream:
                for sample in read_shard(stream, is_wanted):
                    position += 1
                    if sample.key in seen:
                        self.faults.meet(f"{record.name}/{sample.key}", "is there twice")
                        yield None
                    else:
                        seen.add(sample.key)
                        yield sample
        except (tarfile.TarError, OSError) as error:
            self.faults.meet(record.name, f"breaks off after {position} of {record.samples} samples ({error})")
        else:
            if position != record.samples:
                self.faults.meet(record.name, f"holds {position} samples, where the manifest says {record.samples}")

    def decode(self, record: ShardRecord, encoded: TarSample) -> Sample | None:
        """A sample as tensors; None where something is wrong with it.

        Raises:
            InputError: a fault too many.
        """
        place = f"{record.name}/{encoded.key}"
        try:
            sample = self._decoded(encoded, place)
        except _FaultError as fault:
            self.faults.meet(place, str(fault))
            return None
        self.faults.pass_by()
        return sample

    def _decoded(self, encoded: TarSample, place: str) -> Sample:
        sample_id, label, has_mask = _read_label(encoded)
        if not 0 <= label < self.num_classes:
            raise _FaultError(f"has the label {label}, which is not in [0, {self.num_classes})")
        if encoded.image_file is None:
            raise _FaultError("has no image")
        if has_mask and encoded.mask_file is None:
            raise _FaultError("has no object mask, though one was written")
        try:
            image = decode_image(encoded.image_file, place)
            mask = decode_mask(encoded.mask_file, "binary", place) if encoded.mask_file else _nothing(image)
        except ValueError as error:
            raise _FaultError(f"has an image or a mask that cannot be read ({error.__cause__})") from error
        if mask.shape[1:] != image.shape[1:]:
            raise _FaultError(f"has an image of {_size(image)} pixels, but a mask of {_size(mask)}")
        if self.exact_size is not None and image.shape[1:] != (self.exact_size, self.exact_size):
            raise _FaultError(f"has {_size(image)} pixels, where image_size {self.exact_size} is to be shown as it is")
        return Sample(sample_id, image, mask, label)


class _FaultError(Exception):
    """What is wrong with a sample."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size as a batch."""
    return Batch(
        torch.tensor([sample.id for sample in samples]),
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.object_mask for sample in samples]),
        torch.tensor([sample.label for sample in samples]),
    )


def _read_label(encoded: TarSample) -> tuple[int, int, bool]:
    """Id, label, and whether there is a mask."""
    content = encoded.label_file or b""
    try:
        about = parse_json(content) if len(content) <= _LONGEST_LABEL else None
    except ValueError as error:
        raise _FaultError("has no readable label") from error
    sample_id, label, has_mask = map(about.get, ("id", "label", "mask")) if isinstance(about, dict) else (None,) * 3
    if type(sample_id) is not int or not 0 <= sample_id < 2**63 or type(label) is not int or type(has_mask) is not bool:
        raise _FaultError("has no readable label")
    return sample_id, label, has_mask


def _nothing(image: Tensor) -> Tensor:
    return torch.zeros(1, *image.shape[1:], dtype=torch.bool)


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[2]}"
