"""Features of views are those of their squares, computed once, found by image and view."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features.test_features import Canary, entries

from tuner.backends import backend
from tuner.features import bank
from tuner.images.views import View

CUTS = ("conv5_block2", "pooled")
FIRST, LAST = 0, 20
"""The rows that are trained on; the second split's begin where the first one's end."""


def sets(squares: np.ndarray) -> list[View]:
    """Two made views of two splits, 12 and 8 images: the squares upside down, and mirrored."""
    made = {1: squares[:, ::-1], 2: squares[:, :, ::-1]}
    return [
        View("light", number, end - first, f"{number} {first}", 0, first, made[number][first:end])
        for first, end in ((0, 12), (12, LAST))
        for number in made
    ]


def with_views(backbone: Any, squares: np.ndarray, cache: Path, **options: Any) -> bank.Features:
    plain = bank.ensure(backbone, squares, "squares", wanted=CUTS, cache=cache)
    return bank.with_views(plain, backbone, sets(squares), wanted=CUTS, cache=cache, **options)


@pytest.fixture(scope="module")
def stored(backbone: Any, squares: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bank.Features]:
    place = tmp_path_factory.mktemp("views")
    return place, with_views(backbone, squares, place)


def test_the_bank_holds_what_the_backbone_makes_of_the_views(
    stored: tuple[Path, bank.Features], backbone: Any, squares: np.ndarray
) -> None:
    found = stored[1]
    assert set(found.augmented) == {("light", cut) for cut in ("image", *CUTS)}
    assert set(found.cuts("light")) == set(found.cuts("none")) == {"image", *CUTS}
    rows = np.array([3, 17, 17, 0, 12, 11])
    numbers = np.array([1, 2, 1, 2, 2, 1])
    wanted = np.stack(
        [
            (squares[row, ::-1] if number == 1 else squares[row, :, ::-1])
            for row, number in zip(rows, numbers, strict=True)
        ]
    )
    assert np.array_equal(found.augmented["light", "image"].take(rows, numbers), wanted)
    for cut, values in zip(CUTS, backend.forward(backbone.prefix("image", CUTS))(wanted), strict=True):
        ours = found.augmented["light", cut].take(rows, numbers)
        assert ours.dtype == np.float32
        assert np.abs(ours - values).max() <= 1e-4 * np.abs(values).max()


def test_each_view_is_computed_once_and_what_is_lost_alone_again(
    stored: tuple[Path, bank.Features],
    backbone: Any,
    squares: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(stored[0], tmp_path / "cache")
    canary = Canary(monkeypatch, np.concatenate([squares, squares[:, ::-1], squares[:, :, ::-1]]))
    told: list[tuple[int, int]] = []
    with_views(backbone, squares, tmp_path / "cache")
    assert canary.passes == 0
    kept = dict(stored[1].augmented)
    for folder in entries_of(tmp_path / "cache", "light 2"):
        shutil.rmtree(folder)
    again = with_views(backbone, squares, tmp_path / "cache", on_progress=lambda *d: told.append(d))
    assert canary.passes == 2 and set(canary.seen.values()) == {1}, "a pass a split"
    assert told == [(24, 40), (40, 40)]
    rows, numbers = np.arange(LAST), np.full(LAST, 2)
    for key, views in kept.items():
        before = views.take(rows, numbers)
        assert np.abs(again.augmented[key].take(rows, numbers) - before).max() <= 1e-4 * np.abs(before).max()


def entries_of(cache: Path, view: str) -> list[Path]:
    from tuner.artifacts.entries import Artifacts

    artifacts = Artifacts(cache / "features")
    return [artifacts.folder / k for k in artifacts.listed() if artifacts._body(k)["about"]["view"] == view]


def test_means_of_views_are_those_of_their_features_mirror_images_too_and_are_computed_once(
    backbone: Any, squares: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the pass of the cuts, whether they are stored at that cut too or not."""
    cuts, means = ("pooled",), ("conv5_block2", "conv5_block1")

    def both(wanted: tuple[str, ...] = cuts) -> bank.Features:
        plain = bank.ensure(backbone, squares, "squares", wanted=wanted, cache=tmp_path, means=means, mirrored=True)
        return bank.with_views(plain, backbone, sets(squares), wanted=wanted, cache=tmp_path, means=means)

    canary = Canary(monkeypatch, np.concatenate([squares, squares[:, :, ::-1], squares[:, ::-1]]))
    found, passes = both(), canary.passes
    assert set(canary.seen.values()) == {1, 2}, "the mirror images are a view of their own too"
    assert np.array_equal(
        both().mean_views("flip", "conv5_block1").take(np.array([4]), np.array([1])),
        found.mirror.means["conv5_block1"][[4]],
    )
    assert canary.passes == passes, "both are stored"
    assert found.cuts("light") == ["image", "pooled"] == found.cuts("flip")
    squares_and_cuts = both(("conv5_block2", "pooled"))
    for seen, numbers in (("light", np.array([1, 2, 1])), ("flip", np.array([0, 1, 1]))):
        rows = np.array([3, 17, 0])
        whole = squares_and_cuts.augmented[seen, "conv5_block2"].take(rows, numbers)
        ours = found.mean_views(seen, "conv5_block2").take(rows, numbers)
        np.testing.assert_allclose(ours, whole.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
        assert found.mean_views(seen, "conv5_block1").take(rows, numbers).shape == (3, 2048)
        assert found.mean_views(seen, "pooled") is found.augmented[seen, "pooled"]


def test_of_flip_the_plain_and_the_mirror_image_are_the_views(backbone: Any, squares: np.ndarray, cache: Path) -> None:
    both = bank.ensure(backbone, squares, "squares", wanted=CUTS, cache=cache, mirrored=True)
    found = bank.with_views(both, backbone, [], wanted=(), cache=cache)
    assert found.cuts("flip") == found.cuts("none") == list(both.arrays)
    views = found.augmented["flip", "pooled"]
    assert views.numbers == (0, 1) and both.mirror is not None
    taken = views.take(np.array([4, 4, 9]), np.array([0, 1, 0]))
    assert np.array_equal(taken[[0, 2]], both.arrays["pooled"][[4, 9]])
    assert np.array_equal(taken[1], both.mirror.arrays["pooled"][4]) and not np.array_equal(taken[0], taken[1])


def test_views_of_an_image_that_has_none_are_an_error(stored: tuple[Path, bank.Features]) -> None:
    with pytest.raises(ValueError, match="view 1 of image 30"):
        stored[1].augmented["light", "pooled"].take(np.array([3, 30]), np.array([1, 1]))


def test_without_views_nothing_is_made(backbone: Any, squares: np.ndarray, tmp_path: Path) -> None:
    plain = bank.ensure(backbone, squares, "squares", wanted=("pooled",), cache=tmp_path)
    before = entries(tmp_path)
    found = bank.with_views(plain, backbone, [], wanted=(), cache=tmp_path)
    assert found.augmented == {} and entries(tmp_path) == before and found.arrays is plain.arrays
