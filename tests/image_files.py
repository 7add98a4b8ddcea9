"""Tiny test images: coloured noise that differs from seed to seed, 48 x 40 pixels unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """uint8 (height, width, 3), smooth enough for JPEG to keep."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def image_file(path: Path, seed: int, width: int = 48, height: int = 40, **save: Any) -> Path:
    """Writes one image in the format of the suffix, or of `format`, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height)).save(path, **save)
    return path


def folder(root: Path, train: int = 5, val: int = 5, test: int = 0, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Writes a split data folder; every image is different. Numbers are per class."""
    seed = 0
    for split, number in (("train", train), ("val", val), ("test", test)):
        for name in classes if number else ():
            for index in range(number):
                seed += 1
                image_file(root / split / name / f"{index:02d}.jpg", seed)
    return root


def unsplit(root: Path, number: int = 10, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Writes class folders alone; every image is different."""
    for label, name in enumerate(classes):
        for index in range(number):
            image_file(root / name / f"{index:02d}.jpg", 1000 * label + index)
    return root
