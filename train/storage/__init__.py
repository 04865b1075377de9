"""Files: written atomically, with where they come from; text from them made harmless."""
