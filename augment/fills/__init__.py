"""Fills: what is drawn into hidden pixels, in pixel space [0, 1], before normalisation."""

from augment.fills.apply import FILLS, FillName, apply_fill
from augment.fills.colours import fill_black, fill_mean, fill_random_colour

__all__ = ["FILLS", "FillName", "apply_fill", "fill_black", "fill_mean", "fill_random_colour"]
