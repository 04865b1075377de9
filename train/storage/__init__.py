"""Write files atomically, record where results come from, and make text from files harmless."""
