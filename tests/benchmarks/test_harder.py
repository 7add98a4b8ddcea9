"""The drawn set that fine-tuning gains on: its images are what their folders say, and place alone tells them apart."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

import harder


def rows(file: Path) -> tuple[float, float]:
    """Where the house and the pond lie: mean row of the 200 reddest and of the 200 bluest pixels."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(file), np.float64), -1, 0)
    house, pond = (np.argsort(value, axis=None)[-200:] // harder.SIDE for value in (red - green, blue - red))
    return float(house.mean()), float(pond.mean())


def test_house_and_pond_lie_as_the_class_says_and_the_seed_draws_the_same(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("again", 0), ("other", 1)):
        harder.draw(tmp_path / folder, 20, seed)
    files = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.jpg"))]
    assert len(files) == 20
    for file in files:
        house, pond = rows(tmp_path / "a" / file)
        assert (house < pond) == (file.parent.name == "house-north"), file
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()
