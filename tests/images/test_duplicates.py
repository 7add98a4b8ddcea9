"""Copies that were saved, resized or brightened are found; different images are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import folder, image_file, pixels, unsplit
from PIL import Image, ImageEnhance

from tuner.errors import DataError
from tuner.images import duplicates
from tuner.images.dataset import prepare
from tuner.spec.spec import DataSpec

SPEC = DataSpec(path="data", image_size=32)
PLAIN = 200  # images


def saved(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": saved,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_changed_copy_is_alike_and_no_other_image(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [pixels(seed, 160, 120) for seed in range(PLAIN)]
    copies = [np.asarray(change(Image.fromarray(p)).convert("RGB")) for p in originals]
    found = set(duplicates.alike([duplicates.look(p) for p in [*originals, *copies]]))
    assert found <= {(i, i + PLAIN) for i in range(PLAIN)}, "different images are never alike"
    assert len(found) >= 0.95 * PLAIN


def test_a_flat_image_is_like_nothing() -> None:
    flat = duplicates.look(np.full((64, 64, 3), 200, np.uint8))
    assert flat == ""
    assert list(duplicates.alike([flat, flat])) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "saved"])), max_size=12), st.randoms())
def test_together_does_not_depend_on_the_order(members: list[tuple[int, str]], random: st.DataObject) -> None:
    names = [f"{i:02d}" for i in range(len(members))]
    looks = [duplicates.look(pixels(seed, 96, 80)) for seed, _ in members]
    groups = dict(zip(names, duplicates.together(names, duplicates.alike(looks)), strict=True))
    shuffled = list(range(len(members)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    pairs = duplicates.alike([looks[i] for i in shuffled])
    again = duplicates.together([names[i] for i in shuffled], pairs)
    assert {names[i]: group for i, group in zip(shuffled, again, strict=True)} == groups
    for a, (seed, _) in zip(names, members, strict=True):
        for b, (other, _) in zip(names, members, strict=True):
            assert (groups[a] == groups[b]) == (seed == other)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [duplicates.look(pixels(seed % 23, 96, 80)) for seed in range(60)]
    whole = sorted(duplicates.alike(looks))
    monkeypatch.setattr(duplicates, "_ROWS", 7)
    assert sorted(duplicates.alike(looks)) == whole and len(whole) > 23


def test_across_splits_it_is_a_warning_that_names_the_pair(tmp_path: Path) -> None:
    folder(tmp_path / "data", 5, 5)
    image_file(tmp_path / "data" / "train" / "cat" / "again.jpg", 900, 160, 120, quality=90)
    image_file(tmp_path / "data" / "val" / "cat" / "again.png", 900, 160, 120)
    data = prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    (said,) = data.warnings
    assert "look the same: train/cat/again.jpg ~ val/cat/again.png" in said
    assert prepare(SPEC, tmp_path, tmp_path / "cache", 0).warnings == data.warnings, "from the cache too"


@pytest.mark.parametrize("make", [folder, unsplit])
def test_all_are_compared_with_all_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    make(tmp_path / "data")
    calls, unpacked = [], np.unpackbits  # once in each comparison
    monkeypatch.setattr(np, "unpackbits", lambda *args, **how: calls.append(1) or unpacked(*args, **how))
    prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    assert len(calls) == 1


def test_the_splitter_keeps_them_together(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 6)
    for number in range(12):
        image_file(tmp_path / "data" / "cat" / f"a{number}.jpg", 500 + number, 160, 120, quality=95)
        image_file(tmp_path / "data" / "cat" / f"b{number}.jpg", 500 + number, 160, 120, quality=40)
    for seed in range(5):
        data = prepare(SPEC, tmp_path, tmp_path / "cache", seed)
        where = {p.path: p.split for p in data.records}
        assert all(where[f"cat/a{n}.jpg"] == where[f"cat/b{n}.jpg"] for n in range(12))
        assert {where[f"cat/a{n}.jpg"] for n in range(12)} == {"train", "val"} or seed
        assert not any("look the same" in warning for warning in data.warnings)


def test_strict_refuses_a_single_bad_file(tmp_path: Path) -> None:
    folder(tmp_path / "data", 5, 5)
    (tmp_path / "data" / "train" / "cat" / "bad.jpg").write_text("no photograph")
    assert len(prepare(SPEC, tmp_path, tmp_path / "cache", 0).left_out) == 1
    with pytest.raises(DataError, match=r"1 of 21 files cannot be used: train/cat/bad.jpg.*With data.strict none"):
        prepare(DataSpec(path="data", image_size=32, strict=True), tmp_path, tmp_path / "cache", 0)


def test_recursive_takes_folders_inside_a_class(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 5)
    image_file(tmp_path / "data" / "cat" / "more" / "deep" / "one.jpg", 900)
    with pytest.raises(DataError, match="with --recursive"):
        prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    data = prepare(DataSpec(path="data", image_size=32, recursive=True), tmp_path, tmp_path / "cache", 0)
    (deep,) = [p for p in data.records if p.path == "cat/more/deep/one.jpg"]
    assert data.classes == ("cat", "dog") and data.classes[deep.label] == "cat"


def test_the_cache_forgets_what_is_unused_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from tuner.artifacts import files
    from tuner.images import reading

    entries = tmp_path / "cache" / "images"
    kept = []
    for number in range(4):
        folder(tmp_path / "data", 5 + number, 5)
        prepare(SPEC, tmp_path, tmp_path / "cache", 0)
        (new,) = {p.name for p in entries.iterdir()} - set(kept)
        kept.append(new)
        os.utime(entries / new, (1000 + number, 1000 + number))
    monkeypatch.setattr(reading, "BUDGET", 1)
    monkeypatch.setattr(files, "LEASE", -1.0)
    prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    assert {p.name for p in entries.iterdir()} == {kept[-1]}, "what is in use stays, however small the budget"
