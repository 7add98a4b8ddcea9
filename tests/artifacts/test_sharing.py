"""Several processes, one cache: a thing is made once, who dies leaves nothing, and nobody loses what he uses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from image_files import folder

from tuner.artifacts import files
from tuner.artifacts.entries import Artifacts

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("sharing.py")
PER_CLASS = 5
IMAGES = 4 * PER_CLASS
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With `data`, `cache` and a folder to meet in."""
    folder(tmp_path / "data", PER_CLASS, PER_CLASS)
    (tmp_path / "meeting").mkdir()
    return tmp_path


def start(place: Path, name: str, mode: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(PROGRAM), name, str(place / "data"), str(place / "meeting"), mode]
    environment = os.environ | {"TLSTUDY_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads(out)
    return found


def together(place: Path, mode: str, before: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [result(process) for process in [start(place, name, mode, before) for name in "ab"]]


def left_half_made(place: Path) -> list[str]:
    return [path.name for path in (place / "cache").glob("*/.*")]


def check(place: Path, *results: dict[str, Any]) -> None:
    """Every array of every process is that of one that had the cache, and then what is in it, to itself."""
    again = result(start(place, "again", "alone"))
    assert (again["decoded"], again["passes"]) == (0, 0), "everything is in the cache now"
    assert {found["rows of zeros"] for found in (*results, again)} == {0}
    assert all(found["arrays"] == again["arrays"] for found in results)
    for kind in ("images", "features"):
        assert all(done == "" for _, done in Artifacts(place / "cache" / kind).verify())


@lru_cache
def namespaces() -> str:
    """Why processes here cannot have numbers of their own, or ""."""
    try:
        done = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, timeout=30)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or str(done.returncode) if done.returncode else ""


def test_two_processes_at_once_decode_and_compute_once_and_the_second_says_that_it_waits(place: Path) -> None:
    found = together(place, "wait")
    assert sum(one["decoded"] for one in found) == IMAGES
    assert sum(one["passes"] for one in found) == 1
    said = [text for one in found for text in one["said"]]
    assert len(said) == 2 and "reading the same photographs" in said[0] + said[1]
    assert all("waiting for it" in text for text in said)
    check(place, *found)
    assert left_half_made(place) == []


def test_two_processes_with_one_number_in_two_namespaces_share_a_cache(place: Path) -> None:
    if why := namespaces():
        pytest.skip(f"no process-number namespaces here: {why}")
    found = together(place, "wait", NAMESPACE)
    assert len({one["process"] for one in found}) == 1
    assert sum(one["decoded"] for one in found) == IMAGES
    assert sum(one["passes"] for one in found) == 1
    check(place, *found)


@pytest.mark.parametrize("namespace", [False, True], ids=["two numbers", "one number"])
def test_without_locks_both_work_at_once_and_both_are_right(place: Path, namespace: bool) -> None:
    """As on some network file systems: nobody waits for ever, nobody takes the other's work for left behind."""
    if namespace and (why := namespaces()):
        pytest.skip(f"no process-number namespaces here: {why}")
    found = together(place, "no locks", NAMESPACE if namespace else ())
    assert [(one["decoded"], one["passes"], one["said"]) for one in found] == [(IMAGES, 1, [])] * 2
    check(place, *found)


def test_what_a_killed_process_left_half_made_is_swept_by_the_next(place: Path) -> None:
    died = start(place, "a", "die")
    died.communicate(timeout=200)
    assert died.returncode == -signal.SIGKILL
    parts = left_half_made(place)
    assert len([name for name in parts if name.startswith(".part-")]) == 2, "one a cut"
    found = result(start(place, "b", "alone"))
    assert (found["decoded"], found["passes"], found["said"]) == (0, 1, []), "and nobody waits for the dead"
    assert left_half_made(place) == []
    check(place, found)


HOLD = """
import sys, numpy as np
from pathlib import Path
from tuner.artifacts.entries import Artifacts
array = Artifacts(Path(sys.argv[1])).map("key", "a.npy", (3,), np.float32)
print(array.sum(), flush=True)
sys.stdin.readline()
print(array.sum(), flush=True)
del array
print("let go", flush=True)
sys.stdin.readline()
"""


def test_an_entry_that_a_process_maps_is_not_pruned_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LEASE", -1.0)
    artifacts = Artifacts(tmp_path)
    import numpy as np

    for key in ("key", "other"):
        with artifacts.staging() as staged:
            staged.array("a.npy", (3,), np.float32)[:] = 1
            artifacts.publish(staged, key, None)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdin is not None and user.stdout is not None
        assert user.stdout.readline() == "3.0\n"
        artifacts.prune(0)
        assert artifacts.listed() == ["key"]
        user.stdin.write("\n")
        user.stdin.flush()
        assert user.stdout.readline() == "3.0\n"
        assert user.stdout.readline() == "let go\n"
        artifacts.prune(0)
        assert artifacts.listed() == []
        user.stdin.write("\n")
