"""`search.patience`: a trial ends where Keras's EarlyStopping would, whoever trains it and however often killed."""

from __future__ import annotations

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
from rich.console import Console
from search.slots import Slots
from search.studies import facts as held

from tuner.backends import backend
from tuner.errors import SpecError
from tuner.evidence.results import Results
from tuner.report import planned
from tuner.search.costs import epochs_left
from tuner.search.estimating import Estimate
from tuner.search.executors import Ended, Epoch, Event
from tuner.search.facts import Facts
from tuner.search.plan import Trial
from tuner.search.planning import Plan
from tuner.search.work import Kind
from tuner.spec.configuration import Configuration
from tuner.spec.spec import Spec, load
from tuner.store import ids
from tuner.store.folder import StudyFolder
from tuner.store.ranking import Rule, best_of, out_of_patience
from tuner.store.store import EpochRow
from tuner.training import trial
from tuner.training.context import Context
from tuner.training.trial import TrialResult, TrialSpec

STEEP = costless.QUESTION.override({"space.learning_rate": {"min": 0.1, "max": 3.0, "sampling": "log"}})
PATIENT = STEEP.override({"search.patience": 1, "search.max_epochs": 9, "search.factor": 3})
"""Of its trials some end early, some of these are promoted, and the winner is one of them."""


def stopped_by_keras(values: list[float], patience: int, mode: str = "min") -> int:
    """How many epochs Keras trains whose metric takes these values."""
    backend.start()
    import keras

    model = keras.Sequential()
    model.stop_training = False
    stopping = keras.callbacks.EarlyStopping("value", patience=patience, mode=mode)
    stopping.set_model(model)
    stopping.on_train_begin()
    for epoch, value in enumerate(values):
        stopping.on_epoch_end(epoch, {"value": value})
        if model.stop_training:
            return epoch + 1
    return len(values)


@given(
    values=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=12),
    patience=st.integers(1, 5),
    objective=st.sampled_from(["val_loss", "val_auc", "val_brier"]),
)
def test_patience_is_counted_as_keras_counts_it(values: list[float], patience: int, objective: str) -> None:
    rule = Rule(objective, "best", patience)
    scored = objective != "val_loss"
    rows = [EpochRow(e, 0.5, 0.5, 0.5 if scored else v, 0.5, 0.1, 9, v) for e, v in enumerate(values, start=1)]
    ends = [e for e in range(1, len(rows) + 1) if out_of_patience(best_of(rows[:e], rule), e, rule)]
    assert min([*ends, len(rows)]) == stopped_by_keras(values, patience, "min" if rule.smaller else "max")


def trained(root: Path, patience: int, **how: Any) -> tuple[list[EpochRow], TrialResult]:
    """A trial of at most twelve epochs, its rows without their seconds."""
    question, rows = STEEP.override({"search.patience": patience}), list[EpochRow]()
    values = Configuration(learning_rate=0.5, head_init="random")
    training = trial.train(TrialSpec("t", "t", values, 12, **how), costless.context(root, question=question))
    while True:
        try:
            rows.append(next(training).row)
        except StopIteration as end:
            return [EpochRow(*[*vars(row).values()][:5], 0.0, row.images, row.score) for row in rows], end.value


@pytest.mark.parametrize("patience", [1, 2, 3, 12])
def test_a_trial_ends_where_keras_would_end_it_with_the_same_numbers(tmp_path: Path, patience: int) -> None:
    (tmp_path / "checkpoints").mkdir()
    whole, _ = trained(tmp_path, 0)
    rows, result = trained(tmp_path, patience)
    ends = stopped_by_keras([row.val_loss for row in whole], patience)
    assert rows == whole[:ends] and len(whole) == 12 and (ends < 12) == (patience < 12)
    assert result.status == "COMPLETED" and result.best is not None
    assert patience == 12 or result.best.epoch == ends - patience


@pytest.mark.parametrize("how", ["fixed", "tutorial"])
def test_a_fixed_number_of_epochs_and_the_tutorial_know_no_patience(tmp_path: Path, how: str) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert trained(tmp_path, 1, **{how: True})[0] == trained(tmp_path, 0, **{how: True})[0]


# ---- a whole study ----


class Killed(Exception):
    """The process died."""


class Mortal(Slots):
    """Dies before event number `kill`, and once before each end that comes early: `spared` have died of that."""

    def __init__(self, contexts: list[Context], draw: np.random.Generator, kill: int, spared: set[str] | None) -> None:
        super().__init__(contexts, draw)
        self.kill, self.spared = kill, spared
        self.reached: dict[str, int] = {}

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        self.kill -= 1
        if self.kill == 0:
            raise Killed
        running = {token: spec for token, (spec, *_) in self._running.items()}
        for event in super().events(timeout):
            spec = running[event.token]
            if isinstance(event, Epoch):
                self.reached[spec.id] = event.done.row.epoch
            early = isinstance(event, Ended) and 0 < self.reached.get(spec.id, 0) < spec.last_epoch
            if early and self.spared is not None and spec.id not in self.spared:
                self.spared.add(spec.id)
                raise Killed
            yield event


