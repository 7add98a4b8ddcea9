"""The study: its question (spec), its places (folder), its facts (store), its randomness (seeds)."""
