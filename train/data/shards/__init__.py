"""Shards: their form, their manifest, and how they are read."""
