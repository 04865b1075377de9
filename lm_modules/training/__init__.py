"""Training with masks: Lightning modules, training masks, objectives and optimisers."""
