"""The oracle beside the stock one it mends, and the plan beside what is really run. Nothing is trained: scores are
drawn by name.

A test whose name begins with `test_stock_` states a fault of KerasTuner 1.4.8. When one fails, KerasTuner has mended
it: look whether `tuner/search/oracle.py` can lose some lines.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tuner.search import space as spaces
from tuner.search.draws import StudyOracle, epochs_in, stock_brackets, trials_at_full_budget
from tuner.spec.seeds import generator
from tuner.spec.spec import Spec

ENDLESS: dict[str, Any] = {"unfrozen_layers": [0, 10, 20], "learning_rate": {"min": 1e-5, "max": 1e-2}}
PAIRS = [(9, 3), (27, 3), (1, 3), (2, 2), (10, 4), (3, 3), (8, 2), (81, 3)]


@dataclass
class Play:
    """A whole search without training: scores are numbers drawn by (seed, configuration, epochs)."""

    max_epochs: int = 9
    factor: int = 3
    iterations: int = 1
    seed: int = 0
    values: dict[str, Any] = field(default_factory=lambda: dict(ENDLESS))
    fails: Callable[[int], bool] = lambda number: False  # by the number of the trial
    score: Callable[[str, dict[str, Any]], tuple[float, ...]] | None = None

    def __post_init__(self) -> None:
        self.scores: dict[str, tuple[float, ...]] = {}
        self.told: list[tuple[str, str]] = []
        self.oracle = self.make()

    def make(self) -> StudyOracle:
        return StudyOracle(
            spaces.build(Spec.from_dict({"space": self.values})),
            objective="val_loss",
            max_epochs=self.max_epochs,
            factor=self.factor,
            hyperband_iterations=self.iterations,
            seed=self.seed,
            rank=lambda trial: self.scores[trial],
        )

    def end(self, trial: Any) -> None:
        number, values = int(trial.trial_id), trial.hyperparameters.values
        if self.fails(number):
            self.oracle.tell(trial.trial_id, "FAILED", None, "made to fail")
            self.told.append((trial.trial_id, "FAILED"))
            return
        if self.score is not None:
            self.scores[trial.trial_id] = self.score(trial.trial_id, values)
        else:
            name = json.dumps({k: v for k, v in values.items() if not k.startswith("tuner/")}, sort_keys=True)
            self.scores[trial.trial_id] = (float(generator(name, values["tuner/epochs"]).random()),)
        self.oracle.tell(trial.trial_id, "COMPLETED", self.scores[trial.trial_id][0])
        self.told.append((trial.trial_id, "COMPLETED"))

    def steps(self) -> Iterator[Any]:
        """Yields each trial between asking and telling."""
        while (trial := self.oracle.ask()) is not None:
            yield trial
            self.end(trial)

    def run(self) -> list[dict[str, Any]]:
        return [dict(trial.hyperparameters.values) | {"id": trial.trial_id} for trial in self.steps()]


def rungs(trials: list[dict[str, Any]]) -> dict[tuple[int, int, int], list[dict[str, Any]]]:
    found: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for t in trials:
        found.setdefault((t["tuner/iteration"], t["tuner/bracket"], t["tuner/round"]), []).append(t)
    return found


def planned(oracle: StudyOracle) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """(size, first epoch, last epoch) by (iteration, bracket, rung)."""
    return {
        (b.iteration, b.bracket, r): (size, b.epochs[r - 1] if r else 0, b.epochs[r])
        for b in oracle.plan()
        for r, size in enumerate(b.sizes)
    }


# ---- the plan ----


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(("max_epochs", "factor"), PAIRS)
def test_what_is_planned_is_what_is_run(max_epochs: int, factor: int, iterations: int) -> None:
    play = Play(max_epochs, factor, iterations)
    plan = planned(play.oracle)
    trials = play.run()
    found = {
        place: (len(ts), {t["tuner/initial_epoch"] for t in ts}, {t["tuner/epochs"] for t in ts})
        for place, ts in rungs(trials).items()
    }
    assert found == {place: (size, {first}, {last}) for place, (size, first, last) in plan.items()}
    assert list(found) == list(plan), "in the order of the plan"
    assert all(b.epochs[-1] == max_epochs for b in play.oracle.plan()), "every bracket ends with the whole budget"
    assert trials_at_full_budget(play.oracle.plan()) == sum(t["tuner/epochs"] == max_epochs for t in trials)
    trained = sum(t["tuner/epochs"] - t["tuner/initial_epoch"] for t in trials)
    assert epochs_in(play.oracle.plan()) == trained
    assert len({b.bracket for b in play.oracle.plan()}) == stock_brackets(max_epochs, factor)


def test_the_plan_is_stock_hyperbands() -> None:
    for max_epochs, factor in PAIRS:
        play = Play(max_epochs, factor)
        stock = stock_oracle(max_epochs=max_epochs, factor=factor)
        wanted = {
            (0, b, r): (stock._get_size(b, r), stock._get_epochs(b, r - 1) if r else 0, stock._get_epochs(b, r))
            for b in reversed(range(stock._get_num_brackets()))
            for r in range(stock._get_num_rounds(b))
        }
        assert planned(play.oracle) == wanted
        assert play.oracle.shrunk() is None


@given(data=st.data(), pair=st.sampled_from([(9, 3), (3, 3), (8, 2), (10, 4)]), iterations=st.integers(1, 2))
@hypothesis_settings(max_examples=30)
def test_a_finite_space_is_tried_once_and_ends_with_whole_budgets(
    data: st.DataObject, pair: tuple[int, int], iterations: int
) -> None:
    depths = data.draw(st.lists(st.sampled_from([0, 10, 20, 32, 42, 52, 62]), min_size=1, max_size=6, unique=True))
    widths = data.draw(st.lists(st.sampled_from([0, 8, 16, 32]), min_size=1, max_size=4, unique=True))
    values = {"unfrozen_layers": depths, "head_width": widths, "learning_rate": 1e-3}
    play = Play(*pair, iterations, values=values)
    plan = planned(play.oracle)
    trials = play.run()
    assert {place: len(ts) for place, ts in rungs(trials).items()} == {place: p[0] for place, p in plan.items()}
    fresh = [(t["unfrozen_layers"], t["head_width"]) for t in trials if t["tuner/round"] == 0]
    assert len(set(fresh)) == len(fresh), "no configuration is drawn twice"
    whole = Play(*pair, iterations).oracle.plan()
    assert len(fresh) == min(len(depths) * len(widths), sum(b.sizes[0] for b in whole))
    assert any(t["tuner/epochs"] == pair[0] for t in trials)
    sentence = play.oracle.shrunk()
    if len(fresh) < sum(b.sizes[0] for b in whole):
        assert sentence is not None and f"The space has {len(depths) * len(widths)} configurations" in sentence
    else:
        assert sentence is None


# ---- promotion ----


@pytest.mark.parametrize(("max_epochs", "factor"), [(9, 3), (27, 3), (10, 4), (8, 2)])
def test_the_best_of_a_rung_are_promoted_best_first(max_epochs: int, factor: int) -> None:
    play = Play(max_epochs, factor)
    by_place = rungs(play.run())
    for (iteration, bracket, rung), here in by_place.items():
        if rung:
            below = by_place[iteration, bracket, rung - 1]
            order = sorted(below, key=lambda t: (play.scores[t["id"]], t["id"]))
            assert [t["tuner/trial_id"] for t in here] == [t["id"] for t in order[: len(here)]]
            for t in here:
                parent = next(b for b in below if b["id"] == t["tuner/trial_id"])
                assert all(t[n] == parent[n] for n in spaces.NAMES), "a promoted trial keeps its configuration"


def test_ties_go_to_the_lower_number_and_second_figures_break_them() -> None:
    equal = Play(score=lambda trial, values: (0.5,))
    for (_, _, rung), here in rungs(equal.run()).items():
        if rung == 1:
            numbers = [int(t["tuner/trial_id"]) for t in here]
            assert numbers == sorted(numbers)
    # val_accuracy ties throughout, the loss decides: the later, the better.
    loss = Play(score=lambda trial, values: (-0.9, -float(trial)))
    by_place = rungs(loss.run())
    first, second = by_place[0, 2, 0], by_place[0, 2, 1]
    assert [t["tuner/trial_id"] for t in second] == [t["id"] for t in reversed(first)][: len(second)]


def test_configurations_do_not_depend_on_scores() -> None:
    one = Play(score=lambda trial, values: (float(trial),))
    other = Play(score=lambda trial, values: (-float(trial),))
    fresh = [[{n: t[n] for n in spaces.NAMES} for t in play.run() if t["tuner/round"] == 0] for play in (one, other)]
    assert fresh[0] == fresh[1]


@given(failing=st.sets(st.integers(0, 22), max_size=20), pair=st.sampled_from([(9, 3), (8, 2)]))
@hypothesis_settings(max_examples=40)
def test_failed_trials_rank_last_and_rungs_fill_with_who_is_left(failing: set[int], pair: tuple[int, int]) -> None:
    play = Play(*pair, fails=lambda number: number in failing)
    plan = planned(play.oracle)
    by_place = rungs(play.run())
    bad = {f"{n:04d}" for n in failing}
    for (iteration, bracket, rung), (size, _, _) in plan.items():
        here = by_place.get((iteration, bracket, rung), [])
        if rung == 0:
            assert len(here) == size
            continue
        below = by_place.get((iteration, bracket, rung - 1), [])
        survivors = [t["id"] for t in below if t["id"] not in bad]
        assert len(here) == min(size, len(survivors)), "a rung takes as many as there are"
        assert {t["tuner/trial_id"] for t in here} <= set(survivors)


# ---- what may be deleted ----


@given(
    pair=st.sampled_from([(9, 3), (8, 2), (27, 3)]),
    failing=st.sets(st.integers(0, 40), max_size=12),
    salt=st.integers(0, 1000),
    workers=st.integers(1, 4),
)
@hypothesis_settings(max_examples=40)
def test_a_checkpoint_that_keeps_lets_go_is_never_needed_again(
    pair: tuple[int, int], failing: set[int], salt: int, workers: int
) -> None:
    """One worker or several; scores with many ties."""
    play = Play(
        *pair,
        fails=lambda number: number in failing,
        score=lambda trial, values: (float(generator(salt, trial).integers(4)),),
    )
    kept: set[str] = set()
    running: list[Any] = []
    turn = generator(salt, "turns")
    while True:
        asked = play.oracle.ask(str(len(play.told) + len(running))) if len(running) < workers else None
        if asked is not None:
            if (parent := asked.hyperparameters.values.get("tuner/trial_id")) is not None:
                assert parent in kept, "promoted from a checkpoint that was deleted"
            running.append(asked)
            continue
        if not running:
            break
        ended = running.pop(int(turn.integers(len(running))))
        play.end(ended)
        kept |= {ended.trial_id} if play.told[-1][1] == "COMPLETED" else set()
        kept = {t for t in kept if play.oracle.keeps(t)}
    assert not kept, "and when all is done nothing is kept"


def test_little_is_kept() -> None:
    """Never more than the next rung takes, and one rung's worth."""
    play = Play(27, 3)
    kept: set[str] = set()
    for trial in play.steps():
        kept = {t for t in kept if play.oracle.keeps(t)}
        iteration, bracket, rung = play.oracle.bracket_of(trial.trial_id)
        kept.add(trial.trial_id)
        plan = planned(play.oracle)
        following = plan.get((iteration, bracket, rung + 1), (0, 0, 0))[0]
        assert len(kept) <= max(following + 1, plan[iteration, bracket, rung][0] + 1)


