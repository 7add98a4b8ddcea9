"""A study folder: its paths and lock, its database, the seal of the test set."""
