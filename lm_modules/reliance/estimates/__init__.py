"""Estimates of measures with 95 % intervals: over images, over seeds, over objects and scenes."""
