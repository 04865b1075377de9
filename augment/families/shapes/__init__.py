"""Mask families that hide the object, or shapes made from objects."""
