"""Two searches of the same images at once: the one that waits for the other says so and can be stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from search.studies import ROOT, make


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two studies of the same images, and a folder to meet in."""
    make(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    (tmp_path / "meeting").mkdir()
    return tmp_path


def start(place: Path, study: str, role: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("waiting.py")
    command = [sys.executable, str(program), str(place / study), str(place / "meeting"), role]
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "TLSTUDY_CACHE": str(place / "cache"),
    }
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(out)
    return found


def test_who_waits_says_so_and_stops_when_asked(place: Path) -> None:
    """A third one is asked to stop as soon as it waits; the first two go on to the features."""
    shutil.copytree(place / "first", place / "third")
    roles = {"first": "first", "second": "second", "third": "stop"}
    first, second, third = (result(process) for process in [start(place, *role) for role in roles.items()])
    images = "Another process is reading the same photographs; waiting for it, so that it is done once."
    features = "Another process is computing features of the same photographs; waiting for it, so that it is done once."
    assert first["heard"] == [] and second["heard"] == [images, features]
    assert third["heard"] == [images] and third["ended"] == "Stopped before anything was trained."
