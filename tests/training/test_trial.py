"""One trial: it continues exactly, stops and fails as it says, and is what stock Keras would train."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.trials import equal, figures, numbers, resumed, run, saved, spec

from tuner.evidence.metrics import score
from tuner.features import bank
from tuner.search.schedule import NEVER
from tuner.spec.configuration import LOGISTIC
from tuner.spec.seeds import generator
from tuner.store.ranking import Rule, best_of, rank_of
from tuner.training import trial
from tuner.training.network import Networks, averaged, log_loss, probabilities
from tuner.training.subset import SPLIT, Subset

Contexts = Callable[..., Any]

# ---- promotion continues exactly ----

EXACT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pooled head": ({}, {"unfrozen_layers": 0}),
    "pooled head straight to the classes, sgd": ({"optimizer": "sgd"}, {"unfrozen_layers": 0, "head_width": 0}),
    "suffix, dropout and weight decay": ({}, {"dropout": 0.3, "weight_decay": 0.05, "backbone_lr_multiplier": 0.1}),
    "suffix, sgd, balanced, three classes": ({"optimizer": "sgd", "balanced": True, "classes": 3}, {}),
    "suffix with trained BatchNorm, rmsprop, label smoothing": (
        {"batch_norm": "trained", "optimizer": "rmsprop"},
        {"unfrozen_layers": 10, "label_smoothing": 0.1},
    ),
    "pooled head with a schedule, moving averages and mixup": (
        {"schedule": "cosine", "warmup": 1.5, "epochs": 5, "ema": 0.8},
        {"unfrozen_layers": 0, "mixup": 0.4},
    ),
    "suffix with a schedule, moving averages, layer decay and mixup, from the fitted head": (
        {"schedule": "cosine", "warmup": 1.0, "epochs": 4, "ema": 0.9, "layered": True},
        {"layer_decay": 0.5, "mixup": 0.2, "head_init": "linear_probe", "weight_decay": 0.05},
    ),
    "suffix with a head over several cuts, from the fitted head, mixup": (
        {"cuts": ("conv5_block1", "pooled"), "schedule": "cosine", "warmup": 1.0, "epochs": 4},
        {"unfrozen_layers": 20, "head_features": "several", "head_init": "linear_probe", "mixup": 0.2},
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_rungs_through_checkpoints_equal_one_go_bit_for_bit(name: str, context_of: Contexts, tmp_path: Path) -> None:
    """1 + 1 + 2 epochs, with another trial on the same network in between, and 4 epochs: the same weights, slots,
    iterations and metrics."""
    made, values = EXACT[name]
    whole, rungs = (context_of(tmp_path / n, **made) for n in ("whole", "rungs"))
    result, wanted = run(spec(last_epoch=4, **values), whole)
    assert result.status == "COMPLETED" and [d.row.epoch for d in wanted] == list(range(1, 5))

    other = spec(configuration="c009", last_epoch=1, learning_rate=0.1, keep_last=False, best_bar=NEVER)
    rung, found = spec(last_epoch=1, **values), list[trial.EpochFinished]()
    for last in (1, 2, 4):
        if found:
            run(other, rungs)
            rung = resumed(rung, found, last)
        result, here = run(rung, rungs)
        assert result.status == "COMPLETED"
        found += here
    assert numbers(found) == numbers(wanted)
    for role in ("last", "best"):
        (epoch, ours), (whole_epoch, all_at_once) = saved(rungs, found, role), saved(whole, wanted, role)
        assert epoch == whole_epoch and equal(ours, all_at_once)
    assert any(n.startswith("optimizer/head/") for n in saved(rungs, found, "last")[1])
    assert not any(n.startswith("optimizer/") for n in saved(rungs, found, "best")[1])
    assert result.best == best_of([d.row for d in found], Rule())


def test_the_same_trial_gives_the_same_files_and_another_name_other_numbers(
    context_of: Contexts, tmp_path: Path
) -> None:
    wanted = spec(last_epoch=2, dropout=0.2)
    _, one = run(wanted, context_of(tmp_path / "a"))
    _, two = run(pickle.loads(pickle.dumps(wanted)), context_of(tmp_path / "b"))
    assert numbers(one) == numbers(two)
    assert one[-1].saved == two[-1].saved, "the files have the same SHA-256"
    for name, seed in (("c001", 0), ("c000", 1)):
        _, other = run(replace(wanted, configuration=name), context_of(tmp_path / "c", seed=seed))
        assert numbers(other) != numbers(one)


@pytest.mark.parametrize("rule", [Rule(), Rule("val_auc", "last")], ids=["best loss", "last AUC"])
def test_stopping_finishes_the_epoch_saves_and_resumes_bit_for_bit(
    rule: Rule, context_of: Contexts, tmp_path: Path
) -> None:
    whole, stopped = (context_of(tmp_path / name, rule=rule) for name in ("whole", "stopped"))
    wanted = spec(last_epoch=5, dropout=0.2)
    _, at_once = run(wanted, whole)
    result, found = run(wanted, stopped, lambda: True)
    assert result.status == "STOPPED" and [d.row.epoch for d in found] == [1]
    assert {s.role for s in found[0].saved} == ({"last", "best"} if rule.checkpoint == "best" else {"last"})
    # Asked while an epoch is being recorded: the state of that one may not be saved, so the next one ends it.
    answers = iter([False, True])
    result, more = run(resumed(wanted, found, 5, rule), stopped, lambda: next(answers))
    assert result.status == "STOPPED" and [d.row.epoch for d in more] == [2, 3]
    assert "last" in {s.role for s in more[-1].saved}, "stopped means saved"
    found += more
    result, rest = run(resumed(wanted, found, 5, rule), stopped)
    assert result.status == "COMPLETED"
    assert numbers(found + rest) == numbers(at_once)
    assert equal(saved(stopped, rest, "last")[1], saved(whole, at_once, "last")[1])
    counted = best_of([d.row for d in at_once], rule)
    assert counted is not None and result.best is not None and figures(result.best) == figures(counted)
    epoch, weights = saved(stopped, found + rest, "best")
    assert epoch == counted.epoch and (rule.checkpoint == "best" or epoch == 5)
    last = [d for d in found + rest if d.probabilities is not None][-1]
    assert last.row.epoch == epoch and last.probabilities is not None
    chances = trial.predict(wanted.values, weights, stopped, stopped.validation)
    assert np.array_equal(chances, last.probabilities)
    assert last.row.score == score(rule.objective, chances, stopped.labels[stopped.validation])


def test_a_stop_in_the_last_epoch_completes(context_of: Contexts, tmp_path: Path) -> None:
    assert run(spec(last_epoch=1), context_of(tmp_path), lambda: True)[0].status == "COMPLETED"


def test_an_epoch_is_handed_out_before_the_next_begins(
    context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are written, and nothing was trained since; what the caller raises, say for a full disk, is no fault of
    the trial, which can go on from there."""
    monkeypatch.setattr(trial, "SAVE_EVERY", 0.0)
    context, wanted = context_of(tmp_path), spec(last_epoch=3)
    training = trial.train(wanted, context)
    done = [next(training), next(training)]
    assert [d.row.epoch for d in done] == [1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {s.file for d in done for s in d.saved}
    assert equal(dict(context.network(wanted.values).state()), saved(context, done, "last")[1])
    training.close()
    result, rest = run(resumed(wanted, done, 3), context)
    assert result.status == "COMPLETED" and [d.row.epoch for d in rest] == [3]


def test_a_checkpoint_that_cannot_be_written_is_no_fault_of_the_trial(context_of: Contexts, tmp_path: Path) -> None:
    """Taken for the trial's, a full disk would fail a good configuration."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(spec(last_epoch=1), replace(context_of(tmp_path), checkpoints=tmp_path / "file"))


# ---- what is held out ----

FOLD = Subset("fold", folds=3, fold=1)


@pytest.mark.parametrize(("depth", "rate", "best"), [(0, 0.03, 1), (10, 1e-4, 2), (0, 1e-4, 4)])
def test_a_fold_predicts_what_it_held_out_by_its_best_epoch(
    depth: int, rate: float, best: int, context_of: Contexts, tmp_path: Path
) -> None:
    """As after that epoch, though others followed, and the same bits when it was stopped after any epoch; nothing of a
    fold is kept."""
    context = context_of(tmp_path)
    rows = context.rows(FOLD)
    assert sorted(np.concatenate(list(vars(rows).values()))) == list(range(37))
    options = {"subset": FOLD, "last_epoch": 4, "keep_last": False, "best_bar": NEVER}
    wanted = spec(learning_rate=rate, unfrozen_layers=depth, **options)
    result, done = run(wanted, context)
    assert result.status == "COMPLETED" and result.best is not None and result.held_out is not None
    assert result.best.epoch == best and not list(tmp_path.iterdir())
    assert result.held_out.shape == (len(rows.held_out), 2) and result.held_out.dtype == np.float32

    kept = run(replace(wanted, last_epoch=best, best_bar=None), context)[1]
    by_hand = trial.predict(wanted.values, saved(context, kept, "best")[1], context, rows.held_out)
    assert np.array_equal(result.held_out, by_hand)
    for epoch in (1, 2, 3):
        answers = iter([False] * (epoch - 1) + [True])
        stopped, found = run(wanted, context, lambda answers=answers: next(answers))  # type: ignore[misc]
        assert stopped.status == "STOPPED" and stopped.held_out is None and len(found) == epoch
        again, rest = run(resumed(wanted, found, 4), context)
        assert again.best is not None and replace(again.best, seconds=0) == replace(result.best, seconds=0)
        assert numbers(found + rest) == numbers(done)
        assert again.held_out is not None and np.array_equal(again.held_out, result.held_out)


def test_the_split_holds_nothing_out_and_all_trains_on_everything(context_of: Contexts, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    result, done = run(spec(unfrozen_layers=0, last_epoch=1, subset=Subset("all")), context)
    assert result.held_out is None and done[0].row.images == 37 + 11
    assert run(spec(unfrozen_layers=0, last_epoch=1), context)[0].held_out is None


@pytest.mark.parametrize("subset", [SPLIT, FOLD])
def test_logistic_regression_is_a_trial_of_one_epoch(subset: Subset, context_of: Contexts, tmp_path: Path) -> None:
    context = context_of(tmp_path, classes=3)
    wanted = replace(spec(last_epoch=1, subset=subset), values=LOGISTIC)
    result, (done,) = run(wanted, context)
    rows, arrays = context.rows(subset), saved(context, [done], "best")[1]
    fit = trial.fit_rows(context, rows)
    assert equal(arrays, fit.arrays()) and result.best == done.row and done.is_best
    assert result.trained_parameters == fit.kernel.size + fit.bias.size
    logits = fit.logits(context.features.arrays["pooled"][rows.validation])
    assert done.row.val_loss == log_loss(logits, context.labels[rows.validation])
    for chances, where in ((done.probabilities, rows.validation), (result.held_out, rows.held_out)):
        if len(where):
            assert np.array_equal(chances, trial.predict(LOGISTIC, arrays, context, where))
        else:
            assert chances is None
    _, (unsaved,) = run(replace(wanted, best_bar=NEVER), context)
    assert unsaved.saved == () and numbers([unsaved]) == numbers([done])


# ---- predictions averaged over mirror images ----

LOOKED_AT = {"logistic": LOGISTIC, "head": spec(unfrozen_layers=0).values, "suffix": spec().values}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", LOOKED_AT)
def test_what_is_predicted_is_the_mean_over_an_image_and_its_mirror_image(
    kind: str, classes: int, backbone: Any, squares: np.ndarray, cache: Path, context_of: Contexts, tmp_path: Path
) -> None:
    """Of validation images and those held out, by the loss of that mean; what is trained is the same without it."""
    plain, both = (context_of(tmp_path / name, classes=classes) for name in ("plain", "both"))
    cuts = tuple(c for c in plain.features.arrays if c != "image")
    both.features = bank.ensure(backbone, squares, "squares", wanted=cuts, cache=cache, mirrored=True)
    mirror = replace(plain, features=both.features.mirror)
    last = 1 if kind == "logistic" else 2
    wanted = replace(spec(last_epoch=last, subset=FOLD, fixed=True), values=LOOKED_AT[kind])
    (result, done), (_, alone) = run(wanted, both), run(wanted, plain)
    assert [(d.row.loss, d.row.accuracy) for d in done] == [(d.row.loss, d.row.accuracy) for d in alone]
    arrays = saved(both, done, "best")[1]
    assert equal(arrays, saved(plain, alone, "best")[1])

    rows, row = both.rows(FOLD), done[-1].row
    for found, where in ((done[-1].probabilities, rows.validation), (result.held_out, rows.held_out)):
        one, other = (trial.predict(wanted.values, arrays, c, where).astype(float) for c in (plain, mirror))
        assert found is not None and found.dtype == np.float32
        assert np.abs(found - (one + other) / 2).max() < 1e-6 < 1e-4 < np.abs(one - other).max()
        assert np.array_equal(found, trial.predict(wanted.values, arrays, both, where))
    truth, chances = both.labels[rows.validation], done[-1].probabilities.astype(float)
    assert row.val_loss == pytest.approx(-np.log(chances[np.arange(len(truth)), truth]).mean(), rel=1e-5)
    assert row.val_accuracy == (chances.argmax(axis=1) == truth).mean()


@given(st.integers(1, 4), st.integers(1, 3), st.randoms(use_true_random=False))
def test_averaged_logits_are_those_of_the_mean_of_the_probabilities(logits: int, looks: int, draw: Any) -> None:
    """Also where one look is sure beyond what a probability can say."""
    rng = np.random.default_rng(draw.randrange(2**32))
    asked = [(rng.normal(size=(6, logits)) * 10.0 ** rng.integers(-2, 5)).astype(np.float32) for _ in range(looks)]
    found, labels = averaged(asked), rng.integers(0, max(2, logits), 6)
    mean = np.mean([probabilities(z) for z in asked], axis=0)
    assert np.allclose(probabilities(found), mean, atol=1e-6)
    assert np.isfinite(log_loss(found, labels))
    assert looks > 1 or found is asked[0]
    each = np.array([[log_loss(z[i : i + 1], labels[i : i + 1]) for i in range(6)] for z in asked])
    # No more than log 2 (log 3) worse than the better look.
    assert log_loss(found, labels) <= each.min(axis=0).mean() + np.log(looks) + 1e-9


def test_a_loss_that_is_not_finite_stays_so_when_it_is_averaged() -> None:
    broken = np.array([[np.nan], [np.inf]], np.float32)
    assert np.isnan(log_loss(averaged([broken, np.zeros((2, 1), np.float32)]), np.array([0, 1])))


# ---- what is saved and reported ----


@pytest.mark.parametrize("classes", [2, 3])
def test_the_predictions_are_those_of_each_best_epoch(classes: int, context_of: Contexts, tmp_path: Path) -> None:
    context = context_of(tmp_path, classes=classes)
    best: float | None = None
    truth = context.labels[context.validation]
    for d in run(spec(last_epoch=4), context)[1]:
        assert d.is_best == (best is None or d.row.val_loss < best)
        assert (d.probabilities is not None) == d.is_best
        if d.probabilities is not None:
            best = d.row.val_loss
            assert d.probabilities.shape == (len(truth), classes) and d.probabilities.dtype == np.float32
            assert np.allclose(d.probabilities.sum(axis=1), 1, atol=1e-6)
            loss = -np.log(d.probabilities[np.arange(len(truth)), truth]).mean()
            assert loss == pytest.approx(d.row.val_loss, rel=1e-5)
            assert (d.probabilities.argmax(axis=1) == truth).mean() == d.row.val_accuracy
        assert d.row.images == len(context.train) + len(context.validation)


def test_of_a_fixed_number_of_epochs_the_last_one_counts(context_of: Contexts, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    result, done = run(spec(unfrozen_layers=0, learning_rate=1e-4, fixed=True), context)
    assert min(done, key=lambda d: d.row.val_loss) is not done[-1], "which is not the best"
    assert [d.is_best for d in done] == [False, False, True] and result.best == done[-1].row
    assert saved(context, done, "best")[0] == 3


def test_nothing_is_written_that_nobody_can_need(
    context_of: Contexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a state that cannot be promoted nor weights that do not lead; what is as good as the bar may."""
    monkeypatch.setattr(trial, "SAVE_EVERY", 1e9)  # on a busy machine a trace may take longer than the real one
    as_good = rank_of(run(spec(unfrozen_layers=0), context_of(tmp_path / "bar"))[0].best, Rule())
    better = (np.nextafter(as_good[0], 0), as_good[1])
    for number, (keep, last_bar, best_bar, wanted) in enumerate(
        [
            (True, None, NEVER, {"last", "best"}),  # it may be promoted
            (True, as_good, NEVER, {"last", "best"}),
            (True, better, better, set()),
            (True, NEVER, NEVER, set()),
            (True, NEVER, None, {"best"}),  # it leads
            (True, better, as_good, {"best"}),
            (False, None, None, {"best"}),
            (False, None, NEVER, set()),
        ]
    ):
        folder = tmp_path / str(number)
        wish = spec(keep_last=keep, last_bar=last_bar, best_bar=best_bar, unfrozen_layers=0)
        _, done = run(wish, context_of(folder))
        assert {s.role for d in done for s in d.saved} == wanted
        assert len(list(folder.iterdir())) == len(wanted)


# ---- failing ----


def test_a_loss_that_is_not_finite_fails_with_the_reason(context_of: Contexts, tmp_path: Path) -> None:
    context, sound = context_of(tmp_path, optimizer="sgd"), spec(unfrozen_layers=0, last_epoch=2)
    _, before = run(sound, context)
    result, done = run(spec(learning_rate=1e30, unfrozen_layers=0, last_epoch=9), context)
    assert result.status == "FAILED" and result.reason is not None
    wanted = tuple(f"the {which} loss was {value}" for which in ("training", "validation") for value in ("nan", "inf"))
    assert result.reason.startswith(wanted)
    assert len(done) < 9 and f"in epoch {len(done) + 1}" in result.reason
    assert all(np.isfinite([d.row.loss, d.row.val_loss]).all() for d in done)
    # The network it broke is as good as new for the next trial.
    result, after = run(sound, context)
    assert result.status == "COMPLETED" and numbers(after) == numbers(before)


def test_another_networks_checkpoint_fails_and_says_so(context_of: Contexts, tmp_path: Path) -> None:
    context = context_of(tmp_path)
    _, done = run(spec(unfrozen_layers=0, last_epoch=1), context)
    result, _ = run(resumed(spec(), done, 2), context)
    assert result.status == "FAILED" and "checkpoint and network differ" in str(result.reason)


# ---- compiled once ----


def test_one_trace_for_any_rates_and_any_number_of_trials(backbone: Any, context_of: Contexts, tmp_path: Path) -> None:
    networks = Networks(backbone, 2, "frozen", "adam", "float32")
    for number, rate in enumerate((1e-3, 1e-2)):
        context = replace(context_of(tmp_path, balanced=bool(number)), networks=networks)
        for depth in (0, 10, 12):  # 12 trains what 10 does
            wish = spec(
                configuration=f"c{number}",
                unfrozen_layers=depth,
                learning_rate=rate,
                backbone_lr_multiplier=1 - rate,
                weight_decay=rate,
                label_smoothing=rate,
                dropout=0.1 + rate,
                last_epoch=2,
            )
            assert run(wish, context)[0].status == "COMPLETED"
    assert {(k.start, k.unfrozen_layers) for k in networks._networks} == {("pooled", 0), ("conv5_block2", 10)}
    assert [n.stepper.traces for n in networks._networks.values()] == [1, 1]


@pytest.mark.parametrize(("optimizer", "classes"), [("adam", 2), ("sgd", 3)])
def test_widths_that_share_a_network_train_as_with_one_of_their_own(
    optimizer: str, classes: int, context_of: Contexts, tmp_path: Path
) -> None:
    """The same numbers drawn, the same losses to rounding, with dropout too; units a width does not have stay zero; the
    network that three widths share is traced once."""
    shared = context_of(tmp_path, classes=classes, optimizer=optimizer)
    alone = context_of(tmp_path, classes=classes, optimizer=optimizer, head_widths=())
    for width in (16, 0, 8):
        wanted = spec(head_width=width, last_epoch=2, dropout=0.3, weight_decay=0.01)
        result, ours = run(wanted, shared)
        assert result.status == "COMPLETED"
        network = shared.network(wanted.values)
        weights = network.weights()
        assert weights["head_logits/kernel"].shape[0] == (width or 2048)
        other, theirs = run(wanted, alone)
        assert other.trained_parameters == result.trained_parameters
        assert [d.row.loss for d in ours] == pytest.approx([d.row.loss for d in theirs], rel=1e-4)
        assert weights.keys() == alone.network(wanted.values).weights().keys()
        for branch in network.head.branches:
            for variable, part in branch.pieces().values():
                whole = np.array(variable)
                if branch is network.head.worn:
                    whole[part] = 0.0
                assert not whole.any()
        assert network.stepper.traces == 1


def test_after_a_loss_that_was_not_finite_another_width_is_as_before(context_of: Contexts, tmp_path: Path) -> None:
    """The units that a width does not have become NaN with the others; nothing of them is left for the next trial."""
    context, sound = context_of(tmp_path), spec(head_width=0, last_epoch=1)
    _, before = run(sound, context)
    for width in (8, 0):
        assert run(spec(head_width=width, learning_rate=1e38), context)[0].status == "FAILED"
        _, after = run(sound, context)
        assert numbers(before) == numbers(after)


def test_head_widths_share_their_suffix_and_old_networks_go(backbone: Any) -> None:
    from tuner.training import network

    networks = network.Networks(backbone, 2, "frozen", "adam", "float32")
    one, two = networks.get("conv5_block2", 10, 8, False), networks.get("conv5_block2", 11, 16, False)
    assert one._suffix is two._suffix and one is networks.get("conv5_block2", 10, 8, False)
    for width in range(1, 2 * network.KEPT):
        networks.get("pooled", 0, width, False)
    assert len(networks._networks) == network.KEPT and not networks._suffixes


# ---- the same as stock Keras ----


def stock_curve(
    model: Any, x: np.ndarray, context: Any, wanted: trial.TrialSpec, loss: Any, optimizer: Any, **fit: Any
) -> list[float]:
    """Epoch losses of Keras's own `fit` over the same batches in the same order."""
    import keras

    # Tracing takes longer than these few steps; JAX has nothing else.
    model.compile(optimizer, loss, run_eagerly=keras.backend.backend() == "tensorflow")
    labels, losses = context.labels, []
    if isinstance(loss, keras.losses.CategoricalCrossentropy):
        labels = np.eye(context.classes)[labels]
    fit |= {"batch_size": context.recipe.batch_size, "shuffle": False, "verbose": 0}
    for epoch in range(1, wanted.last_epoch + 1):
        order = generator(context.recipe.seed, wanted.configuration, "shuffle", epoch).permutation(len(context.train))
        rows = context.train[order]
        losses.append(model.fit(x[rows], labels[rows], **fit).history["loss"][0])
    return losses


def with_head(resnet: Any, context: Any, wanted: trial.TrialSpec) -> Any:
    """Stock layers on top of `resnet`'s output (or of pooled features), beginning with our head's numbers."""
    import keras

    width, network = wanted.values.head_width, context.network(wanted.values)
    network.reset(context.recipe.seed, wanted.configuration)
    inputs = keras.Input((2048,)) if resnet is None else resnet.inputs[0]
    x = inputs if resnet is None else keras.layers.GlobalAveragePooling2D()(resnet.outputs[0])
    layers = [keras.layers.Dense(width, activation="relu")] if width else []
    layers.append(keras.layers.Dense(1 if context.classes == 2 else context.classes))
    for layer in layers:
        x = layer(x)
    drawn = network.weights()
    for layer, name in zip(layers, ["head_hidden", "head_logits"][-len(layers) :], strict=True):
        layer.set_weights([drawn[f"{name}/kernel"], drawn[f"{name}/bias"]])
    return keras.Model(inputs, x)


@pytest.mark.parametrize(("depth", "width"), [(10, 8), (32, 0), (104, 8)])
def test_a_trial_is_stock_keras_fit_on_the_same_batches(
    backbone: Any,
    depth: int,
    width: int,
    context_of: Contexts,
    stock_resnet: Callable[[], Any],
    preprocessed: np.ndarray,
    tmp_path: Path,
) -> None:
    """Adam on images through the whole stock network, 26 of them in batches of 10: the last one has 6. At 32
    and 104 ends of stages are trained, of which we compute every second pixel. The frozen head is the next test's."""
    import keras

    context = context_of(tmp_path, cuts=(backbone.architecture.cut_for(depth, "frozen"), "pooled"))
    options = {"unfrozen_layers": depth, "head_width": width, "learning_rate": 1e-4}
    wanted = spec(last_epoch=1, keep_last=False, **options)
    result, done = run(wanted, context)
    resnet = stock_resnet()
    for index, layer in enumerate(resnet.layers):
        layer.trainable = index >= 175 - depth and type(layer).__name__ != "BatchNormalization"
    model = with_head(resnet, context, wanted)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    theirs = stock_curve(model, preprocessed, context, wanted, loss, keras.optimizers.Adam(1e-4))
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=2e-3)
    assert result.trained_parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if depth == 10:
        x, y = preprocessed[context.validation], context.labels[context.validation]
        assert model.evaluate(x, y, verbose=0) == pytest.approx(done[-1].row.val_loss, rel=5e-3)


