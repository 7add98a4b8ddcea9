"""Attempts are counted before a trial runs; a rung that fails whole ends the search; the environment is ignored."""

from __future__ import annotations

import ast
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import costless
from faults.every_write import DONE, child
from search.studies import facts, make, search

from tuner.errors import Interrupted, SearchError
from tuner.search import deaths
from tuner.search.events import Event, Notice
from tuner.store.folder import StudyFolder
from tuner.store.store import Store

TUNER = Path(__file__).parents[2] / "tuner"
LEFT = 5
"""Exit status of a process that was left at once."""


def dying(root: Path, how: Callable[[], object]) -> int:
    """A search in which the first epoch of configuration c002 ends like this."""
    reset = costless.Costless.reset

    def deadly(self: costless.Costless, seed: int, configuration: str) -> None:
        if configuration == "c002":
            how()
        reset(self, seed, configuration)

    costless.Costless.reset = deadly  # type: ignore[method-assign]
    try:
        costless.run(root)
    except KeyboardInterrupt:
        return LEFT
    return DONE


def signalled(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def leave_at_once() -> None:
    raise KeyboardInterrupt


def trials(root: Path, where: str) -> list[tuple[Any, ...]]:
    with Store(StudyFolder(root).database, readonly=True) as store:
        return [
            tuple(r) for r in store.rows(f"SELECT status, attempts, reason FROM trials WHERE configuration {where}")
        ]


def test_a_trial_that_crashes_its_process_fails_at_the_third_time_and_a_later_search_tries_it_again(
    tmp_path: Path,
) -> None:
    root = tmp_path / "study"
    for _ in range(3):
        status, said = child(lambda: dying(root, signalled(signal.SIGSEGV)))
        assert status == -signal.SIGSEGV, said
    heard: list[Event] = []
    costless.run(root, said=heard.append)
    assert "crashed (Segmentation fault) in c002-rung0" in next(e.text for e in heard if isinstance(e, Notice))
    failed = "the process crashed or ran out of memory 3 times in the same epoch"
    assert trials(root, "= 'c002'") == [("FAILED", 4, failed)]
    assert {row[:2] for row in trials(root, "<> 'c002'")} == {("COMPLETED", 1)}
    costless.run(tmp_path / "alone")
    alone, here = (
        [row for row in facts(folder)["epochs"] if row[0] < "c002" and row[1] == 1]
        for folder in (StudyFolder(tmp_path / "alone"), StudyFolder(root))
    )
    assert alone == here, "what it was ranked against is untouched"

    status, said = child(lambda: dying(root, signalled(signal.SIGSEGV)))
    assert status == -signal.SIGSEGV, "a new search tries it again"
    costless.run(root)
    assert trials(root, "= 'c002'")[0][0] == "FAILED", "once"
    costless.run(root)
    assert {row[0] for row in trials(root, "= 'c002'")} == {"COMPLETED"}, "and where nothing kills it any more it ends"
    of_it = [
        [r for r in facts(StudyFolder(tmp_path / n))["epochs"] if r[:2] == ("c002", 1)] for n in ("alone", "study")
    ]
    assert of_it[0] == of_it[1] != []


@pytest.mark.parametrize("how", [signalled(signal.SIGKILL), leave_at_once], ids=["killed", "left at once"])
def test_what_ends_a_process_from_outside_never_counts(tmp_path: Path, how: Callable[[], object]) -> None:
    root = tmp_path / "study"
    for _ in range(4):
        status, said = child(lambda: dying(root, how))
        assert status in (-signal.SIGKILL, LEFT), said
    costless.run(root)
    costless.run(tmp_path / "alone")
    assert facts(StudyFolder(root)) == facts(StudyFolder(tmp_path / "alone"))
    assert {row[:2] for row in trials(root, "<> ''")} == {("COMPLETED", 1)}
    assert not StudyFolder(root).crash.exists()


def test_a_kill_counts_where_the_kernel_killed_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = [0]
    monkeypatch.setattr(deaths, "kills", lambda: ["boot", *killed])
    for killed[0] in (0, 0, 1, 2):  # by the second session nothing had been killed
        child(lambda: dying(tmp_path, signalled(signal.SIGKILL)))
    assert trials(tmp_path, "= 'c002'") == [("RUNNING", 3, None)]
    killed[0] = 3
    costless.run(tmp_path)
    assert trials(tmp_path, "= 'c002'")[0][:2] == ("FAILED", 4)
    assert not deaths.ran_out(["one boot", 1], ["another", 2]) and not deaths.ran_out([], ["another", 2])


def test_a_process_that_is_killed_from_outside_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    """Killed in each of four epochs, it comes to the end: each attempt came further than the one before."""

    def killed_at(epoch: int) -> int:
        step, seen = costless.Costless.logits, [0]

        def logits(self: costless.Costless, x: np.ndarray) -> np.ndarray:
            seen[0] += 1
            if seen[0] > 1:  # in the second epoch of this process
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, x)

        costless.Costless.logits = logits  # type: ignore[method-assign]
        costless.run(tmp_path / "killed")
        return epoch

    for epoch in range(1, 5):
        status, said = child(lambda epoch=epoch: killed_at(epoch))  # type: ignore[misc]
        assert status == -signal.SIGKILL, said
    costless.run(tmp_path / "killed")
    costless.run(tmp_path / "alone")
    assert facts(StudyFolder(tmp_path / "killed")) == facts(StudyFolder(tmp_path / "alone"))


def failing(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From epoch `after` + 1 on nothing that is searched can be trained."""
    load = costless.Costless.load

    def failing_load(self: costless.Costless, state: object) -> None:
        load(self, state)  # type: ignore[arg-type]
        if after:
            raise ValueError("the second rung is cursed")

    monkeypatch.setattr(costless.Costless, "load", failing_load)


def test_a_rung_that_fails_whole_stops_the_search_with_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(1, monkeypatch)
    with pytest.raises(SearchError, match=r"bracket 2, rung 1 failed \(2\): 2 times ValueError: the second rung"):
        costless.run(tmp_path)
    with Store(StudyFolder(tmp_path).database, readonly=True) as store:
        failed = store.rows("SELECT bracket, rung FROM trials WHERE status = 'FAILED'")
    assert {tuple(r) for r in failed} == {(2, 1)} and len(failed) == 2


def test_an_oracle_server_in_the_environment_is_ignored_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "10.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    stop, said = threading.Event(), []

    def on(event: Event) -> None:
        if isinstance(event, Notice) and "KERASTUNER_ORACLE_IP" in event.text:
            said.append(event)
            stop.set()

    with pytest.raises(Interrupted):
        search(make(tmp_path), on=on, stop=stop)
    assert [event.warning for event in said] == [True]
    costless.run(tmp_path / "whole")


def test_no_duration_and_no_order_comes_from_the_clock() -> None:
    """A clock that jumps changes no result: only whether a file changed too lately for its times to tell is asked."""
    used = set()
    for path in TUNER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "time.time_ns"):
                used.add(path.relative_to(TUNER).as_posix())
    assert used <= {"images/hashing.py"}
