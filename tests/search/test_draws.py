"""What Hyperband draws, beside the stock tuner asked one by one; and the stock oracle's faults that are left behind.

A test whose name begins with `test_stock_` states a fault of KerasTuner 1.4.8. When one fails, KerasTuner has mended
it: look whether `tuner/search/draws.py` or `schedule.py` can lose some lines.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from search.scheduling import PAIRS, planning, played

from tuner.backbones.architecture import architecture
from tuner.search import draws
from tuner.search import space as spaces
from tuner.search.plan import epochs_in, trials_at_full_budget
from tuner.search.space import Space
from tuner.spec.spec import Spec
from tuner.store.store import Bracket, Draw

ENDLESS: dict[str, Any] = {"unfrozen_layers": [0, 10, 20], "learning_rate": {"min": 1e-5, "max": 1e-2}}


def space_of(values: dict[str, Any]) -> Space:
    return spaces.build(Spec.from_dict({"space": values}), architecture(image_size=224))


def plan_of(space: Space, max_epochs: int = 9, factor: int = 3, iterations: int = 1) -> tuple[Bracket, ...]:
    return draws.brackets(space, max_epochs=max_epochs, factor=factor, iterations=iterations)


# ---- the brackets ----


@pytest.mark.parametrize(("max_epochs", "factor"), PAIRS)
def test_the_brackets_are_stock_hyperbands(max_epochs: int, factor: int) -> None:
    stock = stock_oracle(max_epochs=max_epochs, factor=factor)
    wanted = [
        Bracket(
            0,
            b,
            tuple(stock._get_size(b, r) for r in range(stock._get_num_rounds(b))),
            tuple(stock._get_epochs(b, r) for r in range(stock._get_num_rounds(b))),
        )
        for b in reversed(range(stock._get_num_brackets()))
    ]
    space = space_of(ENDLESS)
    found = plan_of(space, max_epochs, factor)
    assert list(found) == wanted
    assert all(b.epochs[-1] == max_epochs for b in found), "every bracket ends with the whole budget"
    assert trials_at_full_budget(found) == sum(b.sizes[-1] for b in wanted)
    assert len(found) == draws.stock_brackets(max_epochs, factor)
    options = {"max_epochs": max_epochs, "factor": factor, "iterations": 1}
    assert draws.shrunk(space, found, **options) is None


@given(data=st.data(), pair=st.sampled_from([(9, 3), (3, 3), (8, 2), (10, 4)]), iterations=st.integers(1, 2))
@hypothesis_settings(max_examples=30)
def test_a_finite_space_is_tried_once_and_ends_with_whole_budgets(
    data: st.DataObject, pair: tuple[int, int], iterations: int
) -> None:
    depths = data.draw(st.lists(st.sampled_from([0, 10, 20, 32, 42, 52, 62]), min_size=1, max_size=6, unique=True))
    widths = data.draw(st.lists(st.sampled_from([0, 8, 16, 32]), min_size=1, max_size=4, unique=True))
    space = space_of({"unfrozen_layers": depths, "head_width": widths, "learning_rate": 1e-3})
    brackets = plan_of(space, *pair, iterations)
    found = draws.draw(space, brackets, seed=0)
    assert len({d.values for d in found}) == len(found), "no configuration is drawn twice"
    whole = plan_of(space_of(ENDLESS), *pair, iterations)
    assert len(found) == min(len(depths) * len(widths), sum(b.sizes[0] for b in whole))
    assert len(found) == sum(b.sizes[0] for b in brackets)
    assert any(b.epochs[-1] == pair[0] for b in brackets)
    sentence = draws.shrunk(space, brackets, max_epochs=pair[0], factor=pair[1], iterations=iterations)
    if len(found) < sum(b.sizes[0] for b in whole):
        assert sentence is not None and f"The space has {len(depths) * len(widths)} configurations" in sentence
    else:
        assert sentence is None


def test_a_small_space_is_said_before() -> None:
    space = space_of({"unfrozen_layers": [0, 10, 20, 32, 42], "learning_rate": 1e-3, "head_width": 8})
    sentence = draws.shrunk(space, plan_of(space), max_epochs=9, factor=3, iterations=1)
    assert sentence is not None and "5 configurations" in sentence and "5-1-1" in sentence


# ---- the draws ----


def values(drawn: tuple[Draw, ...]) -> list[dict[str, Any]]:
    return [d.values.to_dict() for d in drawn]


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(("max_epochs", "factor"), [(9, 3), (8, 2), (10, 4)])
def test_drawn_at_once_is_what_the_stock_tuner_draws_one_by_one(max_epochs: int, factor: int, iterations: int) -> None:
    """Whatever the scores: those of the stock tuner's trials here are made up."""
    space = space_of(ENDLESS)
    oracle = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("val_loss", "min"),
        hyperparameters=space.hyperparameters(),
        max_epochs=max_epochs,
        factor=factor,
        hyperband_iterations=iterations,
        seed=7,
    )
    oracle.verbose = 0
    oracle.save, oracle._save_trial = lambda: None, lambda trial: None
    stock: dict[int, list[dict[str, Any]]] = {}
    for number, trial in enumerate(stock_run(oracle, lambda n: float(n * 37 % 11))):
        if trial["tuner/round"] == 0:
            stock.setdefault(number, []).append(space.fixed() | {n: trial[n] for n in trial if n in spaces.NAMES})
    brackets = plan_of(space, max_epochs, factor, iterations)
    assert values(draws.draw(space, brackets, seed=7)) == [one for each in stock.values() for one in each]


