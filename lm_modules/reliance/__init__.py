"""Measures of shape reliance: how much of a prediction comes from the outline of what was hidden."""
