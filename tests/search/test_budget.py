"""With a time budget, any number of workers in any order end in time; what is left out is decided once."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import costless
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from search.slots import Slots
from search.studies import facts as held
from search.studies import make, search, spec

from tuner.evidence.results import Results
from tuner.report.facts import headline
from tuner.search.costs import CostModel
from tuner.search.events import Notice
from tuner.search.executors import Epoch, Event
from tuner.search.planning import plan
from tuner.spec.configuration import Configuration
from tuner.spec.values import seconds_of
from tuner.store import ids
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.training.context import Context
from tuner.training.trial import TrialSpec

HEAD, CONVOLUTIONS = 1.0, 10.0
"""Seconds of an epoch."""


class Killed(Exception):
    """The process died."""


@dataclasses.dataclass
class World:
    """The time that passes, and who was trained when. `slow`: from here on an epoch takes `times` as long. `kills`:
    after how many events from its beginning each process dies.
    """

    slow: float = float("inf")
    times: float = 3.0
    kills: tuple[int, ...] = ()
    now: float = 0.0
    trained: Counter[tuple[str, int]] = dataclasses.field(default_factory=Counter)
    begun: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    longest: float = 0.0
    lost: int = 0

    def epoch(self, values: Configuration) -> float:
        seconds = CONVOLUTIONS if values.unfrozen_layers else HEAD
        return seconds * (self.times if self.now > self.slow else 1.0)


class Timed(Slots):
    """Slots whose epochs take the world's time, side by side."""

    def __init__(self, world: World, contexts: list[Context], draw: np.random.Generator, losing: float) -> None:
        super().__init__(contexts, draw, losing)
        self.world, self.trained = world, world.trained
        self.kill = world.kills[0] if world.kills else -1
        world.kills = world.kills[1:]

    def submit(self, token: str, spec: TrialSpec) -> None:
        self.world.begun.append((spec.configuration, self.world.now))
        super().submit(token, spec)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        self.kill -= 1
        if self.kill == 0:
            raise Killed
        lost = self.lost
        for event in super().events(timeout):
            if isinstance(event, Epoch) and event.token in self._running:
                trial = self._running[event.token][0]
                took = self.world.epoch(trial.values)
                self.world.longest = max(self.world.longest, took * trial.last_epoch)
                self.world.now += took / self.slots
                event = Epoch(event.token, dataclasses.replace(event.done, row=_taking(event.done.row, took)))
            yield event
        self.world.lost += self.lost - lost


def _taking(row: Any, seconds: float) -> Any:
    return dataclasses.replace(row, seconds=seconds)


def run(
    root: Path, budget: str, world: World, workers: int = 1, seed: int = 0, losing: float = 0.0, **changes: Any
) -> dict[str, Any]:
    """Searches, again after each kill, until it ends; returns all that is a result."""
    question = costless.QUESTION.override({"search.time_budget": budget} | changes)
    draw = np.random.default_rng(seed)

    def several(context: Any, should_stop: Any) -> Slots:
        folder = context.checkpoints.parent
        return Timed(world, [costless.context(folder) for _ in range(workers)], draw, losing)

    for _ in range(1 + len(world.kills)):
        try:
            costless.run(root, question=question, executor=several, clock=lambda: world.now)
            break
        except Killed:
            world.lost += workers
    return found(root)


def found(root: Path) -> dict[str, Any]:
    return held(StudyFolder(root)) | {"files": sorted(p.name for p in (root / "checkpoints").iterdir())}


def without(result: dict[str, Any], configurations: set[str]) -> dict[str, Any]:
    """The rows that are not of these configurations."""

    def other(row: Any) -> bool:
        names = (row,) if isinstance(row, str) else row[:2]
        return not any(str(name).split("-")[0] in configurations for name in names)

    return {table: [row for row in rows if other(row)] for table, rows in result.items()}


def left_out(root: Path) -> dict[str, int]:
    with Store(root / "study.db", readonly=True) as store:
        return store.out_of_time()[1]


def rungs(root: Path) -> dict[tuple[int, int, int], list[str]]:
    """Configurations by iteration, bracket and rung that were trained there."""
    made: dict[tuple[int, int, int], list[str]] = {}
    for _, name, iteration, bracket, rung, *_ in held(StudyFolder(root))["trials"]:
        if bracket is not None:
            made.setdefault((iteration, bracket, rung), []).append(name)
    return made


