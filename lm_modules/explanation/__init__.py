"""Explanations by hiding segments of an image, under any masking method: LIME, KernelSHAP, occlusion, RISE."""
