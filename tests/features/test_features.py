"""Every frozen layer sees every image once; what is stored is used, what is damaged is made again."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.artifacts import files
from tuner.artifacts.entries import Artifacts
from tuner.backbones.architecture import architecture
from tuner.backends import backend
from tuner.features import bank as features

OF = architecture(image_size=48)
LAYERS = tuple(n for n in (layer.name for layer in OF.table) if not n.endswith(("_bn", "_relu")))
"""The stock layers by the names they have in a search, where BatchNorm and the ReLU after it are part of the
convolution."""
WANTED = ("conv4_block2", "conv5_block2", "pooled")


class Canary:
    """Counts (frozen layer, image) pairs of every forward pass, which still runs. An image is known by its
    activations at the pass's input: all of the tests' are different. Rows that repeat one inside a batch are the
    padding of the last batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.passes = 0
        self.numbers: dict[bytes, int] = {}
        self.know(images)
        real = backend.forward

        def forward(model: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
            run = real(model)
            frozen = [layer.name for layer in model.layers if layer.name in LAYERS[1:]]

            def counted(batch: np.ndarray) -> list[np.ndarray]:
                self.passes += 1
                images = {self.numbers[row.tobytes()] for row in batch}
                self.seen.update((layer, number) for layer in frozen for number in images)
                return run(batch)

            return counted

        monkeypatch.setattr(backend, "forward", forward)

    def know(self, activations: np.ndarray) -> None:
        """The images' activations at another cut that a pass may begin at."""
        self.numbers |= {row.tobytes(): number for number, row in enumerate(activations)}


def ensure(backbone: Any, squares: np.ndarray, cache: Path, wanted: tuple[str, ...] = WANTED) -> features.Features:
    return features.ensure(backbone, squares, "squares", wanted=wanted, cache=cache)


@pytest.fixture(scope="module")
def stored(backbone: Any, squares: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A cache that holds the wanted cuts, and the features that filled it."""
    place = tmp_path_factory.mktemp("features")
    return place, ensure(backbone, squares, place)


@pytest.fixture
def filled(stored: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of that cache for a test to spoil."""
    shutil.copytree(stored[0], tmp_path / "cache")
    return tmp_path / "cache"


def entries(cache: Path) -> dict[str, Path]:
    """Published folders by cut."""
    artifacts = Artifacts(cache / "features")
    return {artifacts._body(key)["about"]["cut"]: artifacts.folder / key for key in artifacts.listed()}


def test_every_image_goes_through_every_frozen_layer_exactly_once(
    backbone: Any, squares: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one pass for all cuts, then none, then only from the nearest stored cut upwards."""
    canary = Canary(monkeypatch, squares)
    first = ensure(backbone, squares, tmp_path, ("conv4_block2", "conv5_block1"))
    names = LAYERS
    below = names[1 : names.index("conv5_block1_out") + 1]
    assert canary.seen == Counter({(layer, n): 1 for layer in below for n in range(len(squares))})
    assert first.computed == ("conv4_block2", "conv5_block1") and first.rate and first.rate > 0

    passes = canary.passes
    again = ensure(backbone, squares, tmp_path, ("conv4_block2", "conv5_block1"))
    assert canary.passes == passes and again.computed == () and again.rate is None

    canary.know(first.arrays["conv5_block1"])
    more = ensure(backbone, squares, tmp_path, ("conv4_block2", "conv5_block1", "conv5_block2", "pooled"))
    assert more.computed == ("conv5_block2", "pooled")
    assert canary.seen == Counter({(layer, n): 1 for layer in names[1:] for n in range(len(squares))})


def test_cuts_missing_below_and_above_a_stored_one_leave_what_is_between_alone(
    backbone: Any, squares: np.ndarray, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conv4_block2 and pooled are lost, conv5_block2 is there: no layer from the one to the other runs again."""
    for cut in ("conv4_block2", "pooled"):
        shutil.rmtree(entries(filled)[cut])
    canary = Canary(monkeypatch, squares)
    canary.know(np.load(entries(filled)["conv5_block2"] / "features.npy"))
    assert ensure(backbone, squares, filled).computed == ("conv4_block2", "pooled")
    names = LAYERS
    run = [*names[1 : names.index("conv4_block2_out") + 1], *names[names.index("conv5_block2_out") + 1 :]]
    assert canary.seen == Counter({(layer, n): 1 for layer in run for n in range(len(squares))})


def test_the_cache_keeps_to_its_budget_by_letting_the_longest_unused_go(
    backbone: Any, squares: np.ndarray, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LEASE", -1.0)
    found = entries(filled)
    ages = {"conv5_block2": 3000, "conv4_block2": 2000, "pooled": 1000}
    for cut, age in ages.items():
        os.utime(found[cut], (time.time() - age, time.time() - age))

    def size() -> int:
        return sum(f.stat().st_size for folder in entries(filled).values() for f in folder.iterdir())

    pooled = 37 * OF.bytes("pooled")
    budget = size() + pooled // 2  # not enough for another one
    features.ensure(backbone, squares, "others", wanted=("pooled",), cache=filled, budget=budget)
    assert found["pooled"].exists() and found["conv4_block2"].exists() and not found["conv5_block2"].exists()
    used = features.ensure(
        backbone, squares, "squares", wanted=("conv4_block2", "conv5_block2"), cache=filled, budget=0
    )
    assert used.computed == ("conv5_block2",)
    assert set(entries(filled)) == {"conv4_block2", "conv5_block2"}, "what is in use stays, whatever the budget"


def test_features_are_the_prefixs_outputs_in_the_images_order(
    stored: tuple[Path, Any], backbone: Any, squares: np.ndarray
) -> None:
    found = stored[1].arrays
    assert found["image"] is squares
    run = backend.forward(backbone.prefix("image", WANTED))
    for cut, values in zip(WANTED, run(squares[30:37]), strict=True):
        array = found[cut]
        assert array.dtype == np.float32 and array.shape == (37, *OF.shape(cut))
        assert isinstance(array, np.memmap) and not array.flags.writeable
        assert np.allclose(array[30:37], values, rtol=1e-3, atol=1e-4 * np.abs(values).max())


def test_what_is_computed_from_a_stored_cut_equals_one_pass(
    stored: tuple[Path, Any], filled: Path, backbone: Any, squares: np.ndarray
) -> None:
    for cut in ("conv5_block2", "pooled"):
        shutil.rmtree(entries(filled)[cut])
    again = ensure(backbone, squares, filled)
    assert again.computed == ("conv5_block2", "pooled")
    for cut in WANTED:
        whole = stored[1].arrays[cut]
        assert np.abs(again.arrays[cut] - whole).max() <= 1e-4 * np.abs(whole).max()


def cut_short(folder: Path) -> None:
    data = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(data[: len(data) // 2])


def flip_a_bit(folder: Path) -> None:
    with open(folder / "features.npy", "r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))


def spoil_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"sha256": ')


def another_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def replaced(folder: Path, values: np.ndarray) -> None:
    """Another array under a manifest that is right about it."""
    artifacts, about = Artifacts(folder.parent), Artifacts(folder.parent).about(folder.name)
    shutil.rmtree(folder)
    with artifacts.staging() as staged:
        np.save(staged.folder / "features.npy", values)
        artifacts.publish(staged, folder.name, about)


def wrong_shape(folder: Path) -> None:
    replaced(folder, np.load(folder / "features.npy")[:-1])


def another_type(folder: Path) -> None:
    replaced(folder, np.load(folder / "features.npy").astype(np.float64))


def empty(folder: Path) -> None:
    (folder / "features.npy").write_bytes(b"")


@pytest.mark.parametrize(
    "damage",
    [cut_short, flip_a_bit, spoil_the_manifest, another_manifest, no_manifest, wrong_shape, another_type, empty],
)
def test_a_damaged_entry_is_made_again(
    damage: Callable[[Path], None], stored: tuple[Path, Any], filled: Path, backbone: Any, squares: np.ndarray
) -> None:
    damage(entries(filled)["pooled"])
    again = ensure(backbone, squares, filled)
    assert again.computed == ("pooled",), "and nothing else is"
    whole = stored[1].arrays["pooled"]
    assert np.abs(again.arrays["pooled"] - whole).max() <= 1e-4 * np.abs(whole).max()
    assert ensure(backbone, squares, filled).computed == ()
    assert not list((filled / "features").glob(".*"))


def test_mirror_images_have_features_of_their_own_when_they_are_asked_for(
    filled: Path, backbone: Any, squares: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed once, of the squares with their columns reversed; the plain ones are not computed again."""
    mirrored, before = squares[:, :, ::-1], set((filled / "features").iterdir())
    assert ensure(backbone, squares, filled).mirror is None
    canary = Canary(monkeypatch, mirrored)
    for computed in (WANTED, ()):
        found = features.ensure(backbone, squares, "squares", wanted=WANTED, cache=filled, mirrored=True)
        assert found.computed == computed
        assert canary.seen and set(canary.seen.values()) == {1}
    assert len(set((filled / "features").iterdir()) - before) == len(WANTED)
    assert features.stored(backbone, "squares", WANTED, cache=filled, view="mirrored") == WANTED
    assert found.mirror is not None and np.array_equal(found.mirror.arrays["image"], mirrored)
    others = ensure(backbone, np.ascontiguousarray(mirrored), filled.with_name("others")).arrays
    for cut in WANTED:
        assert [len(look) for look in found.looks(cut)] == [len(squares)] * 2
        assert np.array_equal(found.mirror.arrays[cut], others[cut])
        assert not np.array_equal(found.arrays[cut], others[cut])


def test_a_half_written_folder_is_never_taken(filled: Path, backbone: Any, squares: np.ndarray) -> None:
    whole = entries(filled)["pooled"]
    half = whole.with_name(f".{whole.name}.99999.part")
    whole.rename(half)
    again = ensure(backbone, squares, filled)
    assert again.computed == ("pooled",)
    assert Path(str(again.arrays["pooled"].filename)).parent.name == whole.name  # type: ignore[attr-defined]


def test_stopping_leaves_what_was_whole_and_nothing_half(filled: Path, backbone: Any, squares: np.ndarray) -> None:
    shutil.rmtree(entries(filled)["pooled"])
    kept = set(entries(filled))
    stop = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        features.ensure(
            backbone,
            squares,
            "squares",
            wanted=WANTED,
            cache=filled,
            on_progress=lambda done, total: stop.set(),
            should_stop=stop,
        )
    assert set(entries(filled)) == kept == {"conv4_block2", "conv5_block2"}
    assert not list((filled / "features").glob(".*")), "the half-written one is removed"


def test_another_question_has_another_entry(filled: Path, backbone: Any, squares: np.ndarray) -> None:
    """The same numbers under another key of the images are not taken."""
    before = set(entries(filled).values())
    found = features.ensure(backbone, squares, "other images", wanted=("pooled",), cache=filled)
    assert found.computed == ("pooled",)
    assert len(set((filled / "features").iterdir()) - before) == 1


def test_another_architecture_has_another_entry(filled: Path, backbone: Any, squares: np.ndarray) -> None:
    other = copy.copy(backbone)
    other.architecture = dataclasses.replace(backbone.architecture, name="resnet50-b")
    assert features.ensure(other, squares, "squares", wanted=("pooled",), cache=filled).computed == ("pooled",)
    assert ensure(backbone, squares, filled).computed == ()


def test_progress_counts_images(backbone: Any, squares: np.ndarray, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    features.ensure(
        backbone,
        squares,
        "squares",
        wanted=("stem",),
        cache=tmp_path,
        on_progress=lambda done, total: said.append((done, total)),
    )
    assert said == [(32, 37), (37, 37)]


# ---- the byte budget ----

needs = st.dictionaries(st.sampled_from(OF.cuts), st.integers(1, 5), min_size=1).map(lambda n: {"pooled": 1} | n)


def cost(needed: dict[str, int], stored: tuple[str, ...]) -> int:
    return sum(times * OF.macs(OF.nearest(cut, stored), cut) for cut, times in needed.items())


@given(needed=needs, images=st.integers(1, 5000), budget=st.floats(0, 5e9))
def test_the_budget_is_kept(needed: dict[str, int], images: int, budget: float) -> None:
    chosen = features.worth_storing(needed, images, OF, budget)
    assert set(chosen) <= set(needed) - {"image"}
    assert list(chosen) == sorted(chosen, key=OF.index)
    # "pooled" is always stored: a search without it would run the whole network for each frozen configuration.
    assert "pooled" in chosen
    taken = images * sum(OF.bytes(c) for c in chosen)
    assert taken <= max(budget, images * OF.bytes("pooled"))
    for cut in set(needed) - set(chosen) - {"image"}:
        too_big = images * OF.bytes(cut) > budget - taken
        assert too_big or cost(needed, (*chosen, cut)) == cost(needed, chosen), "nothing worth it is left out"


def test_no_budget_stores_the_pooled_features_alone_and_enough_stores_all() -> None:
    needed = {"pooled": 1, "conv5_block2": 1, "conv3_block1": 2, "image": 1}
    assert features.worth_storing(needed, 100, OF, 0) == ("pooled",)
    assert features.worth_storing(needed, 100, OF, 1e12) == ("conv3_block1", "conv5_block2", "pooled")


def test_means_are_computed_in_the_pass_of_the_cuts_or_from_what_is_stored_and_kept(
    backbone: Any, squares: np.ndarray, stored: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frozen layer still sees every image once, what is stored is what it is without means, and a mean lost is
    made from the nearest cut below."""
    means = ("conv5_block2", "conv5_block1", "conv4_block6")

    def ensure() -> features.Features:
        return features.ensure(backbone, squares, "squares", wanted=WANTED, cache=tmp_path, means=means)

    canary = Canary(monkeypatch, squares)
    found = ensure()
    assert canary.seen == Counter({(layer, n): 1 for layer in LAYERS[1:] for n in range(len(squares))})
    assert found.computed == WANTED and set(found.arrays) == {"image", *WANTED} and set(found.means) == set(means)
    for cut in WANTED:
        assert np.array_equal(found.arrays[cut], stored[1].arrays[cut]), cut
    np.testing.assert_allclose(found.means["conv5_block2"], found.arrays["conv5_block2"].mean(axis=(1, 2)), rtol=1e-5)
    rows = np.array([5, 0, 36])
    joined = found.joined(["pooled", "conv5_block1"], rows)
    assert joined.shape == (3, 2048 + 2048) and np.array_equal(joined[:, :2048], found.arrays["pooled"][rows])
    assert np.array_equal(joined[:, 2048:], found.means["conv5_block1"][rows])

    passes = canary.passes
    assert ensure().computed == () and canary.passes == passes
    before = np.array(found.means["conv5_block1"])
    shutil.rmtree(entries(tmp_path)["conv5_block1 mean"])
    canary.know(found.arrays["conv4_block2"])
    again = ensure()
    assert again.computed == () and again.rate and canary.passes > passes
    np.testing.assert_allclose(again.means["conv5_block1"], before, rtol=1e-4, atol=1e-5)
