"""Files that are read are files: a pipe in the place of one is an error, not something to wait for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tuner.artifacts.files import sha256_of


def test_a_checksum_of_a_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").write_bytes(b"a file")
    with pytest.raises(OSError, match="not a regular file"):
        sha256_of(tmp_path / "pipe")
    assert sha256_of(tmp_path / "link") == hashlib.sha256(b"a file").hexdigest()
