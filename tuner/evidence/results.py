"""A study's results as pandas tables: configurations merged along their rungs, ranked, set against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence import configurations, confirmed, formats, summaries
from tuner.evidence.believed import believed
from tuner.evidence.calibration import Calibration
from tuner.evidence.findings import Findings, Rate
from tuner.evidence.importance import importance
from tuner.evidence.recommendation import Recommendation, option, recommendation, searched
from tuner.evidence.runs import Runs, runs
from tuner.evidence.statistics import confusion
from tuner.evidence.study import Study, study_of
from tuner.evidence.summaries import Costs, Times
from tuner.spec.seeds import generator
from tuner.spec.spec import Range, Spec
from tuner.store.tables import Tables, damage_named, read


class Results:
    """One moment of a study. Every table is a fresh copy: changing it changes nothing here.

    Metrics are natural-log losses and accuracies in [0, 1]; a number that is missing or was not finite is NaN or NA.
    """

    def __init__(self, tables: Tables, costs: Callable[[Spec], Costs] | None = None) -> None:
        study = study_of(tables)
        self._tables, doubts = believed(tables, study)
        self.study: Study = replace(study, warnings=(*doubts, *study.warnings))
        self._rankings: dict[str | None, pd.DataFrame] = {}
        self._costs = None if costs is None else costs(self.study.spec)

    @classmethod
    def open(cls, database: Path, running: bool = False, costs: Callable[[Spec], Costs] | None = None) -> Results:
        """Reads study.db as of one moment, consistent while a search writes.

        `running`: some process holds the study's lock, which the database cannot know. `costs`: what the study's
        backbone costs; without them no multiply-adds are known, and depths that train the same variables count apart.
        Raises StoreError when there is no database, or it is another program's, newer or damaged.
        """
        tables = read(database, running)
        with damage_named(database):
            return cls(tables, costs)

    # ---- tables ----

    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order they were started."""
        return self._trials.copy()

    def epochs(self) -> pd.DataFrame:
        """One row an epoch of a configuration, with its kind and hyperparameters; epochs count from 1."""
        return self._epochs.copy()

    def configurations(self) -> pd.DataFrame:
        """One row a configuration, merged along its rungs, with the metrics of its epoch that counts.

        `correct` of `validation` images, `low` and `high` their 95 % Wilson interval; `*_over_baseline` is the
        configuration's figure minus the baseline's; `full`: trained to max_epochs, or ended early on the way
        there; `rung`: the last one begun.
        """
        return self._configurations.copy()

    def ranking(self, kind: str | None = "search") -> pd.DataFrame:
        """The configurations of a kind (None: all), best first.

        Those that reached max_epochs come first, then the objective decides, then validation loss, more epochs, the
        lower number. Failed ones come last, whatever they had reached.
        """
        return self._ranking(kind).copy()

    def rungs(self) -> pd.DataFrame:
        """One row a rung of the plan, with how many configurations ended there and which went on."""
        return summaries.rungs(self.study, self._trials)

    def depths(self) -> pd.DataFrame:
        """One row a depth of the space: how many were `tried` and `finished`, and the best one there."""
        return summaries.depths(self.study, self._configurations, self._costs)

    def images(self) -> pd.DataFrame:
        """One row a validation image: its class, and what the best configuration and the baseline said of it."""
        rows = {"best": self.winner(), "baseline": self.baseline()}
        said = {name: self.predictions(str(row["id"])) for name, row in rows.items() if row is not None}
        return summaries.images(self._tables, self.study, said)

    def validation_files(self) -> list[tuple[str, str]]:
        """(path in the data, SHA-256 of the file then) of each validation image, in the study's order."""
        return [(image.path, image.sha256) for image in self._tables.images if image.split == "val"]

    def training_files(self) -> list[tuple[str, int, str]]:
        """(path in the data, class, SHA-256 of the file then) of each training image, in the study's order."""
        return [(image.path, image.label, image.sha256) for image in self._tables.images if image.split == "train"]

    @property
    def database(self) -> Path:
        """The study.db that was read."""
        return self._tables.path

    def times(self) -> Times:
        """Where the time of all sessions went."""
        return summaries.times(self._tables, self.study, self._costs)

    def importance(self) -> pd.DataFrame:
        """How much each searched hyperparameter mattered in the first rungs and at the full budget, see
        `importance.importance`; without rows while too few configurations have ended there.
        """
        trials = self._trials
        ended = trials["status"].isin(("completed", "failed")) & (trials["kind"] == "search")
        rungs = trials[ended & trials["rung"].notna()].assign(epochs=trials["last_epoch"])
        space = vars(self.study.spec.space)
        names = [name for name, value in space.items() if isinstance(value, (tuple, Range))]
        table = rungs.join(self._configurations.set_index("id")[names], on="configuration")
        draw = generator(self.study.spec.search.seed, "importance")
        return importance(table, names, self.study.spec.search.max_epochs, draw, self.study.rule.smaller)

    def beats_baseline(self) -> bool | None:
        """Whether the winner is better than the baseline by the study's objective; None while there is no pair."""
        winner, baseline = self.winner(), self.baseline()
        if winner is None or baseline is None:
            return None
        rule = self.study.rule
        return configurations.key(winner, rule) < configurations.key(baseline, rule)

    def winner(self) -> pd.Series | None:
        """The best searched configuration; None while none has a finished epoch."""
        return self._best("search")

    def baseline(self) -> pd.Series | None:
        """The better of the best frozen head and the best logistic regression, by the same rule; None while neither has
        a finished epoch.
        """
        found = self.baselines()
        return found[0] if found else None

    def baselines(self) -> list[pd.Series]:
        """The best frozen head and the best logistic regression (on the pooled features or on several cuts), the better
        one first.
        """
        rows = [row for row in (self._best(kind) for kind in configurations.BASELINES) if row is not None]
        return sorted(rows, key=lambda row: configurations.rank(row, self.study.rule))

    def calibration(self) -> Calibration | None:
        """Reliability of the winner's first fresh seed on the images of the verdict; None while it has none."""
        winner = self.winner()
        return None if winner is None else confirmed.calibrated(self._tables, self.study, str(winner["id"]))

    def frozen_head(self) -> pd.Series | None:
        """The best trained head on the frozen backbone: the baseline, unless logistic regression, which has no learning
        rate or head width, did better.
        """
        return self._best("baseline")

    def findings(self) -> Findings:
        """The verdict on the winner and the evidence under it; its kind is "open" while it is not confirmed."""
        return self._findings

    def recommendation(self, findings: Findings | None = None) -> Recommendation | None:
        """Which of winner and baseline to use, by these findings or the study's own; None while there is neither."""
        found = findings or self.findings()
        rows = [self.winner(), self._used_baseline(found)]
        said = [None if row is None else self.predictions(str(row["id"])) for row in rows]
        truth = np.array(self.study.val_labels)
        right = [chances.argmax(axis=1) == truth for chances in said if chances is not None]
        return recommendation(
            found,
            *(option(row, self.study, self._costs) for row in rows),
            seen=searched(right[0], right[1], self.study.groups_of.get("val"))
            if len(right) == 2 and len(truth)
            else None,
            ahead=self.beats_baseline(),
            objective=f"validation {self.study.rule.objective.removeprefix('val_').replace('_', ' ')}",
        )

    def model(self, *, baseline: bool = False) -> pd.Series | None:
        """The row of the configuration that is exported as the winner or as the baseline: of the two baselines the one
        that is more accurate on the test images, once those were opened; None while there is none.
        """
        return self._used_baseline(self.findings()) if baseline else self.winner()

    def _used_baseline(self, findings: Findings) -> pd.Series | None:
        first, second, other = findings.compared, findings.compared_other, findings.other_baseline
        if findings.ground != "test" or first is None or second is None or second.difference >= first.difference:
            return self.baseline()
        rows = self._configurations[self._configurations["id"] == (other.configuration if other else "")]
        return rows.iloc[0] if len(rows) else self.baseline()

    def reference(self) -> pd.Series | None:
        """The tutorial's recipe: frozen, no hidden head layer, Adam 1e-3."""
        return self._best("reference")

    def best_epochs_of_folds(self, *, baseline: bool = False) -> tuple[int, ...]:
        """The best epoch in each fold of the winner's (or baseline's) cross-validation; empty where none was made."""
        row = self.model(baseline=baseline)
        source = None if row is None else row["id"]
        folds = {id for id, row in self._tables.confirmations.items() if row.source == source and row.fold >= 0}
        table = self._configurations
        return tuple(int(e) for e in table[table["id"].isin(folds) & table["best_epoch"].notna()]["best_epoch"])

    def predictions(self, configuration: str) -> NDArray[np.float32] | None:
        """Class probabilities of the best epoch, float32 of shape (validation images, classes).

        None when none are stored, or not for all images and classes of this study.
        """
        found = confirmed.shares(self._tables, self.study, configuration)
        return None if found is None else found.astype(np.float32)

    def exported(self, *, baseline: bool = False) -> str | None:
        """The id of the model that is exported for the winner (or the baseline): see `confirmed.exported`; None while
        there is none.
        """
        row = self.model(baseline=baseline)
        return None if row is None else confirmed.exported(self._tables, self.study, str(row["id"]))

    def tested(self, configuration: str) -> Rate | None:
        """How many test images a model has right; None where it was not asked, or there are none."""
        return confirmed.tested(self._tables, self.study, configuration)

    def hyperparameters(self, configuration: str) -> Mapping[str, Any]:
        """Those of one configuration. Raises KeyError when there is no such configuration."""
        return self._tables.configurations[configuration].hyperparameters

    def confusion(self, configuration: str) -> NDArray[np.int64] | None:
        """Counts of the best epoch, rows the true class; None if no predictions are stored."""
        shares = self.predictions(configuration)
        if shares is None:
            return None
        return confusion(self.study.val_labels, shares.argmax(axis=1), len(self.study.classes))

    def runs(self) -> Runs:
        """The study as a tracker of experiments wants it: one run a configuration, its epochs with their times."""
        return runs(self._tables, self.study)

    # ---- files ----

    def to_json(self) -> str:
        """Everything here as one JSON object; missing numbers are null."""
        tables = {"configurations": self.ranking(None), "trials": self.trials(), "epochs": self.epochs()}
        tables |= {"depths": self.depths(), "importance": self.importance(), "photographs": self.images()}
        use = self.recommendation()
        facts = {"study": formats.study_facts(self.study), "recommendation": None if use is None else asdict(use)}
        facts["verdict"] = asdict(self.findings())
        return formats.to_json(facts | tables)

    def to_csv(self, table: str = "configurations") -> str:
        """One table as CSV, made safe for spreadsheets: "configurations", "trials", "epochs" or "photographs"."""
        made = {
            "configurations": lambda: self.ranking(None),
            "trials": self.trials,
            "epochs": self.epochs,
            "photographs": self.images,
        }
        return formats.to_csv(made[table]())

    # ---- what they share, computed once ----

    @cached_property
    def _trials(self) -> pd.DataFrame:
        rows = [
            {**vars(trial), "kind": self._kind(trial.configuration), "status": self._status(trial.status)}
            for trial in self._tables.trials.values()
        ]
        return configurations.table(rows, configurations.TRIAL_COLUMNS)

    @cached_property
    def _epochs(self) -> pd.DataFrame:
        rule, rows = self.study.rule, []
        for epoch in self._tables.epochs:
            row = vars(epoch) | configurations.figures(epoch, rule) | {"kind": self._kind(epoch.configuration)}
            del row["score"], row["losses"]
            rows.append(row | dict(self.hyperparameters(epoch.configuration)))
        return configurations.table(rows, configurations.with_objective(configurations.EPOCH_COLUMNS, rule))

    @cached_property
    def _configurations(self) -> pd.DataFrame:
        return configurations.configurations(self._tables, self.study)

    @cached_property
    def _findings(self) -> Findings:
        baselines = [row.to_dict() for row in self.baselines()]
        kinds = (self._ranking(kind).to_dict(orient="records") for kind in configurations.BASELINES)
        frozen = [row for rows in kinds for row in rows if configurations.usable(row)]
        frozen = [row for row in frozen if row["full"]] or frozen
        frozen.sort(key=lambda row: configurations.rank(row, self.study.rule))
        return confirmed.findings(self._tables, self.study, self._ranking("search"), baselines, frozen)

    def _ranking(self, kind: str | None) -> pd.DataFrame:
        if kind not in self._rankings:
            table = self._configurations
            chosen = table if kind is None else table[table["kind"] == kind]
            self._rankings[kind] = configurations.ranked(chosen, self.study.rule)
        return self._rankings[kind]

    def _best(self, kind: str) -> pd.Series | None:
        table = self._ranking(kind)
        usable = table[(table["status"] != "failed") & table["val_loss"].notna()]
        return usable.iloc[0] if len(usable) else None

    def _kind(self, configuration: str) -> str:
        return self._tables.configurations[configuration].kind

    def _status(self, stored: str) -> str:
        return configurations.status(stored, self.study)
