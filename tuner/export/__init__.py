"""The whole model as a file in one of four formats, its check against the trial it came from, and its use."""
