"""Look at the headers of images and masks before a training, which one that cannot be read would end in mid-epoch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.train.data.files.image_files import ImageFile, check_size, size_of
from maskrobust.train.data.files.reading import Reading, place_of, plane_size
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.running.processes import gathered
from maskrobust.train.running.progress import CountingDisplay

_READERS, _AT_ONCE = 16, 1024
"""Threads that read headers, and how many files they are given in one go."""


def header_faults(files: Sequence[ImageFile], reading: Reading, root: Path = Path()) -> list[str]:
    """What is wrong with image files and mask files by their headers, a sentence each; every process must ask.

    Each process looks at its part, in threads.

    Args:
        files: the same in every process.
        reading: how they will be read.
        root: folder that the images lie below.
    """
    rank, ranks = rank_and_number()
    own, found, kinds = files[rank::ranks], list[str](), dict[str, str]()
    parts = [own[at : at + _AT_ONCE] for at in range(0, len(own), _AT_ONCE)]
    with ThreadPoolExecutor(_READERS) as readers, CountingDisplay(Console(stderr=True, quiet=rank > 0)) as progress:
        for part in progress.track(parts, description=f"reading headers, {_AT_ONCE} at a time"):
            for file, (fault, kind) in zip(part, readers.map(partial(_fault_of, reading, root), part), strict=True):
                found += [fault] * bool(fault)
                kinds.setdefault(kind, str(file.image))
    told = gathered((found, kinds))
    faults = [fault for of_rank, _ in told for fault in of_rank]
    of_all = {kind: name for _, of_rank in reversed(told) for kind, name in of_rank.items() if kind}
    if len(of_all) > 1:
        (kind, name), (other, odd), *_ = reversed(of_all.items())
        faults.append(f"'{odd}' has {other}, but '{name}' has {kind}; give the images one number and type of bands.")
    return faults


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
