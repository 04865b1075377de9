"""Statistics of outcomes with their intervals: over images, over seeds, over objects and scenes."""
