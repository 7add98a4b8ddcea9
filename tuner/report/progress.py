"""Where a running search stands, gathered from its events and those of earlier sessions. Both displays draw from this;
plain values only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from tuner.report import words
from tuner.search.events import Counted, EpochEnded, Event, Notice, Phase, Planned, Progress, TrialEnded, TrialStarted
from tuner.store.ranking import Rule, place, rank_of
from tuner.store.store import Bracket, EpochRow, Store
from tuner.store.tables import Configuration, Epoch, Trial, rows

DONE, RUNS, PARTLY, WAITS = "done", "runs", "partly", "waits"
CONFIRMING = ("seed", "fold")
"""Kinds of trials that confirm: they are not in the plan's total."""
Place = tuple[int, int, int]
"""Iteration, bracket, rung."""


AGREEMENT = {"1 image in 20": 0.05, "1 image in 10": 0.1}
"""On how many images winner and baseline may be told apart, in words: the more they agree, the more few images tell."""


def can_show(counted: Counted) -> str:
    """What the images can be expected to show, said before anything is spent."""
    validation, test, seeds = counted.validation, counted.test, counted.seeds
    if not test:
        return (
            f"No test set: the {validation} validation images choose the winner and judge it too, so the outcome is "
            "exploratory; fresh seeds tell how much of it was luck."
        )
    # numpy: not before the display needs it
    from tuner.evidence.power import POWER_OF_EACH, SEED_DEVIATION, smallest_difference

    agreeing: dict[str, str] = {}  # on so few images that both need the same, the looser agreement says it
    for how, differ in AGREEMENT.items():
        if least := smallest_difference(test, differ=differ, seeds=seeds, margin=counted.margin, power=POWER_OF_EACH):
            agreeing[f"{100 * least:.1f} points"] = how
    within = "" if counted.groups is None else f" in {words.several(counted.groups, 'group')}"
    sealed = f"{test} test images{within} are sealed until the end"
    if not agreeing:
        return f"{sealed}; so few cannot be expected to show any difference."
    found = ", or of ".join(f"{least} where the models differ on {how}" for least, how in agreeing.items())
    with_seeds = f"{seeds} seeds that differ by {100 * SEED_DEVIATION:g} points" if seeds > 1 else "one seed"
    text = f"{sealed}; with {with_seeds} each, 4 studies of 5 show a gain where the winner is truly better than both "
    text += f"baselines by {found}."
    if counted.groups is not None:
        text += " Groups whose images are much alike show less, down to what so many single images do."
    return text


@dataclass
class Standing:
    """A configuration at its epoch that counts so far, of `epochs` that were trained; `start` is its latest trial."""

    start: TrialStarted
    row: EpochRow
    epochs: int


@dataclass
class Progressed:
    """Everything that the events said so far: the state both displays draw from.

    Events of an earlier session may be replayed before `Planned`; they fill the rungs and the best, and are not counted
    again, since `Planned.done` holds them.
    """

    plan: Planned | None = None
    phase: Phase | None = None
    progress: Progress | None = None
    running: dict[str, TrialStarted] = field(default_factory=dict)
    latest: EpochEnded | None = None
    standings: dict[str, dict[str, Standing]] = field(default_factory=dict)  # kind -> configuration -> where it stands
    ended: int = 0
    failed: int = 0
    seconds_left: float | None = None
    rungs: dict[Place, dict[str, str]] = field(default_factory=dict)  # place -> trial -> RUNNING, COMPLETED or FAILED
    notices: list[Notice] = field(default_factory=list)
    rate: float | None = None
    starts: dict[str, TrialStarted] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Adds what one event says."""
        match event:
            case Planned():
                self.plan, self.ended = event, event.done
            case Phase():
                self.phase, self.progress = event, None
            case Progress():
                self.progress = event
            case Notice():
                self.notices.append(event)
            case Counted():
                self.notices.append(Notice(can_show(event)))
            case TrialStarted():
                self.running[event.trial] = self.starts[event.trial] = event
                self.latest = None
                self._mark(event, "RUNNING")
            case EpochEnded():
                self.latest, self.rate = event, event.images_per_second
            case TrialEnded():
                self._end(event)

    def _end(self, event: TrialEnded) -> None:
        self.running.pop(event.trial, None)
        self.ended += event.kind not in CONFIRMING
        self.seconds_left = event.seconds_left
        start = self.starts.get(event.trial)
        if start is None:
            return
        self._mark(start, event.status)
        standings = self.standings.setdefault(event.kind, {})
        if event.status == "FAILED":
            self.failed += 1
            standings.pop(event.configuration, None)
        elif event.best is not None:
            epochs = start.last_epoch if event.epochs is None else event.epochs
            standings[event.configuration] = Standing(start, event.best, epochs)

    def best(self, kind: str) -> Standing | None:
        """The best configuration of a kind by the study's rule, as `Results.ranking` has it."""
        return min(self.standings.get(kind, {}).values(), key=self._order, default=None)

    @property
    def objective(self) -> str:
        return self.plan.objective if self.plan is not None else "val_loss"

    def is_full(self, standing: Standing) -> bool:
        return self.plan is not None and standing.start.last_epoch >= self.plan.max_epochs

    def _mark(self, start: TrialStarted, status: str) -> None:
        if start.iteration is not None and start.bracket is not None and start.rung is not None:
            self.rungs.setdefault((start.iteration, start.bracket, start.rung), {})[start.trial] = status

    def _order(self, standing: Standing) -> tuple[object, ...]:
        row, name = standing.row, standing.start.configuration
        key = rank_of(row, Rule(self.objective))
        number = int("".join(c for c in name if c.isdigit()) or 0)
        return place(key, failed=False, full=self.is_full(standing), epochs=standing.epochs, number=number)

    def rung(self, bracket: Bracket, rung: int) -> tuple[str, int]:
        """A rung's state and how many configurations ended there."""
        trials = self.rungs.get((bracket.iteration, bracket.bracket, rung), {})
        ended = sum(status != "RUNNING" for status in trials.values())
        if ended >= bracket.sizes[rung]:
            return DONE, ended
        return (RUNS if "RUNNING" in trials.values() else PARTLY if trials else WAITS), ended


def earlier(store: Store) -> Iterator[TrialStarted | TrialEnded]:
    """Two events for each ended trial, as they were started; for a display before `Planned`, which counts them."""
    configurations = {row.id: row for row in rows(store, Configuration)}
    epochs: dict[str, dict[int, Epoch]] = {}
    for row in rows(store, Epoch):
        epochs.setdefault(row.configuration, {})[row.epoch] = row
    for t in rows(store, Trial):
        if t.status == "RUNNING":
            continue
        c, at = configurations[t.configuration], (t.iteration, t.bracket, t.rung)
        yield TrialStarted(t.id, c.id, c.kind, c.hyperparameters, *at, t.first_epoch, t.last_epoch, c.cut)
        mine = epochs.get(c.id, {})
        best, trained = mine.get(t.best_epoch or 0), sum(epoch <= t.last_epoch for epoch in mine)
        counts = None if best is None else _row(best)
        yield TrialEnded(t.id, c.id, c.kind, t.status, t.score, counts, t.reason, None, trained)


def _row(epoch: Epoch) -> EpochRow:
    metrics = (epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy)
    loss, accuracy, val_loss, val_accuracy = (math.nan if value is None else float(value) for value in metrics)
    return EpochRow(epoch.epoch, loss, accuracy, val_loss, val_accuracy, epoch.seconds, epoch.images, epoch.score)
