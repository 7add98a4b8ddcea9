"""The other thing that writes: decoded photographs and features, published into the cache. Without Keras.

The photographs are real and really decoded; the backbone is a maximum, because only its files are looked at.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tuner.backbones.architecture import architecture
from tuner.backends import backend
from tuner.features import bank as features
from tuner.images.dataset import prepare
from tuner.spec.spec import DataSpec

SIDE = 32
OF = architecture(image_size=SIDE)
WANTED = ("conv5_block2", "pooled")


def run(root: Path, data: Path) -> dict[str, Any]:
    """Decodes and computes what is not in `root`'s cache; digests of what comes out, and what was left half-done."""
    backbone = stubbed(forward)
    found = prepare(DataSpec(path=str(data), image_size=SIDE), root, root / "cache", 0)
    stored = features.ensure(backbone, found.images, found.key, wanted=WANTED, cache=root / "cache")
    arrays = {"images": found.images, **{cut: stored.arrays[cut] for cut in WANTED}}
    left = [p.name for p in (root / "cache" / "features").iterdir() if p.name.startswith(".")]
    return {name: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for name, a in arrays.items()} | {
        "left behind": left
    }


def stubbed(forward: Any) -> Any:
    """A backbone without Keras, whose forward passes `forward` makes."""
    backend.environment = lambda: {"backend": "stub", "stub": "1", "keras": "1", "devices": []}  # type: ignore[assignment]
    backend.forward = forward
    weights = SimpleNamespace(key="stub")
    return SimpleNamespace(architecture=OF, image_size=SIDE, weights=weights, prefix=lambda start, missing: missing)


def forward(missing: tuple[str, ...]) -> Any:
    def call(batch: np.ndarray) -> list[np.ndarray]:
        highest = batch.astype(np.float32).reshape(len(batch), -1).max(axis=1)  # the same from any cut below
        return [
            np.broadcast_to(highest.reshape(-1, *[1] * len(OF.shape(c))), (len(batch), *OF.shape(c))) for c in missing
        ]

    return call
