"""A few real kills of real searches; `make torture` does 300."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("torture.py")


@pytest.mark.timeout(600)
def test_a_few_kills_change_nothing() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "--kills", "2", "--warm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = re.search(
        r"(\d+) kills \((\d+) in training, (\d+) in a recovery\).* (\d+) resumes, 0 differences", done.stdout
    )
    assert found is not None
    kills, training, recovery, resumes = map(int, found.groups())
    assert kills == resumes >= 2 and training >= 1 and recovery >= 1
