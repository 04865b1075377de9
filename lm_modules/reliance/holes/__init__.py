"""What is hidden, and in which images: the conditions under which a network is asked."""
