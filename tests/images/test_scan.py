"""Data folders, right and wrong: what is found in them and what is said about them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from image_files import folder, image_file, unsplit

from tuner.errors import DataError
from tuner.export.predict import files
from tuner.images.scan import scan


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(root)
    return str(caught.value)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "VAL"])
def test_split_folders(tmp_path: Path, name: str) -> None:
    folder(tmp_path, 2, 2, 2)
    os.rename(tmp_path / "val", tmp_path / name)
    found = scan(tmp_path)
    assert found.classes == ("cat", "dog")
    assert [(file.split, file.label) for file in found.files] == [
        (split, label) for split in ("train", "val", "test") for label in (0, 0, 1, 1)
    ]
    assert found.files[0].path == "train/cat/00.jpg"


def test_class_folders_alone(tmp_path: Path) -> None:
    found = scan(unsplit(tmp_path, 3, ("b", "a", "c")))
    assert found.classes == ("a", "b", "c")
    assert {file.split for file in found.files} == {None}
    assert [file.path for file in found.files[:4]] == ["a/00.jpg", "a/01.jpg", "a/02.jpg", "b/00.jpg"]


@pytest.mark.parametrize("classes", [("train", "bus"), ("valid", "broken"), ("test", "rest")])
def test_a_class_may_be_called_like_a_split(tmp_path: Path, classes: tuple[str, ...]) -> None:
    assert scan(unsplit(tmp_path, 2, classes)).classes == tuple(sorted(classes))


def test_hidden_and_system_entries_are_ignored(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    for name in (".DS_Store", "train/Thumbs.db", "train/cat/._00.jpg", "val/cat/desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    image_file(tmp_path / "__MACOSX" / "cat" / "a.jpg", 1)
    image_file(tmp_path / "train" / ".git" / "a.jpg", 1)
    found = scan(tmp_path)
    assert (len(found.files), found.ignored, found.left_out) == (8, 6, [])


def test_text_beside_class_folders_counts_as_nothing_and_in_a_class_is_tried(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    (tmp_path / "README.md").write_text("photographs")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("notes")
    (tmp_path / "extra").mkdir()
    found = scan(tmp_path)
    assert found.classes == ("cat", "dog") and found.left_out == []
    assert {file.path for file in found.files if file.path.endswith(("txt", "md"))} == {"train/cat/notes.txt"}


def test_missing_and_empty_and_file(tmp_path: Path) -> None:
    assert "no such folder" in message(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "empty" in message(tmp_path / "empty")
    assert "not a folder" in message(image_file(tmp_path / "a.jpg", 1))


def test_one_class(tmp_path: Path) -> None:
    assert "one class, cat" in message(unsplit(tmp_path / "a", 2, ("cat",)))
    assert "one class, cat" in message(folder(tmp_path / "b", 2, 2, classes=("cat",)))


def test_one_class_that_wraps_the_data_says_where_to_look(tmp_path: Path) -> None:
    folder(tmp_path / "outer" / "photos", 2, 2)
    assert str(tmp_path / "outer" / "photos") in message(tmp_path / "outer")


def test_empty_class(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    shutil.rmtree(tmp_path / "val" / "dog")
    (tmp_path / "val" / "dog").mkdir()
    (tmp_path / "val" / "dog" / ".keep").touch()
    assert "val/dog: a class folder without photographs" in message(tmp_path)


def test_images_beside_class_folders_are_named(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    image_file(tmp_path / "train" / "lost.png", 1)
    (tmp_path / "train" / "apple.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert "2 photographs beside the class folders: apple.heic, lost.png" in message(tmp_path)


def test_images_alone_are_no_classes(tmp_path: Path) -> None:
    image_file(tmp_path / "a.jpg", 1)
    assert "beside the class folders: a.jpg" in message(tmp_path)


def test_nested_folder(tmp_path: Path) -> None:
    unsplit(tmp_path, 2)
    (tmp_path / "cat" / "more").mkdir()
    assert "cat: found the folder more inside a class" in message(tmp_path)


def test_class_in_one_split_only(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    os.rename(tmp_path / "val" / "dog", tmp_path / "val" / "wolf")
    said = message(tmp_path)
    assert "only in train/: dog" in said
    assert "only in val/: wolf" in said


def test_class_that_differs_by_case_between_splits(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    os.rename(tmp_path / "val" / "dog", tmp_path / "val" / "Dog")
    assert "upper and lower case" in message(tmp_path)


def test_classes_that_differ_by_case_only(tmp_path: Path) -> None:
    assert "differ by upper and lower case only" in message(unsplit(tmp_path, 2, ("Cat", "cat")))


def test_classes_that_differ_by_normalisation_only(tmp_path: Path) -> None:
    assert "differ by Unicode normalisation only" in message(unsplit(tmp_path, 2, ("caf\u00e9", "cafe\u0301")))


def test_names_are_compared_normalised_between_splits(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2, classes=("caf\u00e9", "dog"))
    os.rename(tmp_path / "val" / "caf\u00e9", tmp_path / "val" / "cafe\u0301")
    found = scan(tmp_path)
    assert found.classes == ("caf\u00e9", "dog")
    assert len(found.files) == 8


def test_train_without_validation(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2, 2)
    shutil.rmtree(tmp_path / "val")
    said = message(tmp_path)
    assert "val/, valid/ or validation/" in said
    assert "test/" in said


def test_validation_without_train(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    shutil.rmtree(tmp_path / "train")
    assert "no train/" in message(tmp_path)


def test_two_validation_folders(tmp_path: Path) -> None:
    folder(tmp_path, 2, 2)
    shutil.copytree(tmp_path / "val", tmp_path / "valid")
    assert "val/, valid/ stand for the same split" in message(tmp_path)


def test_links_and_special_files_are_left_out(tmp_path: Path) -> None:
    root = unsplit(tmp_path / "data", 2)
    outside = image_file(tmp_path / "outside.jpg", 99)
    cat = root / "cat"
    os.symlink(outside, cat / "out.jpg")
    os.symlink("loop.jpg", cat / "loop.jpg")
    os.symlink("nothing.jpg", cat / "dangling.jpg")
    os.symlink("..", cat / "up")
    os.symlink("00.jpg", cat / "inside.jpg")
    os.mkfifo(cat / "pipe.jpg")
    found = scan(root)
    reasons = {left.path: left.reason for left in found.left_out}
    assert set(reasons) == {f"cat/{name}" for name in ("out.jpg", "loop.jpg", "dangling.jpg", "up", "pipe.jpg")}
    assert "leaves the data folder" in reasons["cat/out.jpg"]
    assert "circle" in reasons["cat/loop.jpg"]
    assert "pipe" in reasons["cat/pipe.jpg"]
    assert "cat/inside.jpg" in {file.path for file in found.files}


def test_class_of_outside_links_says_why_it_is_empty(tmp_path: Path) -> None:
    root = unsplit(tmp_path / "data", 2)
    (root / "eel").mkdir()
    os.symlink(image_file(tmp_path / "outside.jpg", 99), root / "eel" / "out.jpg")
    assert "link that leaves the data folder" in message(root)


def test_strange_names(tmp_path: Path) -> None:
    unsplit(tmp_path, 2, ("[", "größe"))
    image_file(tmp_path / "[" / "x].jpg", 4)  # its path holds [/x], which rich takes for a closing tag
    image_file(tmp_path / "[" / "line\nbreak.jpg", 5)
    os.rename(os.fsencode(tmp_path / "größe" / "00.jpg"), os.fsencode(tmp_path / "größe") + b"/\xff\xfe.jpg")
    found = scan(tmp_path)
    assert len(found.files) == 6
    (tmp_path / "größe" / "tab\there").mkdir()
    assert "'tab\\there'" in message(tmp_path)


def test_folders_nested_deeper_than_the_stack_are_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsplit(tmp_path / "data", 2)
    monkeypatch.chdir(tmp_path / "data" / "cat")
    for _ in range(1_800):
        os.mkdir("a")
        os.chdir("a")
    Path("deep.jpg").touch()
    os.chdir(tmp_path)
    try:
        assert [len(scan(tmp_path / "data", True).files), len(files([str(tmp_path / "data")]))] == [5, 5]
    finally:
        subprocess.run(["rm", "-r", tmp_path / "data"], check=True)  # shutil's own recurses
