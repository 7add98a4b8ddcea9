"""Killed at any moment, a search resumes to the same result, bit for bit."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import forks
import pytest
from search import killing
from search.canary import heard, singing
from search.studies import count, facts, make, own_cache, search

from tuner.store.folder import StudyFolder
from tuner.store.store import Store

STEPS = 3
"""Batches of 4 in 10 photographs: what one epoch takes."""


def test_killed_again_and_again_the_result_is_the_uninterrupted_one(
    finished: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While features are computed, inside a transaction and, from outside, when the store shows the searched trials'
    epochs; with a cache of its own, so that features are made anew."""
    cache = str(own_cache(tmp_path / "cache"))
    monkeypatch.setenv("TLSTUDY_CACHE", cache)
    folder = make(tmp_path / "killed")
    points = [
        ("Progress features", 1),
        ("inside the transaction that ends a trial", 5),
    ]
    done, said = [0], tmp_path / "said"

    def start(kind: str, number: int) -> Any:
        return forks.start(killing.search, str(folder.root), kind, number, said=said, TLSTUDY_CACHE=cache)

    for kind, number in points:
        process = start(kind, number)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, said.read_text()
        done.append(count(folder, "epochs"))
        assert not folder.is_running(), "the kernel let go of the lock"
    assert done[1] == 0 and done[2] == 5 * 3

    process = start("never", 1)
    while count(folder, "epochs") < 9 * 3 + 4 and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    with singing(folder.root / "canary"):
        search(folder)
    assert facts(folder) == facts(finished)
    with Store(folder.database, readonly=True) as store:
        outcomes = [r["outcome"] for r in store.rows("SELECT outcome FROM sessions")]
        files = {saved.file for saved in store.checkpoints().values()}
    assert outcomes[-1] == "finished" and set(outcomes[:2]) == {None}
    assert {p.name for p in folder.checkpoints.iterdir()} == files
    steps = heard(folder.root / "canary")
    assert len(steps) == count(folder, "epochs") - 2, "logistic regression takes no step"
    again = {epoch: n - STEPS for epoch, n in steps.items() if n != STEPS}
    # Of the trial killed in the transaction that ends it, and of the one killed from outside.
    assert len(again) <= 2 and all(0 < n <= STEPS for n in again.values()), "an epoch a kill is redone at most"
