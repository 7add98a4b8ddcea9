"""The loop of a search: submit what is ready while slots are free, record each event, tell the listener.

Only this file and `confirming` write the study's results. An event and its record land in one transaction before the
listener hears of it, so a search that is killed at any moment goes on from its last recorded epoch.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.artifacts import own
from tuner.errors import SearchError
from tuner.evidence.study import out_of_time
from tuner.search import deaths, schedule
from tuner.search.budget import Budget, too_late
from tuner.search.checkpoints import Checkpoints
from tuner.search.confirming import Confirming
from tuner.search.costs import CostModel, seconds_left
from tuner.search.events import EpochEnded, Listener, Notice, Phase, TrialEnded, TrialStarted
from tuner.search.executors import Epoch, Event, Executor, WorkerLost
from tuner.search.facts import Facts
from tuner.search.plan import Key, Plan, Trial
from tuner.store import held_out, ids
from tuner.store.ranking import value_of
from tuner.store.store import Store
from tuner.training.trial import TrialResult, TrialSpec

CHOSEN_AMONG = ("search", "baseline", "logistic")
"""Kinds of which one is the winner or the baseline: what each epoch said of each image is kept."""


class Stopped(Exception):
    """The search was asked to stop and everything finished is in the store."""


@dataclass
class Driver:
    """One session of a study's search over its store.

    `cost` learns from every trial what the next ones take. `environment`: what numbers depend on besides the study,
    kept with each trial.
    """

    plan: Plan
    facts: Facts
    store: Store
    checkpoints: Checkpoints
    executor: Executor
    listen: Listener
    stop: threading.Event
    confirm: Confirming
    cost: CostModel
    environment: Mapping[str, Any] | None = None
    budget: Budget = field(default_factory=Budget)
    _running: dict[str, Trial] = field(default_factory=dict)

    def run(self) -> None:
        """Trains all that has not ended. Raises Stopped on request, SearchError when a first rung has no survivor."""
        said: list[str] = []
        own.make_private(self.checkpoints.folder)
        self.checkpoints.sweep(self.facts.checkpoints.values())
        self.facts.lost |= self._lost()
        try:
            while True:
                now = schedule.stage(self.plan, self.facts)
                if now == "confirm":
                    self.confirm.fix(self.plan, self.facts)
                self._announce(now, said)
                self._submit()
                if self._running:
                    for event in self.executor.events():
                        self._record(event)
                    continue
                if now is None:
                    break
                self._pause()
                if now == "confirm" and not schedule.confirming(self.plan, self.facts):
                    self.confirm.open_test(self.plan, self.facts, self._pause)
        finally:
            self.executor.close()
        self._forget()
        self.checkpoints.sweep(self.facts.checkpoints.values())

    def _submit(self) -> None:
        """Begins what is ready while slots are free and nobody asked to stop."""
        if self.stop.is_set():
            self.executor.stop()
            return
        for trial in self._next(max(0, self.executor.slots - len(self._running))):
            spec = self._begin(trial)
            if spec is not None:
                token = secrets.token_hex(8)
                self._running[token] = trial
                self.executor.submit(token, spec)

    def _next(self, free: int) -> list[Trial]:
        """What begins now on `free` slots. What there is no time for any more is left out, on record and for good."""
        while True:
            ready, left = schedule.ready(self.plan, self.facts, self._keys()), self.budget.left()
            options = {"free": free, "slots": self.executor.slots}
            late = too_late(self.plan, self.facts, self.cost, ready, left=left, **options)
            if not late:
                return ready[:free]
            if not self.facts.out_of_time:
                (trial, takes), *_ = late
                text = (
                    f"{trial.configuration} and what has to follow it would take about {takes:.0f} s, of the time "
                    f"budget of {self.budget.text} {max(0.0, left):.0f} s are left: what would not end in time is left "
                    "out from here on."
                )
                self.listen(Notice(text))
            self.facts.out_of_time |= {trial.configuration: trial.rung or 0 for trial, _ in late}
            self.store.leave_out(self.budget.text, self.facts.out_of_time)

    def _pause(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _keys(self) -> set[Key]:
        return {trial.key for trial in self._running.values()}

    def _announce(self, stage: str | None, said: list[str]) -> None:
        """Each stage once, also one that ended in an earlier session."""
        last = len(schedule.STAGES) - 1 if stage is None else schedule.STAGES.index(stage)
        for name in schedule.STAGES[: last + 1]:
            if name in said:
                continue
            said.append(name)
            if name == "baseline":
                text = f"{len(self.plan.frozen)} frozen configurations and the reference"
                self.listen(Phase("baseline", text))
            elif name == "search":
                drawn = sum(b.sizes[0] for b in self.plan.brackets)
                self.listen(Phase("search", f"Hyperband, {drawn} configurations"))
            else:
                if left_out := out_of_time(self.budget.text, self.facts.out_of_time, len(self.plan.draws)):
                    self.listen(Notice(left_out, warning=True))
                self._check_any()
                if self.plan.confirm is not None:
                    self.listen(self.confirm.announcement(self.plan, self.facts))
                    if fewer := self.confirm.fewer(self.plan, self.facts):
                        self.listen(fewer)

    # ---- a trial begins ----

    def _begin(self, trial: Trial) -> TrialSpec | None:
        """Records that a trial runs. None for one that killed its process too often: it has failed."""
        name, values = trial.configuration, trial.values
        cut = self.cost.cut(values)
        id = self.facts.ids.get(trial.key)
        parent = self.facts.ids.get((name, trial.rung - 1)) if trial.rung else None
        row = trial.row(id, parent)
        if trial.kind in ("seed", "fold") and trial.key in self.facts.outcomes:
            text = f"The weights of {name} are missing or damaged: it is trained again."
            self.listen(Notice(text, warning=True))
        spec = self._spec(trial, row.id)
        with self.store.transaction():
            self.store.add_configuration(name, trial.kind, trial.number, values.to_dict(), cut, None)
            if trial.confirms is not None:
                held_out.confirms(self.store, name, trial.confirms)
            attempts = self.store.begin_trial(row, self.environment)
            beside = [self.facts.ids[trial.key] for trial in self._running.values()]
            self.store.set_meta(running=deaths.running([*beside, row.id]))
        self.facts.ids[trial.key] = row.id
        self.facts.numbers.setdefault(trial.kind, {})[name] = trial.number
        place = (trial.iteration, trial.bracket, trial.rung, trial.first_epoch, trial.last_epoch)
        self.listen(TrialStarted(row.id, name, trial.kind, values.to_dict(), *place, cut))
        if attempts <= deaths.ATTEMPTS:
            return spec
        reason = f"the process crashed or ran out of memory {deaths.ATTEMPTS} times in the same epoch"
        self._conclude(trial, TrialResult("FAILED", None, reason, 0.0, None))
        return None

    def _spec(self, trial: Trial, id: str) -> TrialSpec:
        name = trial.configuration
        state = weights = None
        if not trial.repairs and trial.key not in self.facts.outcomes:
            state, weights = (self.facts.checkpoints.get((name, role)) for role in ("last", "best"))
        # A fold and a fresh seed predict with their best epoch's weights, which may be of an earlier attempt.
        wanted = [state, weights] if trial.confirms is not None else [state]
        if state is not None and (lost := [s for s in wanted if s and not self.checkpoints.whole(s)]):
            text = f"Checkpoint {lost[0].file} is missing or damaged: {name} is trained again from its first epoch."
            self.listen(Notice(text, warning=True))
            state = None
        best_bar, last_bar = schedule.bars(self.plan, self.facts, trial)
        return TrialSpec(
            id=id,
            configuration=name,
            values=trial.values,
            last_epoch=trial.last_epoch,
            subset=trial.subset,
            state=state,
            weights=weights,
            best=self.facts.best(name, state.epoch) if state is not None else None,
            keep_last=trial.next_size is not None,
            last_bar=last_bar,
            best_bar=best_bar,
            fixed=trial.fixed,
            tutorial=trial.kind == "reference",
        )

    # ---- what happened ----

    def _record(self, event: Event) -> None:
        """Records an event of a running attempt; one of an attempt that was given up is refused. Raises StoreError when
        the study is no longer where it was.
        """
        self.store.check_place()
        trial = self._running.get(event.token)
        if trial is None:
            return
        if isinstance(event, Epoch):
            self._epoch(trial, event)
            return
        del self._running[event.token]
        if isinstance(event, WorkerLost):  # this process lives on: nobody but the trial is known to have ended it
            self.store.blame([self.facts.ids[trial.key]])
        elif event.result.status != "STOPPED":
            self._conclude(trial, event.result)

    def _epoch(self, trial: Trial, event: Epoch) -> None:
        done, name, id = event.done, trial.configuration, self.facts.ids[trial.key]
        chances = None if done.probabilities is None else done.probabilities.astype("<f4").tobytes()
        losses = done.losses if trial.kind in CHOSEN_AMONG else None
        self.store.record_epoch(id, name, done.row, chances, done.saved, losses)
        self.facts.add_epoch(name, done.row)
        for saved in done.saved:
            before = self.facts.checkpoints.get((name, saved.role))
            self.facts.checkpoints[name, saved.role] = saved
            self.checkpoints.wrote(saved)
            if before is not None and before.file != saved.file:
                self.checkpoints.remove(before)
        rate = done.row.images / done.row.seconds if done.row.seconds > 0 else 0.0
        self.listen(EpochEnded(id, name, trial.kind, done.row, done.is_best, rate))

    def _conclude(self, trial: Trial, result: TrialResult) -> None:
        """Records a trial's end, lets go of the files that nothing can need any more, and says so."""
        name, id = trial.configuration, self.facts.ids[trial.key]
        completed = result.status == "COMPLETED"
        score = value_of(result.best, self.plan.rule.objective) if result.best and completed else None
        self.facts.conclude(trial.key, result.status, trial.last_epoch, result.reason)
        with self.store.transaction():
            self.store.end_trial(
                id,
                result.status,
                score,
                result.best.epoch if result.best else None,
                result.reason,
                result.seconds,
                result.trained_parameters,
            )
            if result.cuts:
                self.store.set_hyperparameters(name, replace(trial.values, cuts=", ".join(result.cuts)).to_dict())
            if result.held_out is not None:
                held_out.record(self.store, name, None, self.confirm.held_out(trial.subset), result.held_out)
                self.facts.predicted.add(name)
            dropped = self._forget_rows()
        for saved in dropped:
            self.checkpoints.remove(saved)
        fresh = [e.seconds for e in self.facts.epochs.get(name, []) if e.epoch > trial.first_epoch]
        if trial.values.learning_rate is not None:  # else it is no epoch like the others
            self.cost.observe(self.cost.place(trial.values), fresh)
        left = seconds_left(self.plan, self.facts, self.cost)
        epochs = self.facts.trained(name, trial.last_epoch)
        self.listen(TrialEnded(id, name, trial.kind, result.status, score, result.best, result.reason, left, epochs))
        if trial.kind == "search":
            self._check_rung(trial)

    # ---- files ----

    def _forget(self) -> None:
        with self.store.transaction():
            dropped = self._forget_rows()
        for saved in dropped:
            self.checkpoints.remove(saved)

    def _forget_rows(self) -> list[Any]:
        """Drops the rows of checkpoints that nothing can need; returns those, whose files may go when that landed."""
        needed = schedule.needed(self.plan, self.facts, self._keys())
        dropped = []
        for name, role in [key for key in self.facts.checkpoints if key not in needed]:
            self.store.forget_checkpoints(name, [role])
            dropped.append(self.facts.checkpoints.pop((name, role)))
        return dropped

    def _lost(self) -> set[str]:
        """Configurations that ended and whose kept weights are not whole."""
        found = set()
        for (name, role), saved in self.facts.checkpoints.items():
            kept = role == "best" and (last := self.facts.ended(name)) is not None and last.status == "COMPLETED"
            if kept and self._settled(name) and not self.checkpoints.whole(saved):
                found.add(name)
                if name not in self.facts.numbers.get("seed", {}):
                    text = f"{saved.file} is missing or damaged: {name} is trained again."
                    self.listen(Notice(text, warning=True))
        return found

    def _settled(self, name: str) -> bool:
        """Whether every trial of a configuration that was started has ended."""
        return all(key in self.facts.outcomes for key in self.facts.ids if key[0] == name)

    # ---- when nothing is left to go on with ----

    def _check_rung(self, trial: Trial) -> None:
        """Stops when every configuration of a rung failed."""
        if reasons := schedule.failed_rung(self.plan, self.facts, trial):
            common = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))[:3]
            raise SearchError(
                f"Every configuration of bracket {trial.bracket}, rung {trial.rung} failed ({len(reasons)}): "
                + "; ".join(f"{reasons.count(reason)} times {reason}" for reason in common)
                + ". Lower space.learning_rate or look at the photographs; `tlstudy report` shows every trial."
            )

    def _check_any(self) -> None:
        """Stops when no searched configuration survived: what is left is the baseline, and there is no winner."""
        if not self.plan.brackets or schedule.leaders(self.plan, self.facts, "search"):
            return
        ended = [o for draw in self.plan.draws for o in self.facts.rungs(ids.searched(draw.number))]
        if not ended:  # the time budget left them all out
            return
        reasons = sorted({str(o.reason) for o in ended if o.status == "FAILED"})
        raise SearchError(
            f"Every searched configuration failed: {'; '.join(reasons[:3])}. Lower space.learning_rate or look at the "
            "photographs; the baseline was trained (`tlstudy best --baseline` exports it)."
        )
