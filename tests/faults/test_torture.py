"""A real kill of a real search with every technique on; `make torture` does 300."""

from __future__ import annotations

import re
from pathlib import Path

import forks
import pytest


@pytest.mark.timeout(600)
def test_a_real_search_is_killed_and_goes_on(tmp_path: Path) -> None:
    """The program itself is tried here, with one kill in the middle: `make torture` does 300."""
    options = ["--kills", "1", "--seed", "9", "--warm", "--training", "0", "--recovery", "0", "--recipe", "all"]
    status = forks.program("faults.torture", *options, said=tmp_path / "said", timeout=550)
    said = (tmp_path / "said").read_text()
    assert status == 0, said[-6000:]
    found = re.search(r"(\d+) kills .* (\d+) resumes, 0 differences", said)
    assert found is not None and int(found[1]) == int(found[2]) == 1
