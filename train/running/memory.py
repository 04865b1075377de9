"""Make the C library keep freed memory for the next forward pass, instead of asking the system again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have this process keep what it frees for the next forward pass, for as long as it runs.

    By default glibc maps every tensor of more than 32 MiB anew, and the system clears its pages one by one: on virtual
    machines that takes longer than the convolution that fills them. What is kept is about what was once in use,
    somewhat more where sizes vary. Other C libraries are left as they are.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)