# ---- the state ----


@given(
    pair=st.sampled_from([(9, 3), (8, 2), (3, 3)]),
    cuts=st.sets(st.integers(0, 60), max_size=8),
    failing=st.sets(st.integers(0, 30), max_size=6),
    finite=st.booleans(),
    before_telling=st.booleans(),
)
@hypothesis_settings(max_examples=40)
def test_restored_at_any_event_the_sequence_is_the_same(
    pair: tuple[int, int], cuts: set[int], failing: set[int], finite: bool, before_telling: bool
) -> None:
    values = {"unfrozen_layers": [0, 10, 20], "learning_rate": 1e-3, "head_width": [0, 8, 16]} if finite else ENDLESS

    def play() -> Play:
        return Play(*pair, values=dict(values), fails=lambda number: number in failing)

    whole, broken = play(), play()
    wanted = whole.run()
    found: list[dict[str, Any]] = []
    event = 0
    while (trial := broken.oracle.ask()) is not None:
        if event in cuts and before_telling:
            # Killed while the trial ran: the state was stored with the trial's beginning.
            state = broken.oracle.dump()
            broken.oracle = broken.make()
            broken.oracle.restore(state)
            trial = broken.oracle.ask()
        found.append(dict(trial.hyperparameters.values) | {"id": trial.trial_id})
        broken.end(trial)
        if event in cuts and not before_telling:
            state = broken.oracle.dump()
            broken.oracle = broken.make()
            broken.oracle.restore(state)
            assert broken.oracle.dump() == state
        event += 1
    assert found == wanted
    assert broken.told == whole.told
    assert broken.oracle.dump() == whole.oracle.dump()


