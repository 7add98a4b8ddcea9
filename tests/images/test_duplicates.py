"""Copies that were saved, resized or brightened are found; different images are not."""

from __future__ import annotations

import io
import tracemalloc
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
from tuner.images import duplicates, near
from tuner.images.dataset import prepare
from tuner.spec.spec import DataSpec

SPEC = DataSpec(path="data", image_size=32)
BITS = duplicates.BITS
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


def all_pairs(looks: list[str]) -> set[tuple[int, int]]:
    """The definition: all pairs that differ in at most ALIKE bits, by comparing all with all."""
    bits = [np.unpackbits(np.frombuffer(bytes.fromhex(look), np.uint8)) if look else None for look in looks]
    near = set()
    for j, one in enumerate(bits):
        for i, other in enumerate(bits[:j]):
            if one is not None and other is not None and np.count_nonzero(one != other) <= duplicates.ALIKE:
                near.add((i, j))
    return near


def sets_of(number: int, pairs: set[tuple[int, int]]) -> set[frozenset[int]]:
    """What pairs join, directly or through others."""
    found = [{i} for i in range(number)]
    for i, j in pairs:
        if found[i] is not found[j]:
            found[i] |= found[j]
            for k in found[j]:
                found[k] = found[i]
    return {frozenset(one) for one in found}


