"""The data modules that are shipped, a file each, and what they are made of."""