def test_seed_0_is_seed_0() -> None:
    space = space_of(ENDLESS)
    one, again, other = (values(draws.draw(space, plan_of(space), seed=seed)) for seed in (0, 0, 1))
    assert one == again != other


@given(at=st.integers(0, 22), finite=st.booleans())
@hypothesis_settings(max_examples=25)
def test_drawing_goes_on_where_it_stopped(at: int, finite: bool) -> None:
    space = space_of(
        {"unfrozen_layers": [0, 10, 20], "learning_rate": 1e-3, "head_width": [0, 8, 16]} if finite else ENDLESS
    )
    brackets = plan_of(space)
    whole = draws.draw(space, brackets, seed=3)
    assert draws.draw(space, brackets, seed=3, drawn=whole[:at]) == whole


def test_more_iterations_draw_what_they_would_have_at_once() -> None:
    space = space_of(ENDLESS)
    first = draws.draw(space, plan_of(space), seed=3)
    assert draws.draw(space, plan_of(space, iterations=2), seed=3, drawn=first) == draws.draw(
        space, plan_of(space, iterations=2), seed=3
    )


def test_the_rest_of_a_finite_space_depends_on_the_draws_number_alone() -> None:
    """Another number of epochs has other rungs, and so another number of trials before each draw."""
    space = space_of({"unfrozen_layers": [0, 10, 20, 32, 42], "learning_rate": 1e-3, "head_width": [0, 8, 16]})
    one, other = (values(draws.draw(space, plan_of(space, *pair), seed=0)) for pair in ((9, 3), (27, 9)))
    most = min(len(one), len(other))
    assert most > 8 and one[:most] == other[:most]


def test_drawing_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = space_of(ENDLESS)
    draws.draw(space, plan_of(space), seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("max_epochs", "factor"), PAIRS)
def test_what_is_planned_is_what_is_run(max_epochs: int, factor: int) -> None:
    plan = planning(max_epochs, factor)
    searched = [t for t in played(plan) if t.kind == "search"]
    found = Counter((t.iteration, t.bracket, t.rung, t.first_epoch, t.last_epoch) for t in searched)
    assert found == {
        (b.iteration, b.bracket, r, b.epochs[r - 1] if r else 0, b.epochs[r]): size
        for b in plan.brackets
        for r, size in enumerate(b.sizes)
    }
    assert epochs_in(plan.brackets) == sum(t.last_epoch - t.first_epoch for t in searched)


# ---- the stock oracle's faults ----


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


def test_stock_a_failed_trial_starves_its_rung() -> None:
    trials = stock_run(stock_oracle(), lambda number: None if number == 0 else float(number))
    oracle = stock_oracle()
    assert count(trials, 2, 0) == oracle._get_size(2, 0)
    assert count(trials, 2, 1) < oracle._get_size(2, 1), "the second rung is never filled"
    assert count(trials, 2, 2) == 0, "and the third never begins"


def test_stock_a_small_space_ends_without_a_trial_at_full_budget() -> None:
    trials = stock_run(stock_oracle(finite=5), float)
    assert len(trials) <= 5 and max(t["tuner/epochs"] for t in trials) < 9


def test_stock_three_failures_in_a_row_abort() -> None:
    with pytest.raises(RuntimeError, match="consecutive failures"):
        stock_run(stock_oracle(), lambda number: None if number < 3 else 0.5)


def test_stock_a_nan_can_never_be_retried() -> None:
    """The NaN stays in the trial's metrics, so that a good second run is thrown away with it."""
    oracle = stock_oracle(max_retries_per_trial=1)
    trial = oracle.create_trial("0")
    finish(oracle, trial, math.nan)
    again = oracle.create_trial("0")
    assert again.trial_id == trial.trial_id
    finish(oracle, again, 0.5)
    assert oracle.trials[trial.trial_id].status == "FAILED"


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


def test_stock_a_promoted_trial_begins_with_a_fresh_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promotion builds the model anew and loads weights only: slots and iterations begin again."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # it does for each model: seconds, beside all that tests made
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
