"""A map larger than what may be held: its rows are right, what is written stays, the process does not grow with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuner.images import mapped

ROOT = Path(__file__).resolve().parents[2]


def test_rows_are_copies_of_the_arrays_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "HELD", 1000)
    values = np.arange(40 * 300, dtype=np.float32).reshape(40, 300)
    np.save(tmp_path / "a.npy", values)
    for array in (values, np.load(tmp_path / "a.npy", mmap_mode="r"), np.load(tmp_path / "a.npy", mmap_mode="r")[5:]):
        rows = mapped.Rows(array)
        for wanted in (np.array([3, 30, 3, 0]), slice(2, 9), slice(30, 99)):
            found = rows.take(wanted)
            assert np.array_equal(found, np.asarray(array)[wanted])
            found[:] = -1  # a copy: the array stays
        assert np.asarray(array).min() >= 0


def test_what_is_written_to_a_map_is_still_there_when_it_was_let_go(tmp_path: Path) -> None:
    array = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=(100, 1000))
    for row in range(100):
        array[row] = row
        mapped.let_go(array)
    assert np.array_equal(array[:, 0], np.arange(100))
    array.flush()
    assert np.array_equal(np.load(tmp_path / "a.npy")[:, 999], np.arange(100))


PROGRAM = """
import json, resource, sys
import numpy as np
from tuner.images import mapped
mapped.HELD = 20_000_000
path, mode = json.loads(sys.argv[1])
array = np.load(path, mmap_mode="r+")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = mapped.Rows(array)
for first in range(0, len(array), 10):
    if mode == "read":
        rows.take(slice(first, first + 10))
    else:
        array[first:first + 10] = 1
        rows.touched(array[first:first + 10].nbytes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give pages back in their own time")
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_process_holds_no_more_than_a_part_of_a_large_map(tmp_path: Path, mode: str) -> None:
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=(400, 250_000))  # 400 MB
    asked = json.dumps([str(tmp_path / "a.npy"), mode])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, asked], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 100_000, "kilobytes"