@given(
    seconds=st.integers(20, 200),
    workers=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    losing=st.sampled_from([0.0, 0.1]),
    kills=st.lists(st.integers(1, 120), max_size=3),
    slow=st.sampled_from([50.0, 100.0, float("inf")]),
)
@hypothesis_settings(max_examples=6, deadline=None, phases=[Phase.generate])  # a smaller example says no more here
def test_a_search_ends_in_time_and_the_same_whoever_makes_it_once_that_is_decided(
    seconds: int, workers: int, seed: int, losing: float, kills: list[int], slow: float
) -> None:
    """Any order, any losses and kills, epochs that suddenly take three times as long: nothing runs twice, no trial of
    the search begins when the time is up, and one worker who is told what was left out has the same results.
    """
    world = World(slow=slow, kills=tuple(kills))
    with tempfile.TemporaryDirectory() as folder:
        there, alone = Path(folder) / "there", Path(folder) / "alone"
        result = run(there, f"{seconds} s", world, workers, seed, losing)
        decided = left_out(there)
        late = [name for name, at in world.begun if re.fullmatch(r"c\d+", name) and at > seconds]
        assert not late
        again = sum(n - 1 for n in world.trained.values())
        assert again <= 4 * world.lost, "an epoch is trained once, unless its worker was lost"

        with StudyFolder(alone).locked(), Store(alone / "study.db") as store:
            store.leave_out(f"{seconds} s", decided)
        told = run(alone, f"{seconds} s", World(slow=-1.0, times=0.0))
        cut_off = {t[1] for t in result["trials"] if t[8] == "RUNNING"}
        assert cut_off <= decided.keys(), "by a kill, and there was no time to go on"
        assert without(told, cut_off) == without(result, cut_off)
        assert left_out(alone) == decided


@given(seconds=st.integers(20, 200), workers=st.integers(1, 4), seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=5, deadline=None, phases=[Phase.generate])
def test_without_surprises_everything_ends_in_time_and_the_best_is_confirmed(
    seconds: int, workers: int, seed: int
) -> None:
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "study"
        result = run(root, f"{seconds} s", world, workers, seed)
        searched = [t for t in result["trials"] if t[3] is not None]
        full = {t[1] for t in searched if t[6] == costless.QUESTION.search.max_epochs}
        baseline = {t[1] for t in result["trials"] if t[1][0] in "brl" and "-" not in t[1]}
        assert {"ref", "log"} < baseline and len(baseline) >= 10, "whatever it takes"
        if not searched:
            assert not result["confirmations"] and set(left_out(root).values()) == {0}
            return
        # What the first ones with convolutions take nobody knew when they began.
        assert full or len(searched) <= workers + 1
        assert bool(full) == bool(result["openings"]), "what is begun comes to an end and is confirmed"
        assert world.now <= seconds + world.longest


@given(seconds=st.integers(20, 150), more=st.integers(0, 60), seed=st.integers(0, 1000), workers=st.integers(1, 3))
@hypothesis_settings(max_examples=5, deadline=None, phases=[Phase.generate])
def test_a_larger_budget_takes_up_what_was_left_out(seconds: int, more: int, seed: int, workers: int) -> None:
    """In the end every configuration is trained, no promotion is unmade, and nothing is trained again."""
    world = World()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context():
        root, never = Path(folder) / "study", Path(folder) / "never"
        run(root, f"{seconds} s", world, workers, seed)
        before = rungs(root)
        for budget in (f"{seconds + more} s", "none"):
            result = run(root, budget, world, workers, seed)
            after = rungs(root)
            assert all(set(names) <= set(after[place]) for place, names in before.items())
        assert not left_out(root) and set(world.trained.values()) == {1}
        whole = run(never, "none", World())
        every = rungs(never)
        for (iteration, bracket, rung), names in every.items():
            here = set(after[iteration, bracket, rung])
            assert len(here) >= len(names) and (rung or here == set(names))
        if not before:
            assert {k: v for k, v in result.items() if k != "openings"} == {
                k: v for k, v in whole.items() if k != "openings"
            }


