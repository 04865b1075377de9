"""What a claim or an evaluation shows: an HTML page, and tables in the terminal."""
