"""Video with masks, and the stills that synthetic clips are made of."""
