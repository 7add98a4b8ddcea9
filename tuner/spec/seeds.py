"""Randomness comes from names, not from order.

A generator is named by what it is for, for example (study seed, configuration, "shuffle", epoch), so a study that was
interrupted, or whose trials ran elsewhere or in another order, draws the same numbers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_for(*names: int | str) -> int:
    """A 64-bit seed for these names; equal names give equal seeds on every machine and Python version."""
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def generator(*names: int | str) -> np.random.Generator:
    """NumPy's PCG64 generator seeded by `seed_for(*names)`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed_for(*names)))
