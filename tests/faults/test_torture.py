"""A real kill of a real search with every technique on; `make torture` does 300."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("torture.py")


@pytest.mark.timeout(600)
def test_a_real_search_is_killed_and_goes_on() -> None:
    """The program itself is tried here, with as few kills as it takes: `make torture` does 300."""
    options = ["--kills", "1", "--warm", "--training", "0", "--recovery", "0", "--recipe", "all"]
    done = subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = re.search(r"(\d+) kills .* (\d+) resumes, 0 differences", done.stdout)
    assert found is not None and int(found[1]) == int(found[2]) == 1
