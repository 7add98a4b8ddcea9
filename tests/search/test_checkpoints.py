"""A checkpoint is whole when its bytes are what the store says, however it is found out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuner.search import checkpoints
from tuner.search.checkpoints import Checkpoints
from tuner.store.store import Saved
from tuner.training.trial import save_arrays


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to be hashed."""
    seen: list[Path] = []
    real = checkpoints.sha256_of

    def counted(path: Path) -> str:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(checkpoints, "sha256_of", counted)
    return seen


def test_a_file_is_hashed_once_and_one_just_written_never(tmp_path: Path, hashed: list[Path]) -> None:
    saved = save_arrays(tmp_path, "c000", "last", 3, {"w": np.arange(5.0)})
    known, stranger = Checkpoints(tmp_path), Checkpoints(tmp_path)
    known.wrote(saved)
    assert known.whole(saved) and not hashed
    assert stranger.whole(saved) and stranger.whole(saved)
    assert hashed == [tmp_path / saved.file], "what an earlier process wrote is read, once"


def test_what_was_touched_since_is_hashed_again(tmp_path: Path, hashed: list[Path]) -> None:
    saved = save_arrays(tmp_path, "c000", "last", 3, {"w": np.arange(5.0)})
    path, known = tmp_path / saved.file, Checkpoints(tmp_path)
    known.wrote(saved)
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    assert not known.whole(saved) and hashed, "the same size, other bytes"
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert known.whole(saved)
    assert not known.whole(replace(saved, sha256="0" * 64)), "the store means another file of that name"


def test_what_is_no_file_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    known = Checkpoints(tmp_path)
    assert not any(known.whole(Saved("last", 3, name, 0, "")) for name in ("missing.npz", "folder.npz"))


def test_what_no_row_names_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept, gone, removed = (
        save_arrays(tmp_path, "c000", role, epoch, {"w": np.arange(5.0)})
        for role, epoch in (("last", 3), ("last", 2), ("best", 3))
    )
    (tmp_path / ".c000-last-00004.npz.0123.part").touch()
    (tmp_path / "note.txt").touch()
    (tmp_path / "mine.npz").touch()
    (tmp_path / ".mine.part").touch()
    known = Checkpoints(tmp_path)
    known.remove(removed)
    known.remove(removed)
    assert not known.whole(removed) and known.whole(gone)
    known.sweep([kept, removed])
    assert {path.name for path in tmp_path.iterdir()} == {
        kept.file,
        "note.txt",
        "mine.npz",
        ".mine.part",
    } and known.whole(kept)


def test_nothing_outside_the_folder_is_swept_removed_or_taken_for_whole(tmp_path: Path) -> None:
    """A study may come from elsewhere: its folder may be a link, and its store may name any file."""
    theirs, ours, linked = (tmp_path / name for name in ("theirs", "ours", "linked"))
    theirs.mkdir()
    ours.mkdir()
    linked.symlink_to(theirs)
    saved = save_arrays(theirs, "c000", "last", 3, {"w": np.arange(5.0)})
    Checkpoints(linked).sweep([])
    Checkpoints(ours).remove(replace(saved, file=f"../theirs/{saved.file}"))
    (ours / saved.file).symlink_to(theirs / saved.file)
    assert not Checkpoints(ours).whole(saved)
    assert Checkpoints(theirs).whole(saved)
