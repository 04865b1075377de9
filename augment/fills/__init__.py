"""Fills: what is drawn into hidden pixels, in pixel space [0, 1], before normalisation."""
