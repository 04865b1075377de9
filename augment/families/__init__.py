"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""
