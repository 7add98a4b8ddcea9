"""The demo's images: complete, deterministic, not told apart by colour alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.errors import DataError
from tuner.images import demo


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "photographs"
    demo.draw(folder)
    return folder


def test_complete(drawn: Path) -> None:
    counts = {path.relative_to(drawn).as_posix(): len(list(path.iterdir())) for path in drawn.glob("*/*")}
    wanted = {"train": 48, "val": 20, "test": 50}
    assert counts == {f"{split}/{name}": n for split, n in wanted.items() for name in demo.CLASSES}
    assert [path.name for path in drawn.parent.iterdir()] == ["photographs"]


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    def drawn(name: str, seed: int) -> bytes:
        return demo.draw_image(name, np.random.default_rng(seed)).tobytes()

    for name in demo.CLASSES:
        assert drawn(name, 1) == drawn(name, 1)
        assert drawn(name, 1) != drawn(name, 2)


def test_drawing_again_changes_nothing_and_repairs_what_is_missing(drawn: Path) -> None:
    first, second = drawn / "train" / "town" / "town00.jpg", drawn / "train" / "town" / "town01.jpg"
    content, node = first.read_bytes(), first.stat().st_ino
    demo.draw(drawn)
    assert first.stat().st_ino == node
    second.unlink()
    demo.draw(drawn)
    assert demo.complete(drawn)
    assert first.read_bytes() == content


def test_other_files_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="mine.jpg"):
        demo.draw(tmp_path)
    assert (tmp_path / "train" / "mine.jpg").exists()


def test_mean_colour_does_not_tell_the_classes_apart(drawn: Path) -> None:
    def table(split: str) -> tuple[np.ndarray, np.ndarray]:
        paths = sorted((drawn / split).glob("*/*.jpg"))
        colours = np.array([np.asarray(Image.open(path)).reshape(-1, 3).mean(axis=0) / 255 for path in paths])
        return np.c_[colours, np.ones(len(paths))], np.array([path.parent.name == "town" for path in paths])

    (x, y), (held, truth) = table("train"), table("val")
    weights = np.zeros(4)
    for _ in range(3000):
        weights -= x.T @ (1 / (1 + np.exp(-x @ weights)) - y) / len(y)
    assert ((x @ weights > 0) == y).mean() < 0.75
    assert ((held @ weights > 0) == truth).mean() < 0.75


@pytest.mark.parametrize("link", ["photos", "photos/train", "photos/val/town"])
def test_nothing_is_drawn_through_a_link(tmp_path: Path, link: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "theirs")
    with pytest.raises(DataError, match="is a link"):
        demo.draw(tmp_path / "photos")
    assert not any((tmp_path / "theirs").iterdir())
