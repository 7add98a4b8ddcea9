"""Ask, train, tell: the baseline first, then Hyperband, each event in the store before the next one starts.

The loop owns the oracle and the store; `trial.run` only trains. Everything it needs to go on is in the store, so a run
that was stopped or killed continues from the last finished event.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from tuner.backbones import cuts
from tuner.errors import StoreError
from tuner.search import candidates, confirm, survivors
from tuner.search.candidates import Candidate
from tuner.search.costs import CostModel, Place, seconds_left
from tuner.search.drawing import drawn, outline_of
from tuner.search.draws import Rank, StudyOracle, trials_at_full_budget
from tuner.search.events import EpochEnded, Listener, Notice, Phase, Planned, PlannedBracket, TrialEnded, TrialStarted
from tuner.search.space import Space, frozen_configurations
from tuner.search.standing import Standing, bracket_of, sweep
from tuner.spec.spec import Spec
from tuner.store import held_out
from tuner.store.folder import StudyFolder
from tuner.store.store import Store, TrialRow
from tuner.training.checkpoints import Checkpoints
from tuner.training.trial import EpochDone, TrialResult, TrialTask, Workshop

ATTEMPTS = 3
LEAST_BASELINE = 8


def planned(store: Store) -> tuple[PlannedBracket, ...]:
    """The brackets that an earlier session recorded."""
    return tuple(
        PlannedBracket(b["iteration"], b["bracket"], tuple(b["sizes"]), tuple(b["epochs"]))
        for b in store.meta("plan", [])
    )


class Stopped(Exception):
    """The search was asked to stop and everything finished is in the store."""


class Search:
    """One session of a study's search. `run` returns when everything planned has ended."""

    def __init__(
        self,
        folder: StudyFolder,
        store: Store,
        spec: Spec,
        space: Space,
        workshop: Workshop,
        listen: Listener,
        stop: threading.Event,
        rate: float | None = None,
        confirming: bool = True,
    ) -> None:
        self.confirming = confirming
        self.folder, self.store, self.spec, self.space = folder, store, spec, space
        self.checkpoints = Checkpoints(folder.checkpoints)
        self.workshop, self.listen, self.stop = workshop, listen, stop
        s = spec.search
        self.standing = Standing(store, s.objective, s.max_epochs)
        self.oracle = self._oracle(self.standing.of_trial)
        self.plan = self.oracle.plan()
        self.frozen = self._frozen()
        self.cost = CostModel(
            spec.data.image_size, len(workshop.train), len(workshop.validation), spec.backbone.batch_norm, rate
        )
        self.drawn = drawn(self._oracle(lambda trial: (0.0,)))
        self.outline = outline_of(self)

    def _oracle(self, rank: Rank) -> StudyOracle:
        """Hyperband as the store has it."""
        s, before = self.spec.search, planned(self.store)
        oracle = StudyOracle(
            self.space,
            objective=s.objective,
            max_epochs=s.max_epochs,
            factor=s.factor,
            hyperband_iterations=s.hyperband_iterations,
            seed=s.seed,
            rank=rank,
            planned=before,
            iterations=self.store.meta("planned_iterations") or max((b.iteration + 1 for b in before), default=0),
        )
        if (state := self.store.oracle_state()) is not None:
            oracle.restore(state)
        return oracle

    def run(self) -> None:
        """Trains all that has not ended. Raises Stopped on request, SearchError when a first rung has no survivor."""
        sweep(self.folder.checkpoints, self.store.checkpoint_files())
        s, total, done = self.spec.search, self.total, self._done()
        self.listen(Planned(self.plan, len(self.frozen), s.max_epochs, s.objective, done, total))
        if done == total:
            self.listen(Notice("Everything planned was trained before; nothing is left to compute."))
        self.recall()
        for lost in self._lost():
            self.one(lost)
        self.listen(Phase("baseline", f"{len(self.frozen)} frozen configurations and the reference"))
        for candidate in self._baseline():
            self.one(candidate)
        self.listen(Phase("search", f"Hyperband, {sum(b.sizes[0] for b in self.plan)} configurations"))
        while (asked := self._ask()) is not None:
            self.one(asked)
            survivors.check_rung(self, asked)
        survivors.check_any(self)
        if self.confirming:
            confirm.run(self)
        sweep(self.folder.checkpoints, self.store.checkpoint_files())

    def recall(self) -> None:
        """Tells the cost model what the epochs of earlier sessions took."""
        query = "SELECT id, hyperparameters FROM configurations"
        for row in self.store.rows(query):
            if "learning_rate" in (hyperparameters := json.loads(row["hyperparameters"])):  # else logistic regression
                self.cost.observe(self.place(hyperparameters), [e.seconds for e in self.standing.epochs(row["id"])])

    # ---- the plan ----

    @property
    def total(self) -> int:
        """Trials of baseline, reference, logistic regression and Hyperband."""
        return len(self.frozen) + 2 + sum(sum(b.sizes) for b in self.plan)

    def unfinished(self) -> int:
        """How many of them have not ended."""
        return self.total - self._done()

    def _done(self) -> int:
        query = (
            "SELECT COUNT(*) FROM trials JOIN configurations c ON c.id = configuration "
            "WHERE status <> 'RUNNING' AND kind NOT IN ('seed', 'fold')"
        )
        return int(self.store.rows(query)[0][0])

    def _frozen(self) -> list[dict[str, int | float]]:
        """The baseline's configurations: what an earlier session fixed, and as many more as the plan now asks for."""
        kept: list[dict[str, int | float]] = self.store.meta("baseline", [])
        wanted = max(LEAST_BASELINE, trials_at_full_budget(self.plan))
        if not kept:
            return frozen_configurations(self.space, wanted, self.spec.search.seed)
        if len(kept) >= wanted:
            return kept
        drawn = frozen_configurations(self.space, wanted, self.spec.search.seed)
        return kept + [c for c in drawn if c not in kept][: wanted - len(kept)]

    def record_plan(self) -> None:
        """Fixes what is going to be trained: a later session, also one with a wider space, keeps it."""
        self.store.set_meta(
            plan=[vars(b) | {"sizes": list(b.sizes), "epochs": list(b.epochs)} for b in self.plan],
            planned_iterations=self.spec.search.hyperband_iterations,
            baseline=self.frozen,
        )

    # ---- what to run next ----

    def _baseline(self) -> list[Candidate]:
        ended = {r[0] for r in self.store.rows("SELECT id FROM trials WHERE status <> 'RUNNING'")}
        return [c for c in candidates.frozen(self.frozen, self.spec.search.max_epochs) if c.row.id not in ended]

    def _ask(self) -> Candidate | None:
        asked = self.oracle.ask()
        if asked is None:
            return None
        values = dict(asked.hyperparameters.values)
        iteration, bracket, rung = self.oracle.bracket_of(asked.trial_id)
        parent = values.get("tuner/trial_id")
        row = TrialRow(
            asked.trial_id,
            self._configuration(asked.trial_id, parent),
            iteration,
            bracket,
            rung,
            int(values["tuner/initial_epoch"]),
            int(values["tuner/epochs"]),
            parent,
        )
        hyperparameters = {n: v for n, v in values.items() if not n.startswith("tuner/")}
        sizes = bracket_of(self.plan, row).sizes
        number = int(row.configuration[1:])
        return Candidate(row, "search", number, hyperparameters, sizes[rung + 1] if rung + 1 < len(sizes) else None)

    def _configuration(self, trial: str, parent: str | None) -> str:
        """The configuration a trial belongs to: its parent's, its own from an earlier attempt, or a new one."""
        for known in (parent, trial):
            found = self.store.rows("SELECT configuration FROM trials WHERE id = ?", known) if known else []
            if found:
                return str(found[0][0])
            if known == parent and parent:
                raise StoreError(
                    f"{self.store.path}: trial {trial} goes on from {parent}, which is not recorded; "
                    "the database is damaged."
                )
        number = self.store.rows("SELECT COUNT(*) FROM configurations WHERE kind = 'search'")[0][0]
        return f"c{number:03d}"

    # ---- one trial ----

    def one(self, candidate: Candidate) -> None:
        """Trains a candidate and tells oracle and store. Raises Stopped on request."""
        row, hp = candidate.row, candidate.hyperparameters
        cut = cuts.cut_for(int(hp["unfrozen_layers"]), self.spec.backbone.batch_norm)
        with self.store.transaction():
            self.store.add_configuration(row.configuration, candidate.kind, candidate.number, hp, cut, None)
            if candidate.confirms is not None:
                held_out.confirms(self.store, row.configuration, *vars(candidate.confirms).values())
            attempts = self.store.begin_trial(row, self._oracle_state(candidate))
        self.listen(
            TrialStarted(
                row.id,
                row.configuration,
                candidate.kind,
                hp,
                row.iteration,
                row.bracket,
                row.rung,
                row.first_epoch,
                row.last_epoch,
                cut,
            )
        )
        if attempts > ATTEMPTS:
            result = TrialResult("FAILED", None, f"the process died {ATTEMPTS} times in the same epoch", 0.0, None)
        else:
            task = self._task(candidate)
            workshop = candidate.workshop or self.workshop
            result = candidate.fit(task, workshop, lambda done: self._record(candidate, done), self.stop)
        if result.status == "STOPPED":
            self.store.excuse_attempt(row.id)
            raise Stopped
        self._tell(candidate, result)
        self.pause()

    def pause(self) -> None:
        """Raises Stopped when the search was asked to stop; everything finished is in the store."""
        if self.stop.is_set():
            raise Stopped

    def _task(self, candidate: Candidate) -> TrialTask:
        row, s = candidate.row, self.spec.search
        start_epoch, checkpoint = self._resume_point(row.configuration)
        best_bar, last_bar = self.standing.bars(row, candidate.kind, candidate.next_size)
        return TrialTask(
            trial=row.id,
            configuration=row.configuration,
            hyperparameters=candidate.hyperparameters,
            start=self.place(candidate.hyperparameters)[0],
            first_epoch=row.first_epoch,
            start_epoch=start_epoch,
            last_epoch=row.last_epoch,
            seed=s.seed,
            batch_size=s.batch_size,
            objective=s.objective,
            balanced=s.class_weight == "balanced",
            checkpoint=checkpoint,
            folder=str(self.folder.checkpoints),
            earlier=tuple(e for e in self.standing.epochs(row.configuration) if e.epoch <= start_epoch),
            keep_last=candidate.next_size is not None,
            last_bar=last_bar,
            best_bar=None if candidate.confirms or candidate.repairs else best_bar,
            fixed=candidate.fixed,
        )

    def _resume_point(self, configuration: str) -> tuple[int, str | None]:
        """Epochs done and the checkpoint that holds them; (0, None) when none is whole: the same numbers come again."""
        saved = self.store.checkpoint(configuration, "last")
        if saved is None:
            return 0, None
        if (path := self.checkpoints.whole(saved.file, saved.sha256)) is None:
            text = (
                f"Checkpoint {saved.file} is missing or damaged: {configuration} is trained again from its first epoch."
            )
            self.listen(Notice(text, warning=True))
            return 0, None
        return saved.epoch, str(path)

    def _record(self, candidate: Candidate, done: EpochDone) -> None:
        row = candidate.row
        chances = None if done.probabilities is None else done.probabilities.astype("<f4").tobytes()
        self.store.record_epoch(row.id, row.configuration, done.row, chances, done.saved)
        rate = done.row.images / done.row.seconds if done.row.seconds > 0 else 0.0
        if done.saved:
            self.checkpoints.wrote(done.saved)
            sweep(self.folder.checkpoints, self.store.checkpoint_files(), row.configuration)
        self.listen(EpochEnded(row.id, row.configuration, candidate.kind, done.row, done.is_best, rate))

    def _tell(self, candidate: Candidate, result: TrialResult) -> None:
        row, completed = candidate.row, result.status == "COMPLETED"
        score = getattr(result.best, self.spec.search.objective) if result.best and completed else None
        if candidate.kind == "search" and not candidate.repairs:
            self.oracle.tell(row.id, result.status, score, result.reason)
        with self.store.transaction():
            self.store.end_trial(
                row.id,
                result.status,
                score,
                result.best.epoch if result.best else None,
                result.reason,
                result.seconds,
                self._oracle_state(candidate),
                result.trained_parameters,
            )
            self.standing.forget_checkpoints(self.oracle.keeps)
        sweep(self.folder.checkpoints, self.store.checkpoint_files(), "")
        fresh = [e.seconds for e in self.standing.epochs(row.configuration) if e.epoch > row.first_epoch]
        if "learning_rate" in candidate.hyperparameters:
            self.cost.observe(self.place(candidate.hyperparameters), fresh)
        left = seconds_left(self.outline, self.cost, self.store, lambda: confirm.fixed(self))
        self.listen(
            TrialEnded(
                row.id, row.configuration, candidate.kind, result.status, score, result.best, result.reason, left
            )
        )

    def _lost(self) -> list[Candidate]:
        """Configurations that are kept and whose weights are missing or damaged: trained again, to the same numbers."""
        query = (
            "SELECT t.*, c.kind, c.number, c.hyperparameters, p.file, p.sha256 FROM checkpoints p "
            "JOIN configurations c ON c.id = p.configuration JOIN trials t ON t.configuration = c.id "
            "WHERE p.role = 'best' AND c.kind NOT IN ('seed', 'fold') AND t.last_epoch = "
            "(SELECT MAX(last_epoch) FROM trials WHERE configuration = c.id)"
        )
        found = []
        for r in self.store.rows(query):
            # A searched trial that the oracle still waits for is asked for again anyway.
            told = self.oracle.trials[r["id"]].status if r["kind"] == "search" else r["status"]
            if told != "COMPLETED" or self.checkpoints.whole(r["file"], r["sha256"]) is not None:
                continue
            self.listen(Notice(f"{r['file']} is missing or damaged: {r['configuration']} is trained again.", True))
            places = (r["iteration"], r["bracket"], r["rung"], r["first_epoch"], r["last_epoch"], r["parent"])
            row = TrialRow(r["id"], r["configuration"], *places)
            values, fit = json.loads(r["hyperparameters"]), candidates.fit_of(r["kind"])
            found.append(Candidate(row, r["kind"], r["number"], values, fit=fit, repairs=True))
        return found

    # ---- small things ----

    def _oracle_state(self, candidate: Candidate) -> str | None:
        return self.oracle.dump() if candidate.kind == "search" else None

    def place(self, hyperparameters: Mapping[str, Any]) -> Place:
        depth, batch_norm = int(hyperparameters["unfrozen_layers"]), self.spec.backbone.batch_norm
        start = self.workshop.features.start_for(cuts.cut_for(depth, batch_norm))
        return start, cuts.canonical(depth, batch_norm)
