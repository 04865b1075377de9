"""Checkpoints from anyone: what is refused before torch reads a file, and before a network is built from one."""

import pickletools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from maskrobust.errors import InputError

_ZIP = b"PK\x03\x04"
_LARGEST_PICKLE = 32 * 2**20
_MOST_STEPS = 10**6
"""Of a pickle; a tensor takes about 40."""

_PICKLES_OF_OLD_FILES = 5
_MOST_VALUES, _DEEPEST = 10**6, 64
_BYTEARRAYS = ("builtins bytearray", "__builtin__ bytearray")
_FETCHING = ("weights", "weights_backbone", "checkpoint_path", "cache_dir")
_SPARE_ELEMENTS = 10**7


class CheckpointFaultError(ValueError):
    """Why a checkpoint is not read."""


def load_plain(path: Path) -> Any:
    """What `torch.save` has written, with `weights_only`: tensors stay in the file until they are used.

    Refused before anything is read on a file's account: compressed content, which could have any size; a pickle of
    more than a million steps, or that asks for zeros of any number; content nested more than 64 deep, or that unfolds
    to more than a million values.

    Raises:
        CheckpointFaultError: naming the reason.
        Exception: whatever torch raises about a file that is damaged or not plain.
    """
    with path.open("rb") as stream:
        start = stream.read(_LARGEST_PICKLE)
    is_zip = start.startswith(_ZIP)
    if is_zip:
        _check_archive(path)
    else:
        old = BytesIO(start)
        for _ in range(_PICKLES_OF_OLD_FILES):
            _check_pickle(old)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    _check_nesting(content)
    return content


def check_options(options: object, path: str | Path) -> None:
    """Refuse a network's options from a file that would make its constructor read or fetch another file.

    Raises:
        InputError: naming the option.
    """
    named = options if isinstance(options, Mapping) else {}
    foreign = [name for name in named if str(name) in _FETCHING or str(name).startswith("pretrained")]
    if foreign:
        raise InputError(
            f"'{path}' asks for the option '{foreign[0]}' of its architecture, with which a file could name further "
            "files or addresses to load; name its weights yourself, with --model.weights or as in resnet50:FILE."
        )


@contextmanager
def building_from(path: str | Path, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Build a network, within a block, as a file says, but none that is much larger than the tensors in that file.

    Args:
        path: of the file.
        tensors: of the file.

    Raises:
        InputError: the constructor asks torch for more memory, or whatever the file makes it raise.
    """
    try:
        with _AllocationLimit(sum(each.numel() for each in tensors) + _SPARE_ELEMENTS, path):
            yield
    except InputError:
        raise
    except Exception as error:  # a file's arguments can be anything, and make a constructor raise anything
        raise InputError(
            f"'{path}' holds arguments or weights that no network takes ({type(error).__name__}); write it again."
        ) from error


class _AllocationLimit(TorchFunctionMode):
    """Counts the elements of the tensors that torch is asked to make, before it makes them."""

    _makers = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)

    def __init__(self, elements: int, path: str | Path) -> None:
        super().__init__()
        self._left, self._path = elements, path

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._makers:
            self._left -= func(*args, **{**(kwargs or {}), "device": "meta"}).numel()
            if self._left < 0:
                raise InputError(
                    f"'{self._path}' asks for a network that is much larger than the weights in it; write it again."
                )
        return func(*args, **(kwargs or {}))


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointFaultError("it is compressed, which torch.save does not do")
        names = {entry.filename for entry in entries}
        if len(names) < len(entries) or sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CheckpointFaultError("its parts overlap")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _LARGEST_PICKLE:
                    raise CheckpointFaultError(f"{entry.filename} has {entry.file_size} bytes")
                _check_pickle(BytesIO(archive.read(entry)))


def _check_pickle(stream: BytesIO) -> None:
    for steps, (_, argument, _) in enumerate(pickletools.genops(stream)):
        if steps > _MOST_STEPS:
            raise CheckpointFaultError("it holds too many values")
        if argument in _BYTEARRAYS:
            raise CheckpointFaultError("it holds a bytearray")


def _check_nesting(content: object) -> None:
    level = [content]
    left = _MOST_VALUES
    for _ in range(_DEEPEST):
        level = list(islice(chain.from_iterable(map(_parts, level)), left + 1))
        left -= len(level)
        if left < 0:
            raise CheckpointFaultError("it holds too many values")
        if not level:
            return
    raise CheckpointFaultError("it is nested too deeply")


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, list | tuple | set | frozenset) else ()
