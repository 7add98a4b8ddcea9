"""ResNet-50: its tables without Keras, its weights read without Keras, and its prefix and suffix with less work."""
