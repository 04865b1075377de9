"""Commands of one file; the others have a folder each."""
