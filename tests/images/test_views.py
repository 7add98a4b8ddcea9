"""A view of an image is decided by its name, drawn from the file once, and kept."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import folder, image_file, pixels
from images.preparing import SPEC, run
from PIL import Image

from tuner.errors import DataError
from tuner.images import reading, views
from tuner.images.dataset import Dataset
from tuner.images.views import POLICIES, View

NAMES: dict[str, Any] = {"seed": 0, "sha256": "a", "number": 1}


def view(
    image: Image.Image, augmentation: str = "light", size: int = 32, mode: str = "crop", **names: Any
) -> np.ndarray:
    return views.view(image, augmentation, size, mode, **(NAMES | names))


@pytest.mark.parametrize("augmentation", POLICIES)
def test_a_view_is_a_pure_function_of_its_names(augmentation: str) -> None:
    image = Image.fromarray(pixels(1, 90, 70))
    first = view(image, augmentation)
    assert np.array_equal(view(image, augmentation), first)
    others = [
        view(image, augmentation, **{name: value}) for name, value in (("seed", 1), ("sha256", "b"), ("number", 2))
    ]
    assert not any(np.array_equal(other, first) for other in others)


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(90, 70), (16, 300), (300, 16), (33, 33)])
def test_every_view_fills_its_square_whatever_the_image(mode: str, size: tuple[int, int]) -> None:
    """Black are the bars of "pad" alone, where the view is not turned."""
    image = Image.new("RGB", size, (200, 90, 50))
    for augmentation in POLICIES:
        for number in range(1, 20):
            made = view(image, augmentation, mode=mode, number=number)
            assert made.shape == (32, 32, 3) and made.dtype == np.uint8
            assert (made.max(axis=2) > 0).all() or mode == "pad"
            assert made.max() > 50


@pytest.mark.parametrize("size", [(240, 240), (400, 200), (200, 400)])
def test_crops_keep_to_their_area_and_shape_and_half_are_mirrored(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red counts columns and green rows, so a view tells what was cropped."""
    wide, high = size
    x, y = np.meshgrid(np.arange(wide) * 255 / wide, np.arange(high) * 255 / high)
    image = Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))
    policy = replace(POLICIES["light"], colour=0.0)
    monkeypatch.setitem(views.POLICIES, "light", policy)
    mirrored, areas = 0, []
    for number in range(200):
        made = view(image, size=64, number=number).astype(float)
        across = (made[32, 62, 0] - made[32, 1, 0]) / 61 * 64 * wide / 255
        down = (made[62, 32, 1] - made[1, 32, 1]) / 61 * 64 * high / 255
        mirrored += across < 0
        aspect = abs(across) / down
        assert 1 / policy.aspect - 0.05 < aspect < policy.aspect + 0.05
        largest = min(wide, high * aspect) * min(high, wide / aspect)
        areas.append(abs(across) * down / largest)
    assert policy.area - 0.04 < min(areas) < policy.area + 0.05 and 0.93 < max(areas) < 1.04
    assert 75 < mirrored < 125


