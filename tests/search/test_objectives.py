"""Whatever a study ranks by and whichever epoch counts: promotions, files, predictions and confirmation agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from faults import costless
from search.studies import make, search, spec

from tuner.evidence.metrics import score
from tuner.evidence.results import Results
from tuner.search import facts
from tuner.spec.configuration import Configuration
from tuner.store import tables
from tuner.store.folder import StudyFolder
from tuner.store.ranking import SCORED, Rule, best_of, rank_of, value_of
from tuner.store.store import Store
from tuner.store.tables import Tables
from tuner.training.trial import predict

RULES = [
    Rule("val_loss", "last"),
    Rule("val_auc", "last"),
    Rule("val_balanced_accuracy", "last"),
    Rule("val_f1"),
    Rule("val_brier"),
]


@dataclass(frozen=True)
class Ran:
    rule: Rule
    folder: StudyFolder
    tables: Tables

    def epochs(self, configuration: str, up_to: int = 1000) -> list[tables.Epoch]:
        return [e for e in self.tables.epochs if e.configuration == configuration and e.epoch <= up_to]


@pytest.fixture(scope="module", params=RULES, ids=lambda rule: f"{rule.objective} {rule.checkpoint}")
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = StudyFolder(tmp_path_factory.mktemp("ran") / "study")
    options = {"search.objective": request.param.objective, "search.checkpoint": request.param.checkpoint}
    costless.run(folder.root, question=costless.QUESTION.override(options))
    yield Ran(request.param, folder, tables.read(folder.database))


def test_what_is_stored_is_of_the_epoch_that_counts(ran: Ran) -> None:
    labels = np.array([image.label for image in ran.tables.images if image.split == "val"])
    for name, stored in ran.tables.predictions.items():
        kind = ran.tables.configurations[name].kind
        if kind == "fold":
            continue
        counted = best_of(ran.epochs(name), ran.rule)
        assert counted is not None and stored.epoch == counted.epoch
        if fitted_to_all(name):
            assert counted.val_accuracy is counted.val_loss is counted.score is None
            continue
        chances = np.frombuffer(stored.probabilities, "<f4").reshape(len(labels), 2)
        assert counted.val_accuracy == np.mean(chances.argmax(axis=1) == labels)
        assert counted.score == score(ran.rule.objective, chances, labels)
    judged = [e for e in ran.tables.epochs if not fitted_to_all(e.configuration)]
    assert len(judged) < len(ran.tables.epochs)
    assert all((e.score is None) == (ran.rule.objective not in SCORED) for e in judged)


def fitted_to_all(name: str) -> bool:
    """A regression that the test images judge: what it says of the validation images is no validation."""
    return name.startswith(("log-s", "cuts-s"))


def test_a_trial_is_worth_its_epoch_that_counts_and_the_best_are_promoted(ran: Ran) -> None:
    at: dict[tuple[int, int], list[tables.Trial]] = {}
    for trial in ran.tables.trials.values():
        counted = best_of(ran.epochs(trial.configuration, trial.last_epoch), ran.rule)
        assert counted is not None and trial.status == "COMPLETED"
        assert (trial.best_epoch, trial.score) == (counted.epoch, value_of(counted, ran.rule.objective))
        if ran.rule.checkpoint == "last":
            assert trial.best_epoch == trial.last_epoch
        if trial.bracket is not None and trial.rung is not None:
            at.setdefault((trial.bracket, trial.rung), []).append(trial)
    for (bracket, rung), trials in at.items():
        ranks = {
            t.configuration: rank_of(best_of(ran.epochs(t.configuration, t.last_epoch), ran.rule), ran.rule)
            for t in trials
        }
        promoted = {t.configuration for t in at.get((bracket, rung + 1), [])}
        if promoted:
            best_left = min((rank for name, rank in ranks.items() if name not in promoted), default=(np.inf,))
            assert max(ranks[name] for name in promoted) <= best_left


def test_weights_that_are_kept_give_the_predictions_that_are_stored(ran: Ran) -> None:
    context = costless.context(ran.folder.root)
    with Store(ran.folder.database, readonly=True) as store:
        kept = store.checkpoints()
    assert kept
    for (name, _), saved in kept.items():
        stored = ran.tables.predictions[name]
        assert saved.epoch == stored.epoch
        with np.load(ran.folder.checkpoints / saved.file) as arrays:
            values = Configuration.from_dict(ran.tables.configurations[name].hyperparameters)
            found = predict(values, dict(arrays), context, context.validation)
        assert found.astype("<f4").tobytes() == stored.probabilities


def test_winner_and_baselines_of_search_and_report_are_confirmed(ran: Ran) -> None:
    results = Results.open(ran.folder.database)
    winner, baselines, findings = results.winner(), results.baselines(), results.findings()
    assert winner is not None and len(baselines) == 2 and findings.kind != "open"
    with Store(ran.folder.database, readonly=True) as store:
        fixed = store.confirmation()
        known = facts.read(store, ran.rule)
    assert fixed is not None and fixed.epochs == "chosen"
    for side, row in zip(fixed.sides, (winner, *baselines), strict=False):
        assert side.source == row["id"]
        counted = known.best(side.source)
        assert counted is not None and counted.epoch == row["best_epoch"]
        assert side.epochs == (1 if side.kind == "logistic" else results.study.spec.search.max_epochs)
    if ran.rule.scored:
        assert {ran.rule.scored} <= set(results.configurations()) & set(results.epochs())
        assert all(winner[ran.rule.scored] * (1 if ran.rule.smaller else -1) <= rank[0] for rank in ranks(results))
    assert findings.selection is not None
    by = Rule(ran.rule.scored or "val_accuracy", ran.rule.checkpoint)
    first = [t for t in ran.tables.trials.values() if t.rung == 0]
    most = max({t.bracket for t in first}, key=lambda bracket: sum(t.bracket == bracket for t in first))
    counted = [best_of(ran.epochs(t.configuration, t.last_epoch), by) for t in first if t.bracket == most]
    values = [value_of(e, by.objective) for e in counted if e is not None]
    assert findings.selection.expected_best[-1] == (len(values), (min if by.smaller else max)(values))


def ranks(results: Results) -> list[tuple[float, ...]]:
    rule, full = results.study.rule, results.ranking()
    full = full[full["full"]]
    return [(value * (1 if rule.smaller else -1),) for value in full[rule.objective]]


def test_a_real_search_by_auc_of_the_last_epoch(tmp_path: Path) -> None:
    folder = make(tmp_path / "study", classes=("cat", "dog", "owl"))
    question = spec(search__objective="val_auc", search__checkpoint="last", space__unfrozen_layers=0, confirm__seeds=1)
    search(folder, question)
    before = tables.read(folder.database)
    results = Results.open(folder.database)
    winner = results.winner()
    assert winner is not None and winner["best_epoch"] == winner["epochs"] == 3
    chances = results.predictions(winner["id"])
    assert chances is not None
    assert winner["val_auc"] == score("val_auc", chances, np.array(results.study.val_labels))
    assert winner["val_auc"] == results.ranking().query("full")["val_auc"].max()
    search(folder, question)
    assert tables.read(folder.database).epochs == before.epochs, "a second session has nothing to train"
