"""`doctor`: names every version, says what is missing and how to get it, and ends with 0 where a search can run."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from cli_programs import Tlstudy

from tuner import __version__
from tuner.artifacts.entries import Artifacts


def test_it_names_versions_backend_cache_and_room(tlstudy: Tlstudy, tmp_path: Path) -> None:
    done = tlstudy("doctor")
    assert done.code == 0
    rows = {line.split("  ")[0]: line for line in done.out.splitlines() if line[:1].strip()}
    assert rows["tlstudy"].split() == ["tlstudy", __version__]
    for package in ("keras", "keras-tuner", "numpy", "pandas", "pillow", "matplotlib", "rich", "typer", "six"):
        assert rows[package].split() == [package, "ok", importlib.metadata.version(package)]
    assert {"Python", "backend", "devices", "precision", "ImageNet weights", "cache", "memory"} <= set(rows)
    assert {"disk of the cache", "disk of this folder"} <= set(rows)
    assert os.environ["TLSTUDY_CACHE"][:20] in done.out
    assert not any(tmp_path.iterdir())


def test_with_verify_it_reads_the_whole_cache_and_names_and_removes_what_is_damaged(
    tlstudy: Tlstudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(tmp_path / "cache"))
    features = Artifacts(tmp_path / "cache" / "features")
    for key in ("damaged", "sound"):
        with features.staging() as staged:
            (staged.folder / "features.npy").write_bytes(b"data")
            features.publish(staged, key, None)
    path = features.folder / "damaged" / "features.npy"
    before = path.stat()
    path.write_bytes(b"dbta")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a failing disk changes no time
    done = tlstudy("doctor", "--verify")
    assert done.code == 1
    assert "damaged: " in done.text and "another checksum of features.npy; removed" in done.text
    assert "1 whole, every byte read" in done.text
    assert features.listed() == ["sound"]
    assert tlstudy("doctor", "--verify").code == 0


def test_weights_that_are_missing_come_with_advice(tlstudy: Tlstudy, tmp_path: Path) -> None:
    done = tlstudy("doctor")
    row = next(line for line in done.out.splitlines() if line.startswith("ImageNet weights"))
    assert ("!!" in row) is ("--weights" in done.text)


def test_homes_of_an_unknown_user_are_said(tlstudy: Tlstudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "~no-such-user")
    monkeypatch.setenv("TLSTUDY_CACHE", "~no-such-user/x")
    done = tlstudy("doctor")
    assert done.code == 1
    assert "not in ~no-such-user/models" in done.text
    assert "cache ~no-such-user/x: found no such user's home, expected a folder" in done.text
    assert not any(tmp_path.iterdir())
