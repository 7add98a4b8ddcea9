"""`prepare`, end to end on real files: order, splits, what is left out and what is said."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_files import folder, image_file, pixels, unsplit
from images.preparing import SPEC, check_rows, refused, run
from PIL import Image

from tuner.images.dataset import prepare
from tuner.images.decode import load_photograph

# ---- what comes out ----


def test_rows_labels_and_splits(tmp_path: Path) -> None:
    folder(tmp_path / "data", 5, 6, 7)
    data = run(tmp_path)
    assert data.counts() == {
        "train": {"cat": 5, "dog": 5}, "val": {"cat": 6, "dog": 6}, "test": {"cat": 7, "dog": 7},
    }  # fmt: skip
    assert data.indices("val").tolist() == list(range(10, 22))
    assert data.labels.tolist() == [photo.label for photo in data.records]
    assert (data.images.shape, data.images.dtype, data.labels.dtype) == ((36, 32, 32, 3), np.uint8, np.int64)
    assert isinstance(data.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0
    first = data.records[0].verdict
    assert (first.width, first.height, first.format) == (48, 40, "JPEG")
    assert data.warnings == ()
    check_rows(data)


@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_resize_modes(tmp_path: Path, mode: str) -> None:
    folder(tmp_path / "data", 2, 2)
    check_rows(run(tmp_path, replace(SPEC, resize=mode)), mode=mode)


def test_unsplit(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 10)
    data = run(tmp_path, replace(SPEC, test_fraction=0.1))
    assert data.counts() == {"train": {"cat": 7, "dog": 7}, "val": {"cat": 2, "dog": 2}, "test": {"cat": 1, "dog": 1}}
    check_rows(data)


def test_zip(tmp_path: Path) -> None:
    unsplit(tmp_path / "loose", 6)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as target:
        for file in (tmp_path / "loose").rglob("*.jpg"):
            target.write(file, f"photos/{file.relative_to(tmp_path / 'loose')}")
    data = run(tmp_path, replace(SPEC, path="data.zip"))
    assert data.classes == ("cat", "dog")
    assert len(data.records) == 12


def test_progress_counts_every_file_once(tmp_path: Path) -> None:
    folder(tmp_path / "data", 3, 3)
    shutil.copy(tmp_path / "data/train/cat/00.jpg", tmp_path / "data/train/cat/copy.jpg")
    seen: list[tuple[int, int]] = []
    prepare(SPEC, tmp_path, tmp_path / "cache", 0, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (13, 13)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    seen.clear()
    hashed: list[tuple[int, int]] = []
    prepare(
        SPEC, tmp_path, tmp_path / "cache", 0, lambda *said: seen.append(said), on_hashed=lambda *s: hashed.append(s)
    )
    assert seen == hashed == [(13, 13)]


# ---- what is left out ----


def test_left_out_files_are_named_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5)
    (root / "train/cat/page.jpg").write_text("<html>404</html>")
    (root / "val/dog/notes.txt").write_text("notes")
    os.mkfifo(root / "val/dog/pipe.jpg")
    data = run(tmp_path)
    assert [(left.path, left.reason) for left in data.left_out] == [
        ("train/cat/page.jpg", "not an image (HTML text)"),
        ("val/dog/notes.txt", "not an image (text)"),
        ("val/dog/pipe.jpg", "pipe, not a regular file"),
    ]
    assert data.warnings == ("3 files left out: 1 in train/cat, 2 in val/dog.",)
    assert len(data.records) == 20


def test_too_many_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5)
    for index in range(12):
        (root / f"train/cat/page{index:02d}.jpg").write_text(f"<html>{index}</html>")
    said = refused(tmp_path)
    assert "12 of 32 files cannot be used" in said
    assert "train/cat/page09.jpg: not an image (HTML text); and 2 more" in said


def test_a_class_of_which_too_little_is_left(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 3, 1)
    (root / "val/cat/00.jpg").write_text("<html>404</html>")
    assert "val, class cat: usable photographs: 0, expected at least 1" in refused(tmp_path)


def test_unsplit_with_too_few(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 2)
    assert "class cat" in refused(tmp_path)


# ---- duplicates ----


def recoded(source: Path, target: Path) -> None:
    """The same pixels in other bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(load_photograph(source)).save(target)


