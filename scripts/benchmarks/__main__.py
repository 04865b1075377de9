"""Benchmarks of what the toolkit costs: `scripts/bench masking`, `exporting` or `counting`."""

from jsonargparse import auto_cli

from counting import counting
from exporting import exporting
from masking import masking
from maskrobust.train.cli import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()  # as the commands do
    auto_cli([masking, exporting, counting], as_positional=False)
