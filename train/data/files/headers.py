"""Look at the headers of images and masks before a training, which one that cannot be read would end in mid-epoch."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import ImageFile, check_size, size_of
from maskrobust.train.data.files.reading import HiddenBoxes, Reading, place_of, plane_size
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.running.processes import gathered
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import read_json, write_json

_READERS, _AT_ONCE = 16, 1024
"""Threads that read headers, and how many files they are given in one go."""


def header_faults(
    files: Sequence[ImageFile], reading: Reading, root: Path = Path(), kept: Path | None = None
) -> list[str]:
    """What is wrong with image files and mask files by their headers, a sentence each; every process must ask.

    Each process looks at its part, in threads. Where nothing is wrong, digests of names, sizes and times are kept, and
    files with a digest that was kept before are not read again.

    Args:
        files: the same in every process.
        reading: how they will be read.
        root: folder that the images lie below.
        kept: the JSON file that keeps digests, the same in every process; None to keep none.
    """
    rank, ranks = rank_and_number()
    own = files[rank::ranks]
    parts = [own[at : at + _AT_ONCE] for at in range(0, len(own), _AT_ONCE)]
    before = read_json(kept) if kept is not None and kept.is_file() else None
    known = before if isinstance(before, list) else []
    kinds = dict[str, str]()
    found, digest = list[str](), blake2b(repr((reading.given, reading.beside)).encode(), digest_size=16)
    with ThreadPoolExecutor(_READERS) as readers, CountingDisplay(Console(stderr=True, quiet=rank > 0)) as progress:
        if kept is not None:
            for part in parts:
                digest.update(
                    "".join(readers.map(partial(_state_of, reading, root), part)).encode(errors="surrogateescape")
                )
        if kept is None or digest.hexdigest() not in known:
            for part in progress.track(parts, description=f"reading headers, {_AT_ONCE} at a time"):
                looked = [*readers.map(partial(_fault_of, reading, root), part)]
                found += [fault for fault, _ in looked if fault]
                for file, (_, kind) in zip(part, looked, strict=True):
                    kinds.setdefault(kind, str(file.image))
    told = gathered((found, digest.hexdigest(), kinds))
    faults = [fault for of_rank, *_ in told for fault in of_rank]
    of_all = {kind: name for *_, of_rank in reversed(told) for kind, name in of_rank.items() if kind}
    if len(of_all) > 1:
        (kind, name), (other, odd), *_ = reversed(of_all.items())
        faults.append(f"'{odd}' has {other}, but '{name}' has {kind}; give the images one number and type of bands.")
    if kept is not None and rank == 0 and not faults:
        write_json(kept, [each for _, each, _ in told])
    return faults


def _state_of(reading: Reading, root: Path, file: ImageFile) -> str:
    """Names, sizes and times of an image file, its mask file, and the file that says what may be seen of it."""
    visible = [each.of(place_of(file, root)) for each in reading.beside if not isinstance(each, HiddenBoxes)]
    state = ""
    for path in (file.image, file.mask, *visible):
        if isinstance(path, Path):
            found = os.stat(path) if path.exists() else None
            state += f"{path}\0{found and (found.st_size, found.st_mtime_ns)}\0"
    return state


def _fault_of(reading: Reading, root: Path, file: ImageFile) -> tuple[str, str]:
    """What is wrong with the headers of an image and its masks, empty where nothing is; and bands and type of these."""
    try:
        bands, dtype, *size = reading.check(file.image, place_of(file, root))
        if isinstance(file.mask, Path) and [*(found := plane_size(file.mask))] != size:
            of_mask, of_image = (
                size_of(path, str(path)) if path.suffix.lower() == ".png" else (known[0], known[1])
                for path, known in ((file.mask, found), (file.image, size))  # a PNG's header may lack the orientation
            )
            check_size(file.mask, of_mask, of_image)
        return "", f"{bands} bands of {dtype}"
    except InputError as error:
        return str(error), ""