def test_the_state_is_plain_json_of_a_bounded_size() -> None:
    play = Play(27, 3)
    trials = play.run()
    state = json.loads(play.oracle.dump())
    assert set(state["trials"]) == {t["id"] for t in trials}
    assert len(play.oracle.dump()) < 1000 * len(trials)


def test_two_workers_draw_the_configurations_that_one_does() -> None:
    alone = [t for t in Play().run() if t["tuner/round"] == 0]
    play, found = Play(), []
    running: list[Any] = []
    while True:
        while len(running) < 2 and (trial := play.oracle.ask(str(len(found)))) is not None:
            running.append(trial)
            found.append(dict(trial.hyperparameters.values))
        if not running:
            break
        play.end(running.pop())
    fresh = [t for t in found if t["tuner/round"] == 0]
    assert [{n: t[n] for n in spaces.NAMES} for t in fresh] == [{n: t[n] for n in spaces.NAMES} for t in alone]


# ---- the stock oracle's faults, and ours without them ----


def stock_oracle(folder: Path | None = None, finite: int = 0, **options: Any) -> Any:
    """KerasTuner's own, over a range or over `finite` choices."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("x", list(range(finite))) if finite else hp.Float("x", 0.0, 1.0)
    oracle = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        hyperparameters=hp,
        **({"max_epochs": 9, "factor": 3, "seed": 1} | options),
    )
    oracle.verbose = 0
    if folder is None:
        oracle.save, oracle._save_trial = lambda: None, lambda trial: None  # so that nothing is written
    else:
        oracle._set_project_dir(str(folder), "project")
    return oracle


def finish(oracle: Any, trial: Any, score: float | None) -> None:
    """Ends a stock trial; None: failed."""
    if score is None:
        trial.status, trial.message = "FAILED", "made to fail"
    else:
        oracle.update_trial(trial.trial_id, {"val_loss": score})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def stock_run(oracle: Any, score: Callable[[int], float | None]) -> list[dict[str, Any]]:
    found = []
    while (trial := oracle.create_trial("0")).status == "RUNNING":
        found.append(dict(trial.hyperparameters.values))
        finish(oracle, trial, score(len(found) - 1))
    return found


def count(trials: list[dict[str, Any]], bracket: int, rung: int) -> int:
    return sum((t["tuner/bracket"], t["tuner/round"]) == (bracket, rung) for t in trials)


def test_stock_imports_six_and_tensorboard_without_declaring_them() -> None:
    declared = " ".join(importlib.metadata.requires("keras-tuner") or []).lower()
    sources = [
        path
        for path in importlib.metadata.files("keras-tuner") or []
        if path.suffix == ".py" and not path.name.endswith("_test.py")
    ]
    text = {str(path): path.read_text() for path in sources}
    assert any("import six" in t or "from six" in t for t in text.values()) and "six" not in declared
    assert any("from tensorboard" in t for t in text.values()) and "tensorboard" not in declared


def test_we_declare_them() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = " ".join(project["dependencies"])
    assert "six>=" in declared and "tensorboard>=" in declared


def test_stock_seed_0_is_a_random_seed() -> None:
    assert stock_oracle(seed=0).seed != 0


def test_our_seed_0_is_seed_0() -> None:
    play = Play(seed=0)
    assert play.oracle.seed == 0
    assert play.run() == Play(seed=0).run() != Play(seed=1).run()


def test_stock_a_failed_trial_starves_its_rung() -> None:
    trials = stock_run(stock_oracle(), lambda number: None if number == 0 else float(number))
    oracle = stock_oracle()
    assert count(trials, 2, 0) == oracle._get_size(2, 0)
    assert count(trials, 2, 1) < oracle._get_size(2, 1), "the second rung is never filled"
    assert count(trials, 2, 2) == 0, "and the third never begins"


def test_our_rung_fills() -> None:
    by_place = rungs(Play(fails=lambda number: number == 0).run())
    assert {place: len(ts) for place, ts in by_place.items()} == {
        place: size for place, (size, _, _) in planned(Play().oracle).items()
    }


def test_stock_a_small_space_ends_without_a_trial_at_full_budget() -> None:
    trials = stock_run(stock_oracle(finite=5), float)
    assert len(trials) <= 5 and max(t["tuner/epochs"] for t in trials) < 9


def test_our_small_space_is_said_before_and_ends_with_full_budgets() -> None:
    play = Play(values={"unfrozen_layers": [0, 10, 20, 32, 42], "learning_rate": 1e-3, "head_width": 8})
    sentence = play.oracle.shrunk()
    assert sentence is not None and "5 configurations" in sentence and "5-1-1" in sentence
    assert max(t["tuner/epochs"] for t in play.run()) == 9


def test_stock_three_failures_in_a_row_abort() -> None:
    with pytest.raises(RuntimeError, match="consecutive failures"):
        stock_run(stock_oracle(), lambda number: None if number < 3 else 0.5)


def test_ours_go_on() -> None:
    assert len(Play(fails=lambda number: number < 8).run()) > 9


def test_stock_a_nan_can_never_be_retried() -> None:
    """The NaN stays in the trial's metrics, so that a good second run is thrown away with it."""
    oracle = stock_oracle(max_retries_per_trial=1)
    trial = oracle.create_trial("0")
    finish(oracle, trial, math.nan)
    again = oracle.create_trial("0")
    assert again.trial_id == trial.trial_id
    finish(oracle, again, 0.5)
    assert oracle.trials[trial.trial_id].status == "FAILED"