@pytest.mark.parametrize("case", ["smoothing", "balanced", "decay", "three smoothed", "one batch"])
def test_a_frozen_trial_is_stock_keras_fit_with_each_option(case: str, context_of: Contexts, tmp_path: Path) -> None:
    import keras

    recipe = {"balanced": case == "balanced", "batch_size": 1000 if case == "one batch" else 10}
    context = context_of(tmp_path, classes=3 if "three" in case else 2, **recipe)
    options: dict[str, Any] = {"unfrozen_layers": 0, "learning_rate": 3e-3, "last_epoch": 4}
    losses = keras.losses
    loss: Any = losses.BinaryCrossentropy(from_logits=True)
    optimizer: Any = keras.optimizers.Adam(3e-3)
    fit: dict[str, Any] = {}
    if case == "smoothing":
        options["label_smoothing"] = 0.2
        loss = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
    elif case == "balanced":
        counts = np.bincount(context.labels[context.train])
        fit["class_weight"] = {c: len(context.train) / (2 * n) for c, n in enumerate(counts)}
    elif case == "decay":
        options["weight_decay"] = 0.5
        optimizer = keras.optimizers.AdamW(3e-3, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    elif case == "three smoothed":
        options["label_smoothing"] = 0.3
        loss = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
    wanted = spec(**options)
    _, done = run(wanted, context)
    pooled = np.array(context.features.arrays["pooled"])
    theirs = stock_curve(with_head(None, context, wanted), pooled, context, wanted, loss, optimizer, **fit)
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=2e-4)


