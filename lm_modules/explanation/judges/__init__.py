"""How good explanations are: measures, one kind in each file; each is entered by the decorator `judge`."""
