"""The pages of pictures: explanations, and masks."""
