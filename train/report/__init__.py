"""Reports of `evaluate` and `claim`: an HTML page, and tables in the terminal."""
