"""A search whose N-th write fails goes on to the result of one that nothing disturbed. `make torture`: every N."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forks
import pytest


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By subject what was disturbed and went wrong, from one process that imports everything once: three crashes, each
    of the disk's failures once and from then on, and two crashes with a second one in the recovery.
    """
    subjects = ("search", "cache", "documents", "search without named randomness", "search without whole files")
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
    said = tmp_path_factory.mktemp("disturbed") / "said"
    forks.program("faults.every_write", "--subject", ",".join(subjects), *options, said=said, timeout=280)
    last = said.read_text().splitlines()[-1:]
    assert last and last[0].startswith("{"), said.read_text()
    return dict(json.loads(last[0]))


@pytest.mark.parametrize("subject", ["search", "cache", "documents"])
def test_what_is_disturbed_goes_on_to_the_same_result(subject: str, disturbed: dict[str, Any]) -> None:
    assert disturbed[subject]["wrong"] == []
    assert disturbed[subject]["points"] >= 11


@pytest.mark.parametrize("safeguard", ["named randomness", "whole files"])
def test_without_a_safeguard_it_would_not(safeguard: str, disturbed: dict[str, Any]) -> None:
    wrong = disturbed[f"search without {safeguard}"]["wrong"]
    assert any("another result" in w["said"] or "did not go on" in w["said"] for w in wrong)


def test_stock_kerastuner_does_not(tmp_path: Path) -> None:
    """Its JSON files are neither written whole nor together (1.4.8, `engine/oracle.py`, `utils.save_json`)."""
    said = tmp_path / "said"
    assert forks.program("faults.stock", "--stride", "60", said=said, timeout=240) == 0, said.read_text()
    found = json.loads(said.read_text().splitlines()[-1])
    assert found["not loadable"] > 0 and found["not loadable"] + found["different"] + found["right"] == found["crashes"]
