"""Layer masking, the training module, objectives, explanations and measures of reliance. Imports only `augment`."""
