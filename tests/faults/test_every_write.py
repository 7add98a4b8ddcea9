"""A search whose N-th write fails goes on to the result of one that nothing disturbed. `make torture`: every N."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("every_write.py")
SUBJECTS = ("search", "search by last epochs", "cache", "documents")


@pytest.fixture(scope="module")
def disturbed() -> dict[str, Any]:
    """By subject what was disturbed and went wrong, from one process that imports everything once: three crashes, each
    of the disk's failures once and from then on, and two crashes with a second one in the recovery.
    """
    subjects = (*SUBJECTS, "search without named randomness", "search without whole files")
    options = (
        "--first",
        "--jobs",
        "1",
        "--points",
        "1",
        "--double",
        "2",
        "--kinds",
        "crash,crash,crash,ENOSPC,EIO,short",
    )
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--subject", ",".join(subjects), *options],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_disturbed_goes_on_to_the_same_result(subject: str, disturbed: dict[str, Any]) -> None:
    assert disturbed[subject]["wrong"] == []
    assert disturbed[subject]["points"] >= 11


@pytest.mark.parametrize("safeguard", ["named randomness", "whole files"])
def test_without_a_safeguard_it_would_not(safeguard: str, disturbed: dict[str, Any]) -> None:
    wrong = disturbed[f"search without {safeguard}"]["wrong"]
    assert any("another result" in w["said"] or "did not go on" in w["said"] for w in wrong)


def test_stock_kerastuner_does_not() -> None:
    """Its JSON files are neither written whole nor together (1.4.8, `engine/oracle.py`, `utils.save_json`)."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM.with_name("stock.py")), "--stride", "60"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["not loadable"] > 0 and found["not loadable"] + found["different"] + found["right"] == found["crashes"]
