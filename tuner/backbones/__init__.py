"""Backbones: what an architecture is, its weights, and its parts below and above a cut."""
