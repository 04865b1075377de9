"""The measures of reliance and accuracy, one kind in each file."""