def test_the_suffix_learns_at_its_own_rate(backbone: Any, context_of: Contexts, tmp_path: Path) -> None:
    """With sgd a step is the rate times the gradient: a hundredth of the rate is a hundredth of the first move."""
    context, moves = context_of(tmp_path, optimizer="sgd", batch_size=26), []
    for rate in (1.0, 0.01):
        _, done = run(spec(backbone_lr_multiplier=rate, last_epoch=1, learning_rate=0.1), context)
        after = saved(context, done, "last")[1]
        name = next(n for n in after if n.endswith("conv5_block3_3_conv/kernel"))
        moves.append(after[name] - backbone.stock.get_layer("conv5_block3_3_conv").get_weights()[0])
    assert np.linalg.norm(moves[0]) > 0
    assert np.linalg.norm(moves[1]) == pytest.approx(0.01 * np.linalg.norm(moves[0]), rel=0.01)


# ---- BatchNorm and precision ----


def norms(model: Any) -> dict[str, list[np.ndarray]]:
    return {
        layer.name: [np.array(w) for w in layer.get_weights()]
        for layer in model.layers
        if type(layer).__name__ == "BatchNormalization"
    }


def test_frozen_batch_norm_never_moves_and_the_stock_network_neither(
    backbone: Any, context_of: Contexts, tmp_path: Path
) -> None:
    context, wanted = context_of(tmp_path), spec(learning_rate=0.1)
    before = [np.array(v) for v in backbone.stock.get_weights()]
    _, done = run(wanted, context)
    for name, values in norms(context.network(wanted.values)._suffix.model).items():
        stock = backbone.stock.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(values, stock, strict=True)), name
    assert not any("_bn/" in name for name in saved(context, done, "last")[1])
    after = backbone.stock.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_trained_batch_norm_moves_all_four_and_only_above_the_cut(
    backbone: Any, context_of: Contexts, tmp_path: Path
) -> None:
    """Its state survives the round trip: the bit-for-bit test above has this case too."""
    context = context_of(tmp_path, batch_norm="trained")
    _, done = run(spec(unfrozen_layers=10, last_epoch=1), context)
    state = saved(context, done, "last")[1]
    own = {name.split("/")[-2] + "/" + name.split("/")[-1] for name in state if "_bn/" in name}
    assert own == {
        f"conv5_block3_{i}_bn/{kind}" for i in (1, 2, 3) for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    for name, value in state.items():
        if "_bn/" in name:
            layer = backbone.stock.get_layer(name.split("/")[-2])
            stock = next(v for v in layer.weights if v.path.endswith(name.split("/")[-1]))
            assert not np.array_equal(value, np.asarray(stock)), name


def test_mixed_bfloat16_trains_with_float32_variables(context_of: Contexts, tmp_path: Path) -> None:
    context, wanted = context_of(tmp_path / "t", precision="mixed_bfloat16"), spec(last_epoch=2)
    result, done = run(wanted, context)
    assert result.status == "COMPLETED", result.reason
    assert {a.dtype.name for n, a in saved(context, done, "last")[1].items() if "optimizer" not in n} == {"float32"}
    _, exact = run(wanted, context_of(tmp_path / "exact"))
    assert [d.row.val_loss for d in done] == pytest.approx([d.row.val_loss for d in exact], rel=0.15)


# ---- a cut that is not stored ----


def test_without_stored_features_the_losses_are_the_same(context_of: Contexts, tmp_path: Path) -> None:
    """Budget 0: the network begins at the images and computes its frozen part again in every epoch."""
    a, b, wanted = context_of(tmp_path / "a"), context_of(tmp_path / "b", cuts=("pooled",)), spec(last_epoch=2)
    assert (a.start(wanted.values), b.start(wanted.values)) == ("conv5_block2", "image")
    (one, first), (two, second) = run(wanted, a), run(wanted, b)
    assert [d.row.loss for d in second] == pytest.approx([d.row.loss for d in first], rel=2e-3)
    assert [d.row.val_loss for d in second] == pytest.approx([d.row.val_loss for d in first], rel=2e-3)
    assert one.trained_parameters == two.trained_parameters
    assert saved(a, first, "last")[1].keys() == saved(b, second, "last")[1].keys(), "and nothing frozen is saved"


# ---- targets ----


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.floats(0, 0.9))
def test_smoothed_targets_are_distributions(labels: list[int], smoothing: float) -> None:
    three = trial.smoothed_targets(np.array(labels), 3, smoothing)
    assert three.dtype == np.float32 and np.allclose(three.sum(axis=1), 1)
    assert (three.argmax(axis=1) == labels).all()
    two = trial.smoothed_targets(np.minimum(labels, 1), 2, smoothing)
    assert two.shape == (len(labels), 1) and ((two[:, 0] > 0.5) == (np.minimum(labels, 1) == 1)).all()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_balanced_weights_give_each_class_the_same_say(labels: list[int]) -> None:
    found = np.array(labels)
    weights = trial.class_weights(found, 3)
    shares = [weights[c] * (found == c).sum() for c in set(labels)]
    assert np.allclose(shares, shares[0])
    if len(set(labels)) == 3:
        assert weights[found].mean() == pytest.approx(1, rel=1e-5)


def test_checkpoint_bytes_depend_on_the_arrays_alone(tmp_path: Path) -> None:
    arrays = {"b/kernel": np.arange(6.0).reshape(2, 3), "a": np.float32(3.0) * np.ones(()), "c": np.zeros((0, 2))}
    for name, given_in in (("one", arrays), ("two", dict(reversed(arrays.items())))):
        with open(tmp_path / name, "wb") as file:
            trial.write_arrays(file, given_in)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one", allow_pickle=False) as back:
        assert equal(dict(back), arrays)
