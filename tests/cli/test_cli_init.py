"""`init`: looks, says what it found, writes a study.toml that a search can use, and never writes over one."""

from __future__ import annotations

import shutil
from pathlib import Path

import image_files
import pytest
from cli_programs import Tlstudy

from tuner.spec.presets import preset
from tuner.spec.spec import Spec, load
from tuner.store.store import Store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return image_files.folder(tmp_path / "my photos", train=3, val=2)


def test_it_says_what_it_found_and_writes_the_question(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    done = tlstudy("init", "my photos", "--image-size", "32", "--weights", "random")
    assert done.code == 0
    assert "Found 10 photographs in 2 classes." in done.out
    assert "  train cat 3, dog 3\n" in done.out
    assert "  val   cat 2, dog 2\n" in done.out
    assert "Wrote studies/my-photos/study.toml. Next: tlstudy search my-photos" in done.out
    spec = load(tmp_path / "studies" / "my-photos" / "study.toml")
    assert (spec.data.path, spec.data.image_size, spec.backbone.weights) == ("../../my photos", 32, ("random",))
    assert not (tmp_path / "studies" / "my-photos" / "study.db").exists()


def test_a_preset_is_written_and_other_options_win_over_it(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    assert tlstudy("init", photos, "--name", "mine", "--preset", "quick", "--image-size", "32").code == 0
    written = load(tmp_path / "studies" / "mine" / "study.toml")
    asked = Spec().override({**preset("quick"), "data.path": written.data.path, "data.image_size": 32})
    assert written == asked
    done = tlstudy("init", photos, "--name", "other", "--preset", "quik")
    assert done.code == 2 and "did you mean quick" in done.text


def test_work_that_is_moved_keeps_its_photographs(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    tlstudy("init", photos, "--image-size", "32")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("studies", "my photos"):
        shutil.move(tmp_path / name, moved / name)
    root = moved / "studies" / "my-photos"
    assert (root / load(root / "study.toml").data.path).resolve() == moved / "my photos"


def test_a_study_is_not_written_over_unless_forced(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "studies" / "mine" / "study.toml"
    arguments = ["init", photos, "--name", "mine", "--image-size", "32"]
    assert tlstudy(*arguments).code == 0
    path.write_text("# changed by me\n")
    done = tlstudy(*arguments)
    assert done.code == 2
    assert (
        "studies/mine/study.toml exists and is kept. Choose another --name, or overwrite it with --force" in done.text
    )
    assert path.read_text() == "# changed by me\n"
    assert tlstudy(*arguments, "--force").code == 0
    assert load(path).data.image_size == 32
    Store(path.parent / "study.db").close()
    assert "exists and is kept. Choose another --name: the results beside it answer it" in tlstudy(*arguments).text


def test_files_left_out_and_warnings_are_said(tlstudy: Tlstudy, photos: Path) -> None:
    (photos / "train" / "cat" / "page\x1b[31m.jpg").write_text("<html></html>")
    done = tlstudy("init", photos, "--image-size", "32")
    assert done.code == 0
    assert r"left out: train/cat/page\x1b[31m.jpg (" in done.out
    assert "Warning: " in done.out
    assert "\x1b" not in done.out


def test_the_same_photograph_in_two_splits_needs_a_word(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "train" / "cat" / "00.jpg", photos / "val" / "cat" / "again.jpg")
    done = tlstudy("init", photos, "--image-size", "32")
    assert done.code == 2
    assert "again.jpg" in done.text and "--allow-leak" in done.text
    assert not (tmp_path / "studies").exists()
    assert tlstudy("init", photos, "--image-size", "32", "--allow-leak").code == 0
    assert load(tmp_path / "studies" / "my-photos" / "study.toml").data.allow_leak


def test_a_name_that_toml_cannot_hold_is_refused(tlstudy: Tlstudy, tmp_path: Path) -> None:
    image_files.folder(tmp_path / "caf\udce9", train=3, val=2)
    done = tlstudy("init", "caf\udce9")
    assert done.code == 2
    assert "data.path: found " in done.text and "UTF-8" in done.text
    assert not (tmp_path / "studies").exists()


def test_weights_that_exist_are_named_from_the_study(tlstudy: Tlstudy, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.weights.h5").write_bytes(b"")
    tlstudy("init", photos, "--image-size", "32", "--weights", "mine.weights.h5")
    spec = load(tmp_path / "studies" / "my-photos" / "study.toml")
    assert spec.backbone.weights == (str(tmp_path / "mine.weights.h5"),)


def test_one_class_folder_layout_is_split(tlstudy: Tlstudy, tmp_path: Path) -> None:
    image_files.unsplit(tmp_path / "leaves", number=10)
    done = tlstudy("init", "leaves", "--image-size", "32")
    assert done.code == 0
    assert "  train cat 8, dog 8\n" in done.out
    assert "  val   cat 2, dog 2\n" in done.out


def test_many_classes_are_counted_and_not_all_written(tlstudy: Tlstudy, tmp_path: Path) -> None:
    image_files.folder(tmp_path / "photos", train=3, val=2, classes=tuple(f"kind{n:02}" for n in range(15)))
    done = tlstudy("init", "photos", "--image-size", "32")
    assert done.code == 0
    assert "Found 75 photographs in 15 classes." in done.out
    assert "kind11 3 and 3 more val kind00 2" in done.text and "kind12" not in done.text
