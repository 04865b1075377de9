"""Reading shards: samples as tensors; a faulty one is named, and ends the command."""

import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import decode_image, decode_mask
from maskrobust.train.data.shards.format import ShardRecord, TarSample, open_address, read_shard
from maskrobust.train.storage.files import printable

_ATTEMPTS = 3
_LONGEST_LABEL = 1000


class Label(BaseModel):
    """The JSON of a sample.

    Attributes:
        id: of the sample.
        label: its class.
        mask: whether it has an object mask.
    """

    model_config = ConfigDict(strict=True)

    id: Annotated[int, Field(ge=0, lt=2**63)]
    label: Annotated[int, Field(ge=0)]
    mask: bool


class ShardReader:
    """Reads the samples of shards.

    Args:
        root: where the shards are; see `format.open_address`.
        num_classes: labels must lie in [0, num_classes).
        exact_size: side that images must have; None for any size.
    """

    def __init__(self, root: str, num_classes: int, exact_size: int | None = None) -> None:
        self.root, self.num_classes, self.exact_size = root, num_classes, exact_size

    def encoded(self, record: ShardRecord, is_wanted: Callable[[int], bool] | None = None) -> Iterator[TarSample]:
        """The samples of a shard in order; where a stream breaks off, the shard is opened again, twice at most.

        Args:
            record: what the manifest says of it.
            is_wanted: by position, whether the sample is to be read; None reads all.

        Raises:
            InputError: the shard cannot be read to its end, or holds another number of samples, or a key twice.
        """
        keys: set[str] = set()
        broken: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                with open_address(self.root, record.name) as stream:
                    for sample in islice(read_shard(stream, is_wanted), len(keys), None):
                        if sample.key in keys:
                            raise _fault(f"{record.name}/{sample.key}", "is there twice")
                        keys.add(sample.key)
                        yield sample
                break
            except (tarfile.TarError, OSError) as error:
                broken = error
        else:
            what = f"breaks off after {len(keys)} of {record.samples} samples ({broken})"
            raise _fault(record.name, what) from broken
        if len(keys) != record.samples:
            raise _fault(record.name, f"holds {len(keys)} samples, where the manifest says {record.samples}")

    def decode(self, record: ShardRecord, encoded: TarSample) -> Batch:
        """A sample as a `Batch` whose tensors lack the leading dimension.

        Raises:
            InputError: something is wrong with it.
        """
        place = f"{record.name}/{encoded.key}"
        about = _read_label(encoded, place)
        if about.label >= self.num_classes:
            raise _fault(place, f"has the label {about.label}, which is not in [0, {self.num_classes})")
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
