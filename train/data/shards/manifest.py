"""The manifest of a folder of shards: what they hold. It may come from anyone, so everything in it is checked."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import LARGEST_SHARD, Digest, ShardRecord, open_address
from maskrobust.train.storage.files import LARGEST_JSON, parse_json
from maskrobust.train.types import Split

MANIFEST = "manifest.json"

_LONGEST_REASON = 300

_Mean = Annotated[float, Field(strict=True, ge=0, le=1)]
_Deviation = Annotated[float, Field(strict=True, ge=1e-6, le=1)]


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