def search(
    root: Path, kills: list[int], workers: int = 1, seed: int = 0, spared: set[str] | None = None
) -> tuple[dict[str, Any], int, Counter[tuple[str, int]]]:
    """Searches, again after each kill, until it ends; all that is a result, how often it died, and what was trained."""
    died, epochs, draw, left = 0, Counter[tuple[str, int]](), np.random.default_rng(seed), [*kills]
    while True:
        made: list[Mortal] = []

        def several(context: Context, should_stop: Any, made: list[Mortal] = made) -> Mortal:
            contexts = [costless.context(root, question=PATIENT) for _ in range(workers)]
            made.append(Mortal(contexts, draw, left.pop() if left else -1, spared))
            return made[0]

        try:
            costless.run(root, question=PATIENT, executor=several)
            break
        except Killed:
            died += 1
        finally:
            epochs += made[0].trained
    files = sorted(path.name for path in (root / "checkpoints").iterdir())
    return held(StudyFolder(root)) | {"files": files}, died, epochs


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Look, don't touch: the study that nobody disturbed."""
    root = tmp_path_factory.mktemp("alone")
    costless.run(root, question=PATIENT)
    return root


def test_one_that_ended_early_is_promoted_and_trained_no_further(alone: Path) -> None:
    result = held(StudyFolder(alone))
    trials, trained = {row[0]: row for row in result["trials"]}, Counter(row[2] for row in result["epochs"])
    rested = [row for id, row in trials.items() if not trained[id]]
    assert rested and {row[8] for row in rested} == {"COMPLETED"}
    for row in rested:
        parent = trials[row[7]]
        assert row[9:11] == parent[9:11], "score and best epoch are those it had"
    results = Results.open(alone / "study.db")
    winner = results.winner()
    assert winner is not None and winner["full"] and winner["epochs"] == winner["best_epoch"] + 1 < 9
    assert results.study.state == "finished" and result["openings"][0][1] == winner["id"], "it is confirmed"
    ranking = results.ranking()
    searched = [row for row in result["trials"] if row[3] is not None]
    assert set(ranking[ranking["full"]]["id"]) == {row[1] for row in searched if row[6] == 9}
    folds = [[e for e in result["epochs"] if e[0] == ids.fold(winner["id"], 0, fold)] for fold in (0, 1)]
    assert all(0 < len(epochs) < 9 for epochs in folds), "as the trials"


@given(workers=st.integers(1, 4), seed=st.integers(0, 10_000), kills=st.lists(st.integers(1, 150), max_size=2))
@hypothesis_settings(max_examples=3, phases=[Phase.generate])
def test_killed_anywhere_with_any_number_of_workers_it_is_the_undisturbed_study(
    alone: Path, workers: int, seed: int, kills: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found, died, epochs = search(Path(folder), kills, workers, seed)
        files = sorted(path.name for path in (alone / "checkpoints").iterdir())
        assert found == held(StudyFolder(alone)) | {"files": files}
        assert sum(n - 1 for n in epochs.values()) <= workers * died, "an epoch a kill is trained again at most"


def test_killed_between_the_epoch_that_ends_a_trial_early_and_the_record_of_its_end(
    tmp_path: Path, alone: Path
) -> None:
    found, died, _ = search(tmp_path, [], spared=set())
    assert died >= 10 and {k: v for k, v in found.items() if k != "files"} == held(StudyFolder(alone))


def test_what_has_nothing_left_to_train_takes_no_time() -> None:
    facts, values = Facts(Rule(patience=1)), Configuration(learning_rate=0.1)
    for epoch, loss in ((1, 0.3), (2, 0.4)):
        facts.add_epoch("c000", EpochRow(epoch, loss, 0.5, loss, 0.5, 0.1, 9))
    promoted, further = (Trial("search", name, 0, values, 9, first_epoch=3, rung=1) for name in ("c000", "c001"))
    assert epochs_left([promoted], facts) == 0 and epochs_left([further], facts) == 6


def test_the_plan_says_that_it_counts_at_most_so_many_epochs() -> None:
    kinds = (Kind("search", configurations=3, trials=4, epochs=12, trials_done=0, epochs_done=0),)
    estimate = Estimate((("search", 60.0),), low=0.0, high=0.0, memory=10**9, cache=0, folder=10**6)
    for patience in (0, 2):
        plan = Plan({"train": 9}, {}, kinds, (), (), (), False, False, "none", patience, estimate)
        console = Console(width=100)
        with console.capture() as capture:
            console.print(planned.report(plan))
        assert ("Epochs and times are upper bounds" in capture.get()) == bool(patience)


# ---- what is asked ----


def test_patience_without_best_epochs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    expected = (
        r'search\.patience: found 3 with search\.checkpoint = "last", expected search\.checkpoint = "best": .* '
        r"Set that too, or search\.patience = 0"
    )
    with pytest.raises(SpecError, match=f"^option: {expected}"):
        Spec().override({"search.patience": 3})
    assert Spec().override({"search.patience": 3, "search.checkpoint": "best"}).search.patience == 3
    (tmp_path / "study.toml").write_text("[search]\npatience = 3\n")
    with pytest.raises(SpecError, match=f"study.toml: {expected}"):
        load(tmp_path / "study.toml")
