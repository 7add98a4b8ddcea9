"""Which features lie in the cache already, told from their names and sizes: nothing is opened, nothing computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.backbones.backbone import Backbone
from tuner.features import bank as features


def stored(backbone: Backbone, images_key: str, images: int, wanted: Sequence[str], cache: Path) -> tuple[str, ...]:
    """The cuts of `wanted` whose features of so many photographs are there. A search checks their bytes too."""
    found = []
    for cut in wanted:
        folder = cache / "features" / features._digest(features._key_parts(backbone, images_key, cut))
        try:
            size = (folder / "features.npy").stat().st_size
        except OSError:
            continue
        if (folder / "manifest.json").is_file() and size >= images * backbone.architecture.bytes(cut):
            found.append(cut)
    return tuple(found)
