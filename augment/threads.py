"""What a CPU computes image by image."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Made = TypeVar("Made")


def of_each(function: Callable[..., Made], *images: Iterable[object]) -> list[Made]:
    """What a function makes of each image, in order, in as many threads as torch has: one in a loader process.

    Args:
        function: leaves the interpreter to other threads where it computes, as NumPy, SciPy and OpenCV do.
        images: its arguments, one of each for an image.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return [*threads.map(function, *images)]
