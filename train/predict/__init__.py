"""`maskrobust predict`, and the same in Python."""
