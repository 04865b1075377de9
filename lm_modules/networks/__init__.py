"""Trained networks: found by name, read from files, shown images as they want them."""
