"""What the toolkit costs, as ratios within one run: `scripts/bench masking`, `explaining` or `feeding`."""

from jsonargparse import auto_cli

from explaining import explaining
from feeding import feeding
from masking import masking

if __name__ == "__main__":
    auto_cli([masking, explaining, feeding], as_positional=False)