def drawn(data: Dataset, tmp_path: Path, augmentation: str = "light", **options: Any) -> list[View]:
    spec = replace(SPEC, views=options.pop("views", 3), resize=options.pop("resize", "crop"))
    return views.drawn(data, "train", augmentation, spec, 0, tmp_path / "cache", **options)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every image that is decoded."""
    found, decode = list[int](), reading.decode

    def counted(image: Image.Image) -> Any:
        found.append(1)
        return decode(image)

    monkeypatch.setattr(reading, "decode", counted)
    return found


def test_a_file_is_decoded_once_for_all_of_its_views_and_never_again(tmp_path: Path, decoded: list[int]) -> None:
    folder(tmp_path / "data", 3, 3)
    data = run(tmp_path)
    decoded.clear()
    first = drawn(data, tmp_path)
    assert len(decoded) == len(data.indices("train")) == 6
    assert [v.name for v in first] == ["light 1", "light 2", "light 3"]
    for v in first:
        for row in data.indices("train"):
            record = data.records[row]
            with Image.open(data.root / record.path) as image:
                wanted = view(image.convert("RGB"), sha256=record.sha256, number=v.number)
            assert np.array_equal(v.squares[row - v.first], wanted)
            assert not v.squares.flags.writeable
    again = drawn(data, tmp_path)
    assert len(decoded) == 6 and [v.key for v in again] == [v.key for v in first]
    assert views.named(data, "train", "light", replace(SPEC, views=3), 0)[1].key == first[1].key

    image_file(tmp_path / "data/train/cat/new.jpg", 77)
    more = run(tmp_path)
    decoded.clear()
    larger = drawn(more, tmp_path, views=4)
    assert len(decoded) == 7, "of the old ones the fourth view"
    decoded.clear()
    image_file(tmp_path / "data/train/cat/newer.jpg", 78)
    largest = drawn(run(tmp_path), tmp_path, views=4)
    assert len(decoded) == 2, "plain, and its views"
    assert np.array_equal(largest[0].squares[:3], first[0].squares[:3])
    assert np.array_equal(larger[2].squares[:3], first[2].squares[:3])


@pytest.mark.parametrize("change", ["gone", "another", "damaged"])
def test_an_original_that_is_not_what_was_read_is_one_clear_error(tmp_path: Path, change: str) -> None:
    folder(tmp_path / "data", 3, 3)
    data, path = run(tmp_path), tmp_path / "data/train/dog/01.jpg"
    kept = path.read_bytes()
    if change == "gone":
        path.unlink()
    elif change == "another":
        image_file(path, 99)
    else:
        path.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(DataError, match=r"train/dog/01.jpg went away or changed since it was read .*Put it back"):
        drawn(data, tmp_path)
    assert not list((tmp_path / "cache" / "images").glob(".*")), "nothing half-drawn is left"
    path.write_bytes(kept)
    before = drawn(data, tmp_path)
    path.unlink()
    assert np.array_equal(drawn(data, tmp_path)[0].squares, before[0].squares), "what is drawn needs no original"


def test_views_of_a_zip_are_those_of_its_folder(tmp_path: Path) -> None:
    folder(tmp_path / "data", 3, 3)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")
    plain, packed = run(tmp_path), run(tmp_path, replace(SPEC, path="packed.zip"))
    assert plain.root != packed.root
    shutil.rmtree(tmp_path / "data")
    found = drawn(packed, tmp_path)
    assert [v.key for v in found] == [v.key for v in views.named(plain, "train", "light", replace(SPEC, views=3), 0)]


def test_two_at_once_draw_once_and_the_second_says_that_it_waits(tmp_path: Path, decoded: list[int]) -> None:
    folder(tmp_path / "data", 3, 3)
    data = run(tmp_path)
    decoded.clear()
    said, waits, found = list[str](), threading.Event(), list[View]()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    def second() -> None:
        found.extend(drawn(data, tmp_path, said=say))

    other = threading.Thread(target=second)

    def progress(done: int, total: int) -> None:
        if not done:
            other.start()
            assert waits.wait(60)

    first = drawn(data, tmp_path, on_progress=progress)
    other.join()
    assert len(decoded) == 6 and len(said) == 1 and "waiting for it" in said[0]
    assert all(np.array_equal(a.squares, b.squares) for a, b in zip(first, found, strict=True))


def test_a_stop_leaves_nothing_half_drawn(tmp_path: Path) -> None:
    folder(tmp_path / "data", 3, 3)
    data, stop = run(tmp_path), threading.Event()
    with pytest.raises(KeyboardInterrupt):
        drawn(data, tmp_path, stop=stop, on_progress=lambda done, total: stop.set())
    assert not list((tmp_path / "cache" / "images").glob(".*"))
