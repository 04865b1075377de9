"""What a process keeps of the memory that it frees."""

import ctypes
import subprocess
import sys

import pytest

_MAKES_A_TENSOR_TWICE = """
import resource
import torch
from maskrobust.train.running.memory import keep_freed_memory

if {keeps}:
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 2**20)  # 64 MiB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_a_tensor_as_large_as_one_that_was_freed_takes_no_new_pages():
    pages = {
        keeps: int(subprocess.check_output([sys.executable, "-c", _MAKES_A_TENSOR_TWICE.format(keeps=keeps)]))
        for keeps in (True, False)
    }
    assert pages[True] < 100 < pages[False]
