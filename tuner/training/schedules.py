"""The learning rate over a training, as a share of the configuration's own."""

from __future__ import annotations

import math


def share(schedule: str, *, at: float, epochs: int, warmup: float = 0.0) -> float:
    """Of the learning rate, in the middle of a step: `at` counts epochs from the beginning of the training, which has
    `epochs` of them in all, whatever rung it stops at.

    It rises in a straight line over the first `warmup` epochs; then it stays ("constant") or falls along half a cosine
    to zero at the end ("cosine": Loshchilov and Hutter, ICLR 2017, without restarts). Never above 1, and 0 after the
    end of a cosine.
    """
    if at < warmup:
        return at / warmup
    if schedule == "constant":
        return 1.0
    left = max(epochs - warmup, 1e-9)
    return 0.5 * (1.0 + math.cos(math.pi * min((at - warmup) / left, 1.0)))
