"""Mask families: functions that draw which pixels of each image are visible, one independent mask for each key."""
