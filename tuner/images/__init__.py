"""Images: what is in the folder, decoded once, checked, split, and kept as one memory-mapped array."""
