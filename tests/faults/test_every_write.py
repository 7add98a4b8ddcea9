"""A search whose N-th write fails goes on to the result of one that nothing disturbed. `make torture` does every N."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("every_write.py")


def disturbed(*options: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--jobs", "1", *options], capture_output=True, text=True, timeout=240
    )
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("kinds", "stride", "double"),
    [("crash", 409, 3), ("ENOSPC,EIO,short", 1800, 0)],
    ids=["the process dies", "the disk fails or is full"],
)
def test_it_goes_on_to_the_same_result(kinds: str, stride: int, double: int) -> None:
    found = disturbed("--kinds", kinds, "--stride", str(stride), "--double", str(double))
    assert found["wrong"] == []
    assert isinstance(found["points"], int) and found["points"] >= 10


def test_photographs_and_features_are_whole_in_the_cache_or_made_again() -> None:
    found = disturbed("--subject", "cache", "--double", "3", "--stride", "11")
    assert found["wrong"] == []
    assert isinstance(found["points"], int) and found["points"] >= 30


def test_the_question_and_the_report_are_whole_or_as_they_were() -> None:
    found = disturbed("--subject", "documents", "--double", "1", "--stride", "29")
    assert found["wrong"] == []
    assert isinstance(found["points"], int) and found["points"] >= 8


@pytest.mark.parametrize("safeguard", ["named randomness", "whole files"])
def test_without_a_safeguard_it_would_not(safeguard: str) -> None:
    found = disturbed("--kinds", "crash", "--stride", "397", "--double", "0", "--without", safeguard)
    wrong = found["wrong"]
    assert isinstance(wrong, list)
    assert any("another result" in w["said"] or "did not go on" in w["said"] for w in wrong)


def test_stock_kerastuner_does_not() -> None:
    """Its JSON files are neither written whole nor together (1.4.8, `engine/oracle.py`, `utils.save_json`)."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM.with_name("stock.py")), "--stride", "15"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["not loadable"] > 0 and found["not loadable"] + found["different"] + found["right"] == found["crashes"]
