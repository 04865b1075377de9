"""Data modules that read files: images, masks, cut-outs and photographs."""
