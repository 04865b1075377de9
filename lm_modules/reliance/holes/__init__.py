"""The holes of the measures: what is hidden, and in which images."""
