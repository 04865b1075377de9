"""Training: the LightningModule, its masks, objectives and optimisers."""
