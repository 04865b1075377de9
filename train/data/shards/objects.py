"""Which samples of shards show the same object: a file beside the shards, where some do.

It holds little-endian int64 numbers: the ids, ascending, of the samples whose object is not numbered as they are, and
then the objects of these, as many.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.train.data.shards.format import open_address
from maskrobust.train.storage.files import atomic_path

OBJECTS = "objects.bin"

_PIECE = 2**20
_NUMBER = np.dtype("<i8")
_LARGEST = 2**28  # bytes: those of 16 million samples, whatever a manifest says it holds


class ObjectTable(NamedTuple):
    """The objects of some samples; any other sample is an object of its own, numbered by its id.

    Attributes:
        ids: (N,) int64, ascending.
        objects: (N,) int64.
    """

    ids: Tensor
    objects: Tensor

    @classmethod
    def of(cls, parts: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """The table of samples whose ids (N,) and objects (N,) come in parts."""
        ids, objects = map(torch.cat, zip(*parts, strict=True))
        shared = (objects != ids).nonzero()[:, 0]
        order = shared[ids[shared].argsort()]
        return cls(ids[order], objects[order])

    def object_of(self, ids: Tensor) -> Tensor:
        """The object (N,) of each sample (N,), int64."""
        if not len(self.ids):
            return ids
        known, objects = self.ids.to(ids.device), self.objects.to(ids.device)
        places = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
        return torch.where(known[places] == ids, objects[places], ids)

    def write(self, folder: Path) -> str | None:
        """Write the file, atomically, and return its SHA-256; None, and no file, for an empty table."""
        if not len(self.ids):
            return None
        content = np.stack([self.ids.numpy(), self.objects.numpy()]).astype(_NUMBER).tobytes()
        with atomic_path(folder / OBJECTS) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()


def read_objects(root: str, sha256: str | None, samples: int) -> ObjectTable:
    """The objects of samples in shards.

    Args:
        root: as for `open_address`.
        sha256: of the file, in hexadecimal digits; None where there is none, so that the table is empty.
        samples: of all splits; no more can be in the file.

    Raises:
        InputError: it cannot be read, is another file, or its ids do not ascend.
    """
    if sha256 is None:
        return ObjectTable(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    largest = min(2 * samples * _NUMBER.itemsize, _LARGEST)
    try:
        with open_address(root, OBJECTS) as stream:
            content = bytearray()
            while len(content) <= largest and (piece := stream.read(_PIECE)):
                content += piece
    except OSError as error:
        raise InputError(
            f"'{root}' must hold {OBJECTS}, as its manifest says, which cannot be read ({error}); write the shards "
            "again with maskrobust shards."
        ) from error
    if len(content) > largest or len(content) % (2 * _NUMBER.itemsize) or hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"'{root}' must hold the {OBJECTS} that its manifest names by its checksum, got another one; write the "
            "shards again with maskrobust shards."
        )
    numbers: NDArray[np.int64] = np.frombuffer(content, _NUMBER).astype(np.int64).reshape(2, -1)
    ids, objects = torch.from_numpy(numbers)
    if not bool((ids.diff() > 0).all()):
        raise InputError(
            f"the ids in '{root}/{OBJECTS}' must ascend, and do not; write the shards again with maskrobust shards."
        )
    return ObjectTable(ids, objects)
