"""A checkpoint is whole when its bytes are what the store says, however it is found out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tuner.training.checkpoints import Checkpoints

from tuner.training import checkpoints
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
    saved = save_arrays(str(tmp_path), "c000", "last", 3, {"w": np.arange(5.0)})
    known, stranger = Checkpoints(tmp_path), Checkpoints(tmp_path)
    known.wrote([saved])
    path = tmp_path / saved.file
    assert known.whole(saved.file, saved.sha256) == path and not hashed
    assert stranger.whole(saved.file, saved.sha256) == path == stranger.whole(saved.file, saved.sha256)
    assert hashed == [path], "what an earlier process wrote is read, once"


def test_what_was_touched_since_is_hashed_again(tmp_path: Path, hashed: list[Path]) -> None:
    saved = save_arrays(str(tmp_path), "c000", "last", 3, {"w": np.arange(5.0)})
    path, known = tmp_path / saved.file, Checkpoints(tmp_path)
    known.wrote([saved])
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    assert known.whole(saved.file, saved.sha256) is None and hashed, "the same size, other bytes"
    data[-30] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    assert known.whole(saved.file, saved.sha256) == path
    assert known.whole(saved.file, "0" * 64) is None, "the store means another file of that name"


def test_what_is_no_file_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    known = Checkpoints(tmp_path)
    assert known.whole("missing.npz", "") is None and known.whole("folder.npz", "") is None
