"""Which file means which format, what may be overwritten, and what a missing package is told."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from programs import run, running

from tuner.errors import UsageError
from tuner.export import saving
from tuner.export.formats import FORMATS, Contents, Format, card_path, check_installed, check_target, choose, recipe
from tuner.export.saving import beside, put_in_place


@pytest.mark.parametrize(
    ("name", "asked", "meant"),
    [
        ("model.keras", None, "keras"),
        ("model.onnx", None, "onnx"),
        ("model.tflite", None, "litert"),
        ("model", None, "savedmodel"),
        ("model.v2", "savedmodel", "savedmodel"),
        ("model.v2.onnx", "onnx", "onnx"),
        ("model.keras", "keras", "keras"),
    ],
)
def test_the_ending_says_the_format(name: str, asked: str | None, meant: str) -> None:
    assert choose(Path(name), asked).name == meant


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("model.h5", None, "found the ending .h5, expected .keras.*: model.keras"),
        ("model.keras.zip", None, "expected .keras"),
        ("MODEL.KERAS", None, "expected .keras"),
        ("model.v2", None, "expected .keras"),
        ("model.onnx", "keras", r"found the ending .onnx, expected .keras for --format keras: model.keras"),
        ("model", "onnx", "found no ending, expected .onnx for --format onnx: model.onnx"),
        ("model.tflite", "savedmodel", "expected a folder's name for --format savedmodel: model$"),
        ("model.pb", "savedmodel", "expected a folder's name"),
        ("model.keras", "h5", "format 'h5': expected one of keras, savedmodel, onnx, litert"),
    ],
)
def test_a_contradiction_is_one_message(name: str, asked: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(Path(name), asked)


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"an older model")
    return folder


def test_what_is_there_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    card_path(tmp_path / "other.onnx").write_text("mine too")
    saved_model(tmp_path / "model")
    for name in ("model.onnx", "other.onnx", "model"):
        target = tmp_path / name
        with pytest.raises(UsageError, match="exists and is kept.*--force"):
            check_target(target, choose(target), force=False)
        check_target(target, choose(target), force=True)


def test_no_folder_but_a_saved_model_is_ever_overwritten(tmp_path: Path) -> None:
    kind = FORMATS["savedmodel"]
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    mixed = saved_model(tmp_path / "mixed")
    (mixed / "thesis.txt").write_text("years of work")
    (tmp_path / "link").symlink_to(saved_model(tmp_path / "real"))
    (tmp_path / "file").write_text("")
    for name in ("photographs", "mixed", "link", "file"):
        with pytest.raises(UsageError, match="never overwritten"):
            check_target(tmp_path / name, kind, force=True)


def test_a_folder_in_a_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path / "model.keras", FORMATS["keras"], force=True)
    card_path(tmp_path / "model.onnx").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_target(tmp_path / "model.onnx", FORMATS["onnx"], force=True)


def test_a_folder_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two folders cannot change places in one step; tests/faults/power.py looks at where they can."""
    monkeypatch.setattr(saving, "_exchanged", lambda one, other: False)
    for name, text in (("target", "old"), ("beside/new", "new")):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "variables" / text).write_text(text)
    rename = os.replace

    def fails_once(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise OSError(errno.EIO, "the disk failed")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="the disk failed"):
        put_in_place(tmp_path / "beside" / "new", tmp_path / "target")
    assert (tmp_path / "target" / "variables" / "old").read_text() == "old"
    monkeypatch.setattr(os, "replace", rename)
    put_in_place(tmp_path / "beside" / "new", tmp_path / "target")
    assert [p.name for p in (tmp_path / "target" / "variables").iterdir()] == ["new"]
    assert sorted(os.listdir(tmp_path)) == ["beside", "target"]


def test_a_kill_between_the_renames_of_a_folder_loses_neither(tmp_path: Path) -> None:
    """The older one is beside the target, where no sweep of a later export takes it before a new one stands there."""
    target, code = (
        tmp_path / "target",
        """
import os, sys
from pathlib import Path
from tuner.export import saving
from tuner.export.saving import beside, put_in_place
saving._exchanged = lambda one, other: False
rename, target = os.replace, Path(sys.argv[1])
def replace(source, to):
    if Path(to) == target and target.name == Path(source).name:
        os.kill(os.getpid(), 9)
    rename(source, to)
with beside(target) as folder:
    (folder / "new" / target.name).mkdir(parents=True)
    os.replace = replace
    put_in_place(folder / "new" / target.name, target)
""",
    )
    target.mkdir()
    (target / "old").touch()
    assert run(code, target).returncode == -signal.SIGKILL and not target.exists()
    with beside(target):
        assert [path.parent.name for path in tmp_path.rglob("old")] == [".target.tlstudy-older"]
    with beside(target) as folder:
        (folder / "target").mkdir()
        put_in_place(folder / "target", target)
    assert os.listdir(tmp_path) == ["target"]


def test_a_missing_package_is_told_with_what_installs_it() -> None:
    kind = Format("onnx", ".onnx", True, {}, {"no_such_module": "no-such", "json": "json"}, "onnx")
    with pytest.raises(UsageError, match=r'The format onnx needs no-such, .*: pip install "tlstudy\[onnx\]"$'):
        check_installed(kind, kind.writes)
    check_installed(kind, kind.reads)


def test_contents_come_back_as_they_were() -> None:
    contents = Contents(("Zürich", "<script>", "\udce9\n"), 96, "pad")
    assert Contents.from_json(contents.to_json()) == contents
    assert contents.to_json().isascii()


@pytest.mark.parametrize(
    "wrong",
    [
        '{"classes": ["a"], "image_size": 32, "resize": "crop"}',
        '{"classes": ["a", 1], "image_size": 32, "resize": "crop"}',
        '{"classes": ["a", "b"], "image_size": "32", "resize": "crop"}',
        '{"classes": ["a", "b"], "image_size": 100000, "resize": "crop"}',
        '{"classes": ["a", "b"], "image_size": 32, "resize": "melt"}',
        "not JSON",
    ],
)
def test_contents_that_cannot_be_ours_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        Contents.from_json(wrong)


def test_the_recipe_says_how_a_square_is_made() -> None:
    for resize, word in (("crop", "middle"), ("pad", "black bars"), ("squash", "proportions aside")):
        said = recipe(Contents(("a", "b"), 96, resize))
        assert word in said and "96 x 96" in said and "antialiased bilinear" in said


def test_what_a_killed_export_left_goes_with_the_next(tmp_path: Path) -> None:
    """Held by a live export it stays; nobody else's files and folders are touched."""
    target = tmp_path / "model.keras"
    for name in (".model.keras.mine", ".part-mine"):
        (tmp_path / name).mkdir()
    code = """
import sys
from pathlib import Path
from tuner.export.saving import beside
with beside(Path(sys.argv[1])) as folder:
    (folder / "weights").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    sys.stdin.readline()
"""
    theirs = {".model.keras.mine", ".part-mine"}
    with running(code, target) as killed:
        left = set(os.listdir(tmp_path)) - theirs
        with beside(target) as folder:
            assert len(left) == 1 and set(os.listdir(tmp_path)) == {*theirs, *left, folder.name}
        killed.kill()
        killed.wait()
    assert set(os.listdir(tmp_path)) == {*theirs, *left}
    with beside(target) as folder:
        assert set(os.listdir(tmp_path)) == {*theirs, folder.name}
    assert set(os.listdir(tmp_path)) == theirs
