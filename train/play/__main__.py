"""`python -m maskrobust.train.play`: the command `maskrobust play`."""

import sys

from maskrobust.train.cli import main

main(["play", *sys.argv[1:]])
