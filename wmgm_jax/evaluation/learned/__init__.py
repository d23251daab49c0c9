"""Features learned from the training images alone: a Fréchet distance that needs no download."""
