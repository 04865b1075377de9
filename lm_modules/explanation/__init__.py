"""Explanations by hiding: which segments of an image a prediction rests on, under any masking method."""
