"""A study's results as pandas tables: configurations merged along their rungs, ranked, set against the baseline."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.errors import StoreError
from tuner.evidence import confirmed, formats, merging
from tuner.evidence.calibration import Calibration
from tuner.evidence.depths import by_depth
from tuner.evidence.findings import Findings
from tuner.evidence.importance import importance
from tuner.evidence.photographs import by_photograph
from tuner.evidence.rungs import rungs
from tuner.evidence.runs import Runs, runs
from tuner.evidence.snapshot import Snapshot, Study, read
from tuner.evidence.statistics import confusion
from tuner.evidence.times import Times, times
from tuner.spec.seeds import generator
from tuner.spec.spec import Range
from tuner.store.ranking import metric_key


class Results:
    """One moment of a study. Every table is a fresh copy: changing it changes nothing here.

    Metrics are natural-log losses and accuracies in [0, 1]; a number that is missing or was not finite is NaN or NA.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._values: dict[str, dict[str, Any]] = {
            r["id"]: json.loads(r["hyperparameters"]) for r in snapshot.configurations
        }
        self._kinds: dict[str, str] = {r["id"]: r["kind"] for r in snapshot.configurations}

    @classmethod
    def open(cls, database: Path, running: bool = False) -> Results:
        """Reads a snapshot of study.db, consistent while a search writes.

        `running`: some process holds the study's lock, which the database cannot know.
        Raises StoreError when there is no database, or it is another program's, newer or damaged.
        """
        snapshot = read(database, running)
        try:
            return cls(snapshot)
        except (ValueError, TypeError, KeyError) as error:  # bytes changed in what is still a database
            raise StoreError(
                f"{database}: cannot be used as a study's database ({error}). It was left as it is; "
                "`tlstudy search --fresh` moves it aside and starts again."
            ) from error

    @property
    def study(self) -> Study:
        return self._snapshot.study

    # ---- tables ----

    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order they were started."""
        return merging.table(
            [
                {**dict(r), "kind": self._kinds[r["configuration"]], "status": merging.status(r["status"], self.study)}
                for r in self._snapshot.trials
            ],
            merging.TRIAL_COLUMNS,
        )

    def epochs(self) -> pd.DataFrame:
        """One row an epoch of a configuration, with its kind and hyperparameters; epochs count from 1."""
        rows = [
            {**dict(r), "kind": self._kinds[r["configuration"]], **self._values[r["configuration"]]}
            for r in self._snapshot.epochs
        ]
        return merging.table(rows, merging.EPOCH_COLUMNS)

    def configurations(self) -> pd.DataFrame:
        """One row a configuration, merged along its rungs, with the metrics of its best epoch by the objective.

        `correct` of `validation` photographs, `low` and `high` their 95 % Wilson interval; `*_over_baseline` is the
        configuration's figure minus the baseline's; `full`: trained to max_epochs; `rung`: the last one begun.
        """
        return self._configurations.copy()

    def ranking(self, kind: str | None = "search") -> pd.DataFrame:
        """The configurations of a kind (None: all), best first.

        Those that reached max_epochs come first, then the objective decides, then validation loss, more epochs, the
        lower number. Failed ones come last, whatever they had reached.
        """
        table = self._configurations if kind is None else self._configurations[self._configurations["kind"] == kind]
        rows = table.to_dict(orient="records")
        objective = self.study.spec.search.objective
        order = sorted(range(len(rows)), key=lambda i: merging.rank(rows[i], objective))
        return table.iloc[order].reset_index(drop=True)

    def rungs(self) -> pd.DataFrame:
        """One row a rung of the plan, with how many configurations ended there and which went on."""
        return rungs(self.study, self.trials())

    def depths(self) -> pd.DataFrame:
        """One row a depth of the space: how many were `tried` and `finished`, and the best one there."""
        return by_depth(self.study, self._configurations)

    def photographs(self) -> pd.DataFrame:
        """One row a validation photograph: its class, and what the best configuration and the baseline said of it."""
        rows = {"best": self.winner(), "baseline": self.baseline()}
        said = {name: self.predictions(str(row["id"])) for name, row in rows.items() if row is not None}
        return by_photograph(self._snapshot, said)

    def validation_files(self) -> list[tuple[str, str]]:
        """(path in the data, SHA-256 of the file then) of each validation photograph, in the study's order."""
        return list(zip(self._snapshot.validation_paths, self._snapshot.validation_digests, strict=True))

    def times(self) -> Times:
        """Where the time of all sessions went."""
        return times(self.study, self._configurations, self.epochs())

    def importance(self) -> pd.DataFrame:
        """How much each searched hyperparameter mattered in the first rungs, see `importance.importance`; empty while
        too few configurations have ended there.
        """
        trials = self.trials()
        ended = trials["status"].isin(("completed", "failed")) & (trials["kind"] == "search")
        first = trials[ended & (trials["rung"] == 0)].assign(epochs=trials["last_epoch"])
        space = vars(self.study.spec.space)
        names = [name for name, value in space.items() if isinstance(value, (tuple, Range))]
        table = first.join(self._configurations.set_index("id")[names], on="configuration")
        search = self.study.spec.search
        return importance(table, names, generator(search.seed, "importance"), search.objective == "val_loss")

    def beats_baseline(self) -> bool | None:
        """Whether the winner is better than the baseline by the study's objective; None while there is no pair."""
        winner, baseline = self.winner(), self.baseline()
        if winner is None or baseline is None:
            return None
        objective = self.study.spec.search.objective
        keys = [metric_key(objective, row["val_loss"], row["val_accuracy"]) for row in (winner, baseline)]
        return keys[0] < keys[1]

    def winner(self) -> pd.Series | None:
        """The best searched configuration; None while none has a finished epoch."""
        return self._best("search")

    def baseline(self) -> pd.Series | None:
        """The better of the best frozen configuration and logistic regression, by the same rule; None while neither has
        a finished epoch.
        """
        found = self.baselines()
        return found[0] if found else None

    def baselines(self) -> list[pd.Series]:
        """The best frozen configuration and logistic regression on the pooled features, the better one first."""
        rows = [row for row in (self._best(kind) for kind in merging.BASELINES) if row is not None]
        return sorted(rows, key=lambda row: merging.rank(row, self.study.spec.search.objective))

    def calibration(self) -> Calibration | None:
        """Reliability of the winner's first fresh seed on the images of the verdict; None while it has none."""
        winner = self.winner()
        return None if winner is None else confirmed.calibrated(self._snapshot, str(winner["id"]))

    def frozen_head(self) -> pd.Series | None:
        """The best trained head on the frozen backbone: the baseline, unless logistic regression, which has no learning
        rate or head width, did better.
        """
        return self._best("baseline")

    def findings(self) -> Findings:
        """The verdict on the winner and the evidence under it; its kind is "open" while it is not confirmed."""
        rows = [row.to_dict() for row in self.baselines()]
        return confirmed.findings(self._snapshot, self.ranking(), rows)

    def reference(self) -> pd.Series | None:
        """The tutorial's recipe: frozen, no hidden head layer, Adam 1e-3."""
        return self._best("reference")

    def best_epochs_of_folds(self, *, baseline: bool = False) -> tuple[int, ...]:
        """The best epoch in each fold of the winner's (or baseline's) cross-validation; empty where none was made."""
        row = self.baseline() if baseline else self.winner()
        source = None if row is None else row["id"]
        folds = {r["configuration"] for r in self._snapshot.confirmations if r["source"] == source and r["fold"] >= 0}
        table = self._configurations
        return tuple(int(e) for e in table[table["id"].isin(folds) & table["best_epoch"].notna()]["best_epoch"])

    def predictions(self, configuration: str) -> NDArray[np.float32] | None:
        """Class probabilities of the best epoch, float32 of shape (validation photographs, classes).

        None when none are stored, or not for all photographs and classes of this study.
        """
        found = self._snapshot.predictions.get(configuration)
        shape = (self.study.validation, len(self.study.classes))
        if found is None or len(found[1]) != 4 * shape[0] * shape[1]:
            return None
        return np.frombuffer(found[1], dtype="<f4").reshape(shape).astype(np.float32)

    def confusion(self, configuration: str) -> NDArray[np.int64] | None:
        """Counts of the best epoch, rows the true class; None if no predictions are stored."""
        shares = self.predictions(configuration)
        if shares is None:
            return None
        return confusion(self.study.val_labels, shares.argmax(axis=1), len(self.study.classes))

    def runs(self) -> Runs:
        """The study as a tracker of experiments wants it: one run a configuration, its epochs with their times."""
        return runs(self._snapshot)

    # ---- files ----

    def to_json(self) -> str:
        """Everything here as one JSON object; missing numbers are null."""
        tables = {"configurations": self.ranking(None), "trials": self.trials(), "epochs": self.epochs()}
        tables |= {"depths": self.depths(), "photographs": self.photographs()}
        facts = {"study": formats.study_facts(self.study), "verdict": asdict(self.findings())}
        return formats.to_json(facts | tables)

    def to_csv(self, table: str = "configurations") -> str:
        """One table as CSV, made safe for spreadsheets: "configurations", "trials", "epochs" or "photographs"."""
        made = {
            "configurations": lambda: self.ranking(None),
            "trials": self.trials,
            "epochs": self.epochs,
            "photographs": self.photographs,
        }
        return formats.to_csv(made[table]())

    # ---- what they share ----

    @cached_property
    def _configurations(self) -> pd.DataFrame:
        return merging.configurations(self._snapshot)

    def _best(self, kind: str) -> pd.Series | None:
        table = self.ranking(kind)
        found = [i for i, row in enumerate(table.to_dict(orient="records")) if merging.usable(row)]
        return table.iloc[found[0]] if found else None
