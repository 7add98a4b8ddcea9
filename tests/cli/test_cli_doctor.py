"""`doctor`: names every version, says what is missing and how to get it, and ends with 0 where a search can run."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from cli_programs import Tlstudy

from tuner import __version__


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
