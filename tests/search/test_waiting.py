"""Two searches of the same images at once: the one that waits for the other says so and can be stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import forks
import pytest
from search import waiting
from search.studies import make, own_cache


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two studies of the same images, and a folder to meet in."""
    make(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    (tmp_path / "meeting").mkdir()
    own_cache(tmp_path / "cache")
    return tmp_path


def start(place: Path, study: str, role: str) -> Any:
    return forks.start(
        waiting.work,
        place / study,
        place / "meeting",
        role,
        said=place / f"{role} said",
        TLSTUDY_CACHE=str(place / "cache"),
    )


def result(process: Any, said: Path) -> dict[str, Any]:
    process.join(250)
    assert process.exitcode == 0, said.read_text()
    found: dict[str, Any] = json.loads(said.read_text().splitlines()[-1])
    return found


def test_who_waits_says_so_and_stops_when_asked(place: Path) -> None:
    """A third one is asked to stop as soon as it waits; the first two go on to the features."""
    shutil.copytree(place / "first", place / "third")
    roles = {"first": "first", "second": "second", "third": "stop"}
    begun = {role: start(place, study, role) for study, role in roles.items()}
    first, second, third = (result(process, place / f"{role} said") for role, process in begun.items())
    images = "Another process is reading the same photographs; waiting for it, so that it is done once."
    features = "Another process is computing features of the same photographs; waiting for it, so that it is done once."
    assert first["heard"] == [] and second["heard"] == [images, features]
    assert third["heard"] == [images] and third["ended"] == "Stopped before anything was trained."
