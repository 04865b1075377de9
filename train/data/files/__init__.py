"""Files and what is in them: images, masks, cut-outs, photographs; and data modules of image files."""
