"""What the toolkit costs, as ratios within one run: `scripts/bench masking`, `explaining`, `feeding` or `exporting`."""

from jsonargparse import auto_cli

from explaining import explaining
from exporting import exporting
from feeding import feeding
from masking import masking

if __name__ == "__main__":
    auto_cli([masking, explaining, feeding, exporting], as_positional=False)
