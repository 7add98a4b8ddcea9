"""Which features lie in the cache already, told from their manifests and sizes: no byte of theirs is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.artifacts.entries import Artifacts
from tuner.backbones.resnet import Backbone
from tuner.features import bank as features


def stored(backbone: Backbone, images_key: str, images: int, wanted: Sequence[str], cache: Path) -> tuple[str, ...]:
    """The cuts of `wanted` whose features of these images are there. A search checks them closer."""
    artifacts, key = Artifacts(cache / "features"), features._key_parts
    return tuple(c for c in wanted if artifacts.about(features._digest(key(backbone, images_key, c))) is not None)
