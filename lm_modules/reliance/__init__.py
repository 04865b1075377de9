"""Measures of reliance: how much of a prediction comes from the outline of a hole."""
