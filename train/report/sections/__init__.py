"""The sections of the pages, each a function from what it shows to the HTML below its heading, or None for nothing."""
