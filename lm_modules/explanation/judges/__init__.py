"""Judges: measures of how good explanations are, one kind in each file, registered by the decorator `judge`."""
