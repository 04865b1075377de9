"""Explanations by hiding parts of an image, under any masking method: LIME and occlusion, and adapters to others."""
