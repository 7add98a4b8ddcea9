"""The study as it is asked for: study.toml, checked, immutable; randomness by name."""
