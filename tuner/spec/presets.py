"""What `tlstudy init --preset` and `Study.create(preset=...)` write into study.toml besides what is asked for.

A preset is a few keys of study.toml, changed from their defaults; options given beside it win over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.errors import SpecError
from tuner.spec.values import nearest

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "data.image_size": 128,
        "space.unfrozen_layers": [0, 10, 20],
        "space.head_width": [0, 64],
        "search.max_epochs": 9,
        "confirm.seeds": 5,
    },
    "default": {},
    "thorough": {
        "space.unfrozen_layers": [0, 10, 20, 32, 42, 52, 62, 94],
        "space.weight_decay": {"min": 1e-4, "max": 0.1, "sampling": "log"},
        "space.label_smoothing": [0.0, 0.1],
        "space.augmentation": ["none", "light"],
        "search.hyperband_iterations": 3,
        "search.tta": "flip",
        "confirm.seeds": 10,
        "confirm.folds": 5,
    },
}
"""Keys with their sections, as `Spec.override` takes them."""


def preset(name: str) -> Mapping[str, Any]:
    """The keys that a preset changes. Raises SpecError naming those there are."""
    if name not in PRESETS:
        known = tuple(PRESETS)
        raise SpecError(f"preset: found {name!r}, expected one of {', '.join(known)}{nearest(name, known)}.")
    return PRESETS[name]
