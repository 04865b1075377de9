"""Explainers, one kind in each file; each is registered under a name by the decorator `explainer`."""
