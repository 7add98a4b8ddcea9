"""Who leads, who can still be promoted, and so which checkpoints are worth their disk. Read from the store alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tuner.search.events import PlannedBracket
from tuner.store import held_out
from tuner.store.ranking import WORST, Key, place
from tuner.store.store import EpochRow, Store, TrialRow
from tuner.training.trial import best_of, rank_key


class Standing:
    """Ranks of configurations by their best epoch, as the store has them at this moment."""

    def __init__(self, store: Store, objective: str, max_epochs: int) -> None:
        self.store, self.objective, self.max_epochs = store, objective, max_epochs

    def epochs(self, configuration: str) -> tuple[EpochRow, ...]:
        """The finished epochs of a configuration in order, those with a number that was not finite left out."""
        rows = self.store.rows(
            "SELECT epoch, loss, accuracy, val_loss, val_accuracy, seconds, images FROM epochs "
            "WHERE configuration = ? ORDER BY epoch",
            configuration,
        )
        return tuple(EpochRow(*r) for r in rows if None not in tuple(r))

    def key(self, configuration: str, up_to: int | None = None) -> Key:
        """The rank key of the best epoch, of the first `up_to` epochs only if given; smaller is better."""
        rows = (e for e in self.epochs(configuration) if up_to is None or e.epoch <= up_to)
        best = best_of(tuple(rows), self.objective)
        return rank_key(best, self.objective) if best else WORST

    def of_trial(self, trial: str) -> Key:
        """The rank key a configuration had when this trial ended: what decides its promotion."""
        row = self.store.rows("SELECT configuration, last_epoch FROM trials WHERE id = ?", trial)[0]
        return self.key(row["configuration"], row["last_epoch"])

    def leaders(self, kind: str, full: bool = False) -> list[tuple[Key, str]]:
        """Configurations of a kind that did not fail, best first by the study's rule; with `full`, only those that
        reached `max_epochs`.
        """
        rows = self.store.rows(
            "SELECT configuration, number, MAX(last_epoch) AS epochs, MAX(trials.status = 'FAILED') AS failed "
            "FROM trials JOIN configurations ON configurations.id = configuration "
            "WHERE kind = ? AND trials.status <> 'RUNNING' GROUP BY configuration HAVING NOT failed",
            kind,
        )
        ranked = []
        for r in rows:
            reached = r["epochs"] == self.max_epochs or kind == "logistic"  # it has no epochs to be trained for
            if reached or not full:
                key = self.key(r["configuration"])
                rank = place(key, failed=False, full=reached, epochs=r["epochs"], number=r["number"])
                ranked.append((rank, key, r["configuration"]))
        return [(key, configuration) for _, key, configuration in sorted(ranked)]

    def bars(self, row: TrialRow, kind: str, next_size: int | None) -> tuple[Key | None, Key | None]:
        """What a trial has to beat for its files to be wanted: (its best epoch's weights, its last epoch's state).

        `next_size` is how many configurations the next rung takes, None when there is none. None as a bar: wanted
        anyway.
        """
        leaders = self.leaders(kind, full=row.last_epoch == self.max_epochs)
        best_bar = leaders[0][0] if leaders and leaders[0][1] != row.configuration else None
        if next_size is None:
            return best_bar, None
        rivals = self.store.rows(
            "SELECT configuration FROM trials WHERE iteration = ? AND bracket = ? AND rung = ? "
            "AND status = 'COMPLETED'",
            row.iteration,
            row.bracket,
            row.rung,
        )
        keys = sorted(self.key(r[0], row.last_epoch) for r in rivals)
        return best_bar, keys[next_size - 1] if len(keys) >= next_size else None

    def forget_checkpoints(self, can_be_promoted: Callable[[str], bool]) -> None:
        """Drops the rows of checkpoints that no later rung, winner, baseline or export can need."""
        running = {r[0] for r in self.store.rows("SELECT configuration FROM trials WHERE status = 'RUNNING'")}
        ended = self.store.rows(
            "SELECT id, configuration FROM trials WHERE status = 'COMPLETED' AND bracket IS NOT NULL"
        )
        waiting = {r["configuration"] for r in ended if can_be_promoted(r["id"])}
        kinds = ("search", "baseline", "reference", "logistic")
        first = {leaders[0][1] for kind in kinds if (leaders := self.leaders(kind))}
        awaited = held_out.awaited(self.store)
        for row in self.store.rows("SELECT configuration, role FROM checkpoints"):
            needed = running | waiting | (first | awaited if row["role"] == "best" else set())
            if row["configuration"] not in needed:
                self.store.forget_checkpoints(row["configuration"], [row["role"]])


def sweep(folder: Path, named: Iterable[str], configuration: str = "") -> None:
    """Deletes checkpoint files that no row names: of one configuration, or, at the ends of a session, all."""
    keep = set(named)
    for path in folder.glob(f"{configuration or '?'}*"):
        if path.name not in keep:
            path.unlink(missing_ok=True)
    if not configuration:
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)


def bracket_of(plan: Sequence[PlannedBracket], row: TrialRow) -> PlannedBracket:
    """The planned bracket a search trial belongs to."""
    return next(b for b in plan if (b.iteration, b.bracket) == (row.iteration, row.bracket))