def promoted_beside(ask: Callable[[str], Any], end: Callable[[Any], None]) -> dict[str, Any]:
    """Ten workers: the tenth opens the next bracket while the first rung runs. Returns the first promotion's values."""
    running = [ask(str(worker)) for worker in range(10)]
    assert running[9].hyperparameters.values["tuner/bracket"] == 1, "the next bracket is open"
    for trial in running[:9]:
        end(trial)
    values = dict(ask("0").hyperparameters.values)
    assert values["tuner/round"] == 1 and int(values["tuner/trial_id"]) < 9, "promoted from the first bracket, number 2"
    return values


def test_stock_a_promoted_trial_has_the_oracles_bracket() -> None:
    oracle = stock_oracle()
    values = promoted_beside(oracle.create_trial, lambda t: finish(oracle, t, float(t.trial_id)))
    assert values["tuner/bracket"] == 1


def test_our_promoted_trial_has_its_own_bracket() -> None:
    play = Play()
    assert promoted_beside(play.oracle.ask, play.end)["tuner/bracket"] == 2


def test_stock_a_completed_trial_runs_again_after_a_kill_between_two_files(tmp_path: Path) -> None:
    """A trial's own file says COMPLETED, the oracle's file still says it is running: it is run once more."""
    oracle = stock_oracle(tmp_path)
    trial = oracle.create_trial("0")
    state = Path(oracle._get_oracle_fname())
    before = state.read_text()
    finish(oracle, trial, 0.5)
    state.write_text(before)  # killed before `save` of the oracle
    again = stock_oracle(tmp_path)
    again.reload()
    assert again.trials[trial.trial_id].status == "COMPLETED"
    assert again.create_trial("0").trial_id == trial.trial_id


