"""What a process keeps of the memory that it frees."""

import ctypes
import subprocess
import sys

import pytest

_COUNTS_NEW_PAGES = """
import resource
import torch
from maskrobust.train.running.memory import keep_freed_memory

def for_a_second_tensor():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16, 2**20)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(for_a_second_tensor())
keep_freed_memory()
print(for_a_second_tensor())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_a_tensor_as_large_as_one_that_was_freed_takes_no_new_pages():
    counted = subprocess.check_output([sys.executable, "-c", _COUNTS_NEW_PAGES])
    without, kept = map(int, counted.split())
    assert kept < 100 < without
