"""Prepares the images of `data` beside a cache, as a search does, and checks what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.errors import DataError
from tuner.images.dataset import Dataset, prepare
from tuner.images.decode import load_photograph, to_square
from tuner.spec.spec import DataSpec

SPEC = DataSpec(path="data", image_size=32)


def run(tmp_path: Path, spec: DataSpec = SPEC, seed: int = 0) -> Dataset:
    return prepare(spec, tmp_path, tmp_path / "cache", seed)


def refused(tmp_path: Path, spec: DataSpec = SPEC) -> str:
    with pytest.raises(DataError) as caught:
        run(tmp_path, spec)
    return str(caught.value)


def check_rows(data: Dataset, size: int = 32, mode: str = "crop") -> None:
    for row, photo in enumerate(data.records):
        np.testing.assert_array_equal(data.images[row], to_square(load_photograph(data.root / photo.path), size, mode))
