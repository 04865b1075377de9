"""The data modules that are shipped, one in each file."""
