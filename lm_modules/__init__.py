"""The network: layer masking, the LightningModule, objectives, reliance measures. Imports augment alone."""