def test_a_budget_that_is_never_reached_changes_no_bit(tmp_path: Path) -> None:
    bits = run(tmp_path / "without", "none", World())
    assert run(tmp_path / "with", "100 h", World()) == bits
    with Store(tmp_path / "with" / "study.db", readonly=True) as store:
        assert store.meta("out_of_time") is None


def test_a_bracket_that_is_cut_promotes_its_share(tmp_path: Path) -> None:
    world = World()
    run(tmp_path / "study", "400 s", world, **{"search.max_epochs": 8})
    made, decided = rungs(tmp_path / "study"), left_out(tmp_path / "study")
    with Store(tmp_path / "study" / "study.db", readonly=True) as store:
        first = store.brackets()[0]
    sizes = [len(made.get((0, first.bracket, rung), [])) for rung in range(len(first.sizes))]
    assert decided and 1 <= sizes[0] < first.sizes[0] and sizes[-1] == 1
    for rung in range(1, len(sizes)):
        share = max(1, sizes[rung - 1] * first.sizes[rung] // first.sizes[rung - 1])
        assert sizes[rung] == share


# ---- what an epoch takes ----


def test_a_trace_does_not_count_once_another_epoch_is_known() -> None:
    model = CostModel(costless.context(Path()).architecture, "frozen", costless.CUTS, 12, 8)
    deep, deeper = ("conv5_block2", 10), ("conv5_block1", 20)
    assert not model.knows(deep) and model.epoch(deep) is None
    model.observe(deep, [9.0])
    assert not model.knows(deep) and not model.knows(deeper) and model.epoch(deep) == 9.0
    model.observe(deep, [1.0])
    assert model.knows(deep) and model.epoch(deep) == 1.0
    expected = model.epoch(deeper)
    assert model.knows(deeper) and expected is not None and expected < 9.0
    model.observe(deeper, [30.0])
    assert model.epoch(deeper) == expected, "one epoch, which may hold a trace, against what others foretell"
    model.observe(deep, [1.1, 1.2, 1.3, 50.0, 1.4])
    assert model.epoch(deep) == pytest.approx(1.1, abs=0.1)


# ---- what is said ----

QUICK: dict[str, Any] = {"search__max_epochs": 2, "search__factor": 2, "space__unfrozen_layers": 0}


def test_too_little_time_for_any_configuration_leaves_the_baseline_and_says_so(tmp_path: Path) -> None:
    folder = make(tmp_path / "study")
    question = spec(search__time_budget="0.01 s", **QUICK)
    events = search(folder, question)
    heard = [event.text for event in events if isinstance(event, Notice)]
    first = next(text for text in heard if "c000 and what has to follow it would take about" in text)
    assert "of the time budget of 0.01 s 0 s are left" in first
    results = Results.open(folder.database)
    every = len(results.study.plan) and sum(b.sizes[0] for b in results.study.plan)
    sentence = f"{every} of {every} configurations were left out by the time budget of 0.01 s."
    assert any(sentence + " Only the baseline was trained." in text for text in heard)
    assert results.study.state == "finished" and results.winner() is None and results.baseline() is not None
    assert sentence in headline(results)
    assert set(results.rungs()["state"]) == {"out of time"}
    found = plan(folder, question)
    assert found.finished and len(found.estimate.out_of_time) == every
    again = search(folder, question)
    assert any(sentence in event.text for event in again if isinstance(event, Notice))
    more = search(folder, question.override({"search.time_budget": "1 h"}))
    assert any("is 1 h now" in event.text for event in more if isinstance(event, Notice))
    results = Results.open(folder.database)
    assert results.winner() is not None and "time budget" not in headline(results)


def test_a_plan_says_what_fits(tmp_path: Path) -> None:
    folder = make(tmp_path / "study")
    everything, nothing = (plan(folder, spec(search__time_budget=text, **QUICK)) for text in ("1 h", "0.1 s"))
    assert not everything.estimate.out_of_time
    drawn = next(kind.configurations for kind in nothing.kinds if kind.name == "search")
    assert nothing.estimate.out_of_time == {ids.searched(n): 0 for n in range(drawn)}
    assert dict(nothing.estimate.phases)["search"] == dict(nothing.estimate.phases)["confirm"] == 0
    assert seconds_of(everything.time_budget) == 3600
