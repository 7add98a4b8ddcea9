"""The frozen layers' activations for every image, computed once."""
