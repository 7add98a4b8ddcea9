"""After a power cut all that was promised is there, and what goes on comes to the same result. `make torture`: every
write.
"""

from __future__ import annotations

import json
from typing import Any

import forks
import pytest
from faults import disk

WITHOUT = "search without syncs"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By subject what was wrong after 40 of its writes: all that a cut may leave is looked at, three go on."""
    if why := disk.reason():
        pytest.skip(f"no power cut can be tried here: {why}")
    said = tmp_path_factory.mktemp("power") / "said"
    subjects = ",".join(["search", "cache", "documents", "export", "fresh", WITHOUT])
    options = ["--subject", subjects, "--cuts", "40", "--points", "3", "--jobs", "1"]
    forks.program("faults.power", *options, said=said, timeout=280)
    last = said.read_text().splitlines()[-1:]
    assert last and last[0].startswith("{"), said.read_text()
    return dict(json.loads(last[0]))


@pytest.mark.parametrize("subject", ["search", "cache", "documents", "export", "fresh"])
def test_after_a_power_cut_all_that_was_promised_is_there_and_goes_on(subject: str, found: dict[str, Any]) -> None:
    assert found[subject]["wrong"] == []
    assert found[subject]["gone on from"] >= 3


def test_without_syncs_it_would_not(found: dict[str, Any]) -> None:
    assert found[WITHOUT]["wrong"]
