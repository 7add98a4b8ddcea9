"""What the store holds, as the schedule asks for it. The driver reads it once and keeps it up to date as it records."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field

from tuner.evidence.believed import set_right
from tuner.search.plan import Key
from tuner.store import held_out, tables
from tuner.store.ranking import Key as Rank
from tuner.store.ranking import Rule, best_of, out_of_patience, rank_of
from tuner.store.store import Confirmation, EpochRow, Saved, Store


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. `best`: its configuration's epoch that counts by then; `rank`: its, smaller is better."""

    status: str  # COMPLETED or FAILED
    last_epoch: int
    reason: str | None
    best: EpochRow | None
    rank: Rank


@dataclass
class Facts:
    """`lost`: configurations whose kept weights are missing or damaged, to be trained again. `out_of_time`:
    configuration -> the rung that the time budget left it out of.
    """

    rule: Rule
    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    ids: dict[Key, str] = field(default_factory=dict)  # of every trial that was started
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)  # kind -> configuration -> its number
    epochs: dict[str, list[EpochRow]] = field(default_factory=dict)
    checkpoints: dict[tuple[str, str], Saved] = field(default_factory=dict)
    confirmation: Confirmation | None = None
    predicted: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    out_of_time: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of all finished epochs."""
        return sum(row.seconds for rows in self.epochs.values() for row in rows)

    def best(self, configuration: str, up_to: int | None = None) -> EpochRow | None:
        """Of the finished epochs, of the first `up_to` only if given, the one that counts by the study's rule."""
        rows = self.epochs.get(configuration, ())
        return best_of([row for row in rows if up_to is None or row.epoch <= up_to], self.rule)

    def trained(self, configuration: str, up_to: int) -> int:
        """How many of the first `up_to` epochs are finished: fewer where a trial ended early."""
        return sum(row.epoch <= up_to for row in self.epochs.get(configuration, ()))

    def out_of_patience(self, configuration: str) -> bool:
        """Whether no epoch follows those that are finished: a promotion has nothing left to train."""
        rows = self.epochs.get(configuration)
        return rows is not None and out_of_patience(self.best(configuration), rows[-1].epoch, self.rule)

    def ended(self, configuration: str) -> Outcome | None:
        """How the last of its trials that ended did; None while none has."""
        return self.outcomes.get((configuration, len(self.rungs(configuration)) - 1))

    def rungs(self, configuration: str) -> list[Outcome]:
        """Its trials that ended, in order."""
        found: list[Outcome] = []
        while (outcome := self.outcomes.get((configuration, len(found)))) is not None:
            found.append(outcome)
        return found

    def add_epoch(self, configuration: str, row: EpochRow) -> None:
        """Takes an epoch for finished; one that was trained again takes its own place."""
        rows = self.epochs.setdefault(configuration, [])
        at = bisect.bisect_left(rows, row.epoch, key=lambda known: known.epoch)
        rows[at : at + (at < len(rows) and rows[at].epoch == row.epoch)] = [row]

    def conclude(self, key: Key, status: str, last_epoch: int, reason: str | None) -> Outcome:
        """Takes a trial for ended."""
        best = self.best(key[0], last_epoch)
        self.outcomes[key] = Outcome(status, last_epoch, reason, best, rank_of(best, self.rule))
        self.lost.discard(key[0])
        return self.outcomes[key]


def read(store: Store, rule: Rule) -> Facts:
    """Everything that earlier sessions recorded; a trial that was cut off has not ended, and an epoch with a number
    that was not finite tells nothing. Raises StoreError for rows that no search has written.
    """
    with tables.damage_named(store.path):
        found = Facts(rule, checkpoints=store.checkpoints())
        found.confirmation, found.predicted = store.confirmation(), held_out.predicted(store)
        _, found.out_of_time = store.out_of_time()
        configurations = tables.rows(store, tables.Configuration)
        for epoch in _epochs(store, rule, {row.id: row.kind for row in configurations}):
            metrics = (epoch.loss, epoch.accuracy, epoch.val_loss, epoch.val_accuracy)
            if None not in metrics:
                row = EpochRow(epoch.epoch, *metrics, epoch.seconds, epoch.images, epoch.score)  # type: ignore[arg-type]
                found.epochs.setdefault(epoch.configuration, []).append(row)
        for configuration in configurations:
            found.numbers.setdefault(configuration.kind, {})[configuration.id] = configuration.number
        for trial in tables.rows(store, tables.Trial):
            key = (trial.configuration, trial.rung or 0)
            found.ids[key] = trial.id
            if trial.status != "RUNNING":
                found.conclude(key, trial.status, trial.last_epoch, trial.reason)
    return found


def _epochs(store: Store, rule: Rule, kinds: Mapping[str, str]) -> list[tables.Epoch]:
    """As a report takes them: what the stored predictions do not bear out is set right by them. `kinds`: of each
    configuration.
    """
    epochs = tables.rows(store, tables.Epoch)
    predictions = {row.configuration: row for row in tables.rows(store, tables.Prediction)}
    labels = [image.label for image in tables.rows(store, tables.Image) if image.split == "val"]
    found = set_right(epochs, predictions, kinds, labels, len(store.meta("classes", ())), rule)
    return [found[key][0] if (key := (e.configuration, e.epoch)) in found else e for e in epochs]