def test_stock_save_is_not_atomic(tmp_path: Path) -> None:
    """The old file is overwritten in place: a reader, or a kill, sees a part."""
    oracle = stock_oracle(tmp_path)
    oracle.create_trial("0")
    state = Path(oracle._get_oracle_fname())
    inode = state.stat().st_ino
    oracle.save()
    assert state.stat().st_ino == inode


def test_ours_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Play().run()
    assert not list(tmp_path.iterdir())


def test_stock_reloading_takes_the_old_settings_silently(tmp_path: Path) -> None:
    oracle = stock_oracle(tmp_path)
    oracle.create_trial("0")
    again = stock_oracle(tmp_path, max_epochs=81, factor=9, seed=5)
    again.reload()
    assert (again.max_epochs, again.factor, again.seed) == (9, 3, 1)


def test_stock_a_tie_goes_to_the_first_trial() -> None:
    """val_accuracy on few images ties, and the loss is not asked."""
    oracle = stock_oracle()
    trials = stock_run(oracle, lambda number: 0.25)
    promoted = [t["tuner/trial_id"] for t in trials if t["tuner/bracket"] == 2 and t["tuner/round"] == 1]
    assert promoted == ["0000", "0001", "0002"]


def test_stock_a_promoted_trial_begins_with_a_fresh_optimizer(tmp_path: Path) -> None:
    """Promotion builds the model anew and loads weights only: slots and iterations begin again."""
    from tuner.backends import backend

    backend.start()
    import keras
    import numpy as np

    began: dict[str, int] = {}

    class Watching(keras_tuner.Hyperband):  # type: ignore[misc]
        def _build_hypermodel(self, hp: Any) -> Any:
            model = super()._build_hypermodel(hp)
            began[hp.values.get("tuner/trial_id", "")] = int(model.optimizer.iterations)
            return model

    def build(hp: Any) -> Any:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1)), "mse", run_eagerly=True)
        return model

    search = Watching(
        build, objective="val_loss", max_epochs=2, factor=2, seed=1, directory=str(tmp_path), project_name="stock"
    )
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    search.search(x, y, validation_data=(x, y), verbose=0)
    promoted = {parent: steps for parent, steps in began.items() if parent}
    assert promoted and set(promoted.values()) == {0}