@pytest.mark.parametrize("how", [shutil.copy, recoded])
def test_leaks_are_named_and_refused(tmp_path: Path, how: object) -> None:
    root = folder(tmp_path / "data", 5, 5)
    how(root / "train/cat/02.jpg", root / "val/cat/leak.png")  # type: ignore[operator]
    assert "train/cat/02.jpg = val/cat/leak.png" in refused(tmp_path)
    data = run(tmp_path, replace(SPEC, allow_leak=True))
    assert any("train/cat/02.jpg = val/cat/leak.png" in warning for warning in data.warnings)


def test_only_the_first_ten_leaks_are_listed(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 12, 5)
    for index in range(12):
        shutil.copy(root / f"train/cat/{index:02d}.jpg", root / f"val/cat/leak{index:02d}.jpg")
    said = refused(tmp_path)
    assert "12 photographs stand in two splits" in said
    assert said.count(" = ") == 11  # ten pairs, and data.allow_leak = true
    assert "and 2 more" in said


@pytest.mark.parametrize("allow", [False, True])
def test_two_classes(tmp_path: Path, allow: bool) -> None:
    root = folder(tmp_path / "data", 5, 5)
    recoded(root / "train/cat/02.jpg", root / "train/dog/other.bmp")
    assert "train/cat/02.jpg = train/dog/other.bmp (cat, dog)" in refused(tmp_path, replace(SPEC, allow_leak=allow))


def test_copies_inside_a_split_are_a_warning(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5)
    shutil.copy(root / "train/cat/02.jpg", root / "train/cat/03 copy.jpg")
    data = run(tmp_path)
    assert len(data.warnings) == 1
    assert "twice inside a split: train/cat/02.jpg = train/cat/03 copy.jpg" in data.warnings[0]
    assert len(data.records) == 21


def test_copies_of_unsplit_data_stay_together(tmp_path: Path) -> None:
    root = unsplit(tmp_path / "data", 8)
    for index in range(8):
        recoded(root / f"cat/{index:02d}.jpg", root / f"cat/again{index}.png")
    data = run(tmp_path, replace(SPEC, validation_fraction=0.4))
    where: dict[str, set[str]] = {}
    for photo in data.records:
        where.setdefault(photo.verdict.pixels, set()).add(photo.split)
    assert all(len(splits) == 1 for splits in where.values())


# ---- warnings ----


def test_warnings_about_content(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5)
    image_file(root / "train/cat/gif.jpg", 50, format="GIF")
    Image.new("RGB", (48, 40), (9, 9, 9)).save(root / "train/dog/plain.jpg")
    frames = [Image.fromarray(pixels(seed)) for seed in (60, 61)]
    frames[0].save(root / "val/dog/moving.gif", save_all=True, append_images=frames[1:])
    said = " ".join(run(tmp_path).warnings)
    assert "train/cat/gif.jpg is GIF" in said
    assert "single colour: train/dog/plain.jpg" in said
    assert "Several frames or pages, the first is used: val/dog/moving.gif" in said


def test_few_images(tmp_path: Path) -> None:
    folder(tmp_path / "data", 4, 5)
    assert run(tmp_path).warnings == ("train holds few photographs: 4 of cat, 4 of dog.",)


def test_storage_that_gives_the_class_away(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5, classes=("cat",))
    for split, start in (("train", 100), ("val", 200)):
        for index in range(5):
            path = image_file(root / split / "dog" / f"{index}.png", start + index)
            Image.open(path).convert("L").save(path)
    said = " ".join(run(tmp_path).warnings)
    assert "All photographs of dog are grey" in said
    assert "cat as JPEG, dog as PNG" in said


def test_strange_names_end_to_end(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", 5, 5, classes=("[", "größe"))
    image_file(root / "train/größe/new\nline [bold].jpg", 70)
    os.rename(root / "train/[/00.jpg", root / "train/[/x].jpg")
    os.rename(root / "train/[/01.jpg", os.fsencode(root) + b"/train/[/\xff.jpg")
    shutil.copy(root / "train/größe/new\nline [bold].jpg", root / "train/größe/tab\t.jpg")
    data = run(tmp_path)
    assert data.classes == ("[", "größe")
    assert len(data.records) == 22
    assert "'train/größe/new\\nline [bold].jpg'" in data.warnings[0]
