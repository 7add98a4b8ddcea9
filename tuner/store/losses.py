"""What an epoch said of each validation image, in two bytes an image: enough to choose among epochs again.

A loss as float16, little-endian, negative where the answer was wrong; a wrong answer's loss is at least log 2, so the
sign is never lost. The float16's 11 bits hold a loss to 0.05 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 60_000.0


def packed(chances: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
    """Of class probabilities (images, classes) and the true classes (images,)."""
    with np.errstate(divide="ignore"):
        loss = np.minimum(-np.log(chances[np.arange(len(labels)), labels].astype(np.float64)), MOST)
    return np.where(chances.argmax(axis=1) == labels, loss, -loss).astype("<f2").tobytes()


def signed(packed: bytes) -> NDArray[np.float16]:
    """The losses (images,), negative where the answer was wrong: these bytes themselves, not a copy."""
    return np.frombuffer(packed, dtype="<f2")