def check_forest(looks: list[str]) -> set[tuple[int, int]]:
    """Each link is a pair of the definition, and as few as can be join what all its pairs join."""
    pairs, links = all_pairs(looks), {(min(i, j), max(i, j)) for i, j in duplicates.links(looks).tolist()}
    sets = sets_of(len(looks), pairs)
    assert links <= pairs and sets_of(len(looks), links) == sets
    assert len(links) == len(looks) - len(sets)
    return links


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_changed_copy_is_alike_and_no_other_image(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = [pixels(seed, 160, 120) for seed in range(PLAIN)]
    copies = [np.asarray(change(Image.fromarray(p)).convert("RGB")) for p in originals]
    found = check_forest([duplicates.look(p) for p in [*originals, *copies]])
    assert found <= {(i, i + PLAIN) for i in range(PLAIN)}, "different images are never alike"
    assert len(found) >= 0.95 * PLAIN


def hashes(bits: np.ndarray) -> list[str]:
    return [row.tobytes().hex() for row in np.packbits(bits, axis=1)]


@pytest.mark.parametrize("flips", [0.02, 0.05, 0.058, 0.12])
@pytest.mark.parametrize("scenes", [1, 6, 60])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_the_same_sets_as_by_comparing_all_with_all(
    flips: float, scenes: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made hashes: frames of scenes, some so far apart that only others join them; by bands, and where these do not
    tell enough.
    """
    monkeypatch.setattr(near, "_CHUNK", chunk)
    random = np.random.default_rng(scenes)
    whole = random.random((scenes, BITS)) < 0.5
    looks = hashes(whole[random.integers(scenes, size=180)] ^ (random.random((180, BITS)) < flips))
    looks[::11], looks[5] = [""] * len(looks[::11]), looks[6]
    links = check_forest(looks)
    for gathering in (0, 1e9):
        monkeypatch.setattr(near, "_GATHERING", gathering)
        assert sets_of(len(looks), check_forest(looks)) == sets_of(len(looks), links)


@given(st.integers(27, 30), st.randoms(use_true_random=False))
def test_the_limit_is_exact_wherever_the_bits_differ(number: int, random: Any) -> None:
    one = np.zeros((2, BITS), bool)
    band = random.randrange(near.BANDS)  # all differ in few bands, or wherever
    places = random.choice([range(BITS), [i for i in range(BITS) if (i - band) % near.BANDS < 4]])
    one[1, random.sample(places, number)] = True
    for gathering in (0, 1e9):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(near, "_GATHERING", gathering)
            assert len(duplicates.links(hashes(one))) == (number <= duplicates.ALIKE)


def test_a_camera_that_stands_still_makes_no_list_of_pairs() -> None:
    """18 million pairs; memory is that of the images and of one chunk."""
    random = np.random.default_rng(0)
    frames = np.packbits(random.random((6000, BITS)) < 0.04, axis=1)
    tracemalloc.start()
    links = near.forest(frames, duplicates.ALIKE)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(links) == 5999 and most < 30e6


def test_a_flat_image_is_like_nothing() -> None:
    flat = duplicates.look(np.full((64, 64, 3), 200, np.uint8))
    assert flat == ""
    assert len(duplicates.links([flat, flat])) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "saved"])), max_size=12), st.randoms())
def test_together_does_not_depend_on_the_order(members: list[tuple[int, str]], random: st.DataObject) -> None:
    names = [f"{i:02d}" for i in range(len(members))]
    looks = [duplicates.look(pixels(seed, 96, 80)) for seed, _ in members]
    groups = dict(zip(names, duplicates.together(names, duplicates.links(looks)), strict=True))
    shuffled = list(range(len(members)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    links = duplicates.links([looks[i] for i in shuffled])
    again = duplicates.together([names[i] for i in shuffled], links)
    assert {names[i]: group for i, group in zip(shuffled, again, strict=True)} == groups
    for a, (seed, _) in zip(names, members, strict=True):
        for b, (other, _) in zip(names, members, strict=True):
            assert (groups[a] == groups[b]) == (seed == other)


def test_across_splits_it_is_a_warning_that_names_the_pair(tmp_path: Path) -> None:
    folder(tmp_path / "data", 5, 5)
    image_file(tmp_path / "data" / "train" / "cat" / "again.jpg", 900, 160, 120, quality=90)
    image_file(tmp_path / "data" / "val" / "cat" / "again.png", 900, 160, 120)
    data = prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    (said,) = data.warnings
    assert "look the same: train/cat/again.jpg ~ val/cat/again.png" in said
    assert prepare(SPEC, tmp_path, tmp_path / "cache", 0).warnings == data.warnings, "from the cache too"


@pytest.mark.parametrize("make", [folder, unsplit])
def test_they_are_compared_once_in_an_image_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Any]
) -> None:
    """Of many images the answer is kept: for another seed, another size, another start."""
    monkeypatch.setattr(duplicates, "_FEW", 0)
    make(tmp_path / "data")
    image_file(tmp_path / "data" / "again.jpg", 0)
    (tmp_path / "data" / "again.jpg").rename(next((tmp_path / "data").rglob("cat")) / "again.jpg")
    calls, forest = [], near.forest
    monkeypatch.setattr(near, "forest", lambda *args: calls.append(1) or forest(*args))
    first = prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    again = prepare(SPEC, tmp_path, tmp_path / "cache", 0)
    assert len(calls) == 1
    assert (first.groups, first.warnings, first.records) == (again.groups, again.warnings, again.records)
    monkeypatch.setattr(duplicates, "_FEW", 1000)
    fresh = prepare(SPEC, tmp_path, tmp_path / "fresh", 0)
    assert len(calls) == 2
    assert (first.groups, first.warnings, first.records) == (fresh.groups, fresh.warnings, fresh.records)
    monkeypatch.setattr(duplicates, "_FEW", 0)
    prepare(DataSpec(path="data", image_size=33), tmp_path, tmp_path / "cache", 1)
    assert len(calls) == 2, "neither the seed nor the size changes what looks the same"


def test_a_set_is_named_once_however_many_pairs_it_makes(tmp_path: Path) -> None:
    folder(tmp_path / "data", 5, 5)
    for quality in range(60, 90, 5):
        for split in ("train", "val"):
            name = f"data/{split}/cat/again{quality}.jpg"
            image_file(tmp_path / name, 900, 160, 120, quality=quality + (split == "val"))
    (said,) = [w for w in prepare(SPEC, tmp_path, tmp_path / "cache", 0).warnings if "different splits" in w]
    assert said.startswith("Photographs in different splits look the same: train/cat/again") and said.count(" ~ ") == 1
    image_file(tmp_path / "data/train/dog/two.jpg", 901, 160, 120, quality=90)
    image_file(tmp_path / "data/val/dog/two.jpg", 901, 160, 120, quality=80)
    (said,) = [w for w in prepare(SPEC, tmp_path, tmp_path / "cache", 0).warnings if "different splits" in w]
    assert said.startswith("2 sets of photographs in different splits look the same: ") and said.count(" ~ ") == 2


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
