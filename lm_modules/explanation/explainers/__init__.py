"""Explainers (LIME, RISE, ...), one kind in each file, registered by the decorator `explainer`."""
