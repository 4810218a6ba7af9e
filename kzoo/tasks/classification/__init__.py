"""Image classification: one label for one image."""
