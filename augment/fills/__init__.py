"""Fills: functions that paint hidden pixels, in pixel space [0, 1], before normalisation."""
