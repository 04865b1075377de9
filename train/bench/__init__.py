"""What the toolkit costs, as ratios inside one run."""
