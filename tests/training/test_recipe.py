"""The recipe of a trial: where its head begins, how its learning rate runs, what is averaged and mixed. Each as stock
Keras has it, and each exact when it goes on from a checkpoint (`test_trial.EXACT`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.test_trial import stock_curve, with_head
from training.trials import equal, numbers, run, saved, spec

from tuner.spec.rules import rules_of
from tuner.spec.seeds import generator
from tuner.store.store import EpochRow
from tuner.training import trial
from tuner.training.batches import batches, mix
from tuner.training.network import log_loss
from tuner.training.schedules import share
from tuner.training.subset import SPLIT

Contexts = Callable[..., Any]

# ---- the learning rate ----


@given(
    schedule=st.sampled_from(["constant", "cosine"]),
    epochs=st.integers(1, 100),
    warmup=st.floats(0, 20),
    at=st.floats(0, 120),
    later=st.floats(0, 10),
)
def test_a_schedule_rises_then_never_rises_again(
    schedule: str, epochs: int, warmup: float, at: float, later: float
) -> None:
    now, then = (share(schedule, at=t, epochs=epochs, warmup=warmup) for t in (at, at + later))
    assert 0 <= now <= 1
    assert now <= then if at + later < warmup else now >= then or at < warmup
    if schedule == "cosine" and epochs > warmup:
        assert share(schedule, at=epochs, epochs=epochs, warmup=warmup) == pytest.approx(0, abs=1e-9)
        assert share(schedule, at=(epochs + warmup) / 2, epochs=epochs, warmup=warmup) == pytest.approx(0.5)


STEPS = 3  # of an epoch of 26 images in batches of 10


def keras_schedule(rate: float, **options: Any) -> Any:
    """The same schedule as one of Keras's."""
    import keras

    table = [rate * share(at=(step + 0.5) / STEPS, **options) for step in range(100)]

    class Table(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __call__(self, step: Any) -> Any:
            return keras.ops.take(keras.ops.convert_to_tensor(table), keras.ops.cast(step, "int32"))

    return Table()


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_scheduled_trial_is_stock_keras_fit_with_that_schedule(
    decay: float, context_of: Contexts, tmp_path: Path
) -> None:
    import keras

    context = context_of(tmp_path, schedule="cosine", warmup=1.0, epochs=4)
    wanted = spec(unfrozen_layers=0, learning_rate=3e-3, weight_decay=decay, last_epoch=4)
    _, done = run(wanted, context)
    rates = keras_schedule(3e-3, schedule="cosine", epochs=4, warmup=1.0)
    optimizer = keras.optimizers.AdamW(rates, weight_decay=decay) if decay else keras.optimizers.Adam(rates)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    pooled, loss = np.array(context.features.arrays["pooled"]), keras.losses.BinaryCrossentropy(from_logits=True)
    theirs = stock_curve(with_head(None, context, wanted), pooled, context, wanted, loss, optimizer)
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=2e-4)
    _, plain = run(spec(unfrozen_layers=0, learning_rate=3e-3, last_epoch=4), context_of(tmp_path))
    assert numbers(plain) != numbers(done)


def test_the_tutorials_recipe_has_no_schedule_and_no_average(context_of: Contexts, tmp_path: Path) -> None:
    studied = context_of(tmp_path, schedule="cosine", warmup=1.0, epochs=3, ema=0.9)
    wanted = spec(unfrozen_layers=0)
    _, plain = run(wanted, context_of(tmp_path))
    _, tutorial = run(spec(unfrozen_layers=0, tutorial=True), studied)
    assert numbers(tutorial) == numbers(plain) != numbers(run(wanted, studied)[1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_blocks_learn_slower_the_deeper_they_lie(
    optimizer: str, backbone: Any, context_of: Contexts, tmp_path: Path
) -> None:
    """With sgd the first move is the rate times the gradient; with Adam it is the rate, nearly."""
    cut = backbone.architecture.cut_for(20, "frozen")
    names = ("conv5_block2_3_conv", "conv5_block3_3_conv")
    moves: dict[float, list[float]] = {}
    for decay in (1.0, 0.1):
        context = context_of(
            tmp_path, optimizer=optimizer, batch_size=26, cuts=(cut, "pooled"), head_widths=(), layered=True
        )
        wanted = spec(layer_decay=decay, unfrozen_layers=20, last_epoch=1, learning_rate=1e-3)
        _, done = run(wanted, context)
        after = saved(context, done, "last")[1]
        kernels = [after[next(n for n in after if n.endswith(f"{name}/kernel"))] for name in names]
        before = [backbone.stock.get_layer(name).get_weights()[0] for name in names]
        moves[decay] = [float(np.linalg.norm(a - b)) for a, b in zip(kernels, before, strict=True)]
    assert moves[0.1][1] == pytest.approx(moves[1.0][1], rel=1e-3), "the topmost block is as it was"
    assert moves[0.1][0] == pytest.approx(0.1 * moves[1.0][0], rel=0.02), "the one below learns at a tenth"


def test_a_network_in_parts_trains_as_one(context_of: Contexts, tmp_path: Path) -> None:
    """Where no block differs, optimizers of their own change no bit."""
    whole, parts = (run(spec(last_epoch=2), context_of(tmp_path, layered=layered))[1] for layered in (False, True))
    assert numbers(whole) == numbers(parts)


# ---- the moving average ----


def test_the_average_is_stock_keras_ema_and_is_what_is_judged_and_kept(context_of: Contexts, tmp_path: Path) -> None:
    import keras

    context = context_of(tmp_path, ema=0.7)
    wanted = spec(unfrozen_layers=0, learning_rate=3e-3, last_epoch=1)
    _, done = run(wanted, context)
    model = with_head(None, context_of(tmp_path), wanted)
    pooled, loss = np.array(context.features.arrays["pooled"]), keras.losses.BinaryCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(3e-3, use_ema=True, ema_momentum=0.7)
    theirs = stock_curve(model, pooled, context, wanted, loss, optimizer)
    assert done[0].row.loss == pytest.approx(theirs[0], rel=2e-4)
    kept = saved(context, done, "best")[1]
    ours = [kept[name] for name in ("head_hidden/kernel", "head_hidden/bias", "head_logits/kernel", "head_logits/bias")]
    assert all(np.allclose(a, b, atol=2e-5) for a, b in zip(ours, model.get_weights(), strict=True))
    judged = trial.predict(wanted.values, kept, context, context.validation)
    assert np.array_equal(judged, done[0].probabilities)
    assert not equal(kept, {name: saved(context, done, "last")[1][name] for name in kept}), (
        "training goes on unaveraged"
    )


# ---- mixup ----


def test_mixup_is_stock_keras_on_mixed_batches(context_of: Contexts, tmp_path: Path) -> None:
    import keras

    context = context_of(tmp_path)
    wanted = spec(unfrozen_layers=0, learning_rate=3e-3, mixup=0.4, last_epoch=3)
    _, done = run(wanted, context)
    model = with_head(None, context, wanted)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.BinaryCrossentropy(from_logits=True))
    pooled, labels = np.array(context.features.arrays["pooled"]), context.labels[:, None].astype(np.float32)
    for row in (d.row for d in done):
        order = generator(0, "c000", "shuffle", row.epoch).permutation(len(context.train))
        draw, total = generator(0, "c000", "mixup", row.epoch), 0.0
        for rows, real in batches(context.train[order], 10, padded=False):
            x, y, _ = mix(pooled[rows], labels[rows], np.ones(len(rows)), real=real, alpha=0.4, draw=draw)
            total += real * float(model.train_on_batch(x, y))
        assert row.loss == pytest.approx(total / len(context.train), rel=2e-3)


@given(alpha=st.floats(0.05, 5), real=st.integers(1, 8), padding=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_mixed_batch_keeps_its_sums_and_leaves_its_padding(alpha: float, real: int, padding: int, seed: int) -> None:
    inputs = np.random.default_rng(seed).integers(0, 255, (real + padding, 2, 3)).astype(np.uint8)
    targets, weights = np.eye(4)[np.arange(real + padding) % 4], np.arange(1.0, real + padding + 1)
    x, y, w = mix(inputs, targets, weights, real=real, alpha=alpha, draw=np.random.default_rng(seed))
    assert x.dtype == y.dtype == w.dtype == np.float32
    assert np.allclose(x[real:], inputs[real:]) and np.allclose(w[real:], weights[real:])
    assert np.allclose(x[:real].sum(axis=0), inputs[:real].sum(axis=0, dtype=float), rtol=1e-4, atol=1e-2)
    assert np.allclose(y.sum(axis=1), 1, atol=1e-5)
    assert w[:real].sum() == pytest.approx(weights[:real].sum(), rel=1e-4)


# ---- the fitted head ----


@pytest.mark.parametrize(("width", "classes"), [(0, 2), (8, 2), (0, 3), (8, 3)])
def test_from_the_fitted_head_training_begins_where_logistic_regression_ends(
    context_of: Contexts, tmp_path: Path, width: int, classes: int
) -> None:
    """At a rate that moves nothing the first epoch is the linear fit, whatever the width, but no surer than it may be
    of other images; at a real one it goes on from there. Studies of numerics 5 had it as sure as it was."""
    context = context_of(tmp_path, classes=classes)
    options = {"head_width": width, "last_epoch": 1}
    rows, pooled = context.rows(SPLIT), context.features.arrays["pooled"]
    fit = trial.fit_rows(context, rows)
    logits, truth = fit.logits(pooled[rows.validation]), context.labels[rows.validation]
    sure = fit.confidence(pooled[rows.train], context.labels[rows.train])
    assert 0 < sure < 1

    def first(rules: Any = None, **changes: Any) -> EpochRow:
        where = context if rules is None else context_of(tmp_path, classes=classes, rules=rules)
        return run(spec(**options, **changes), where)[1][0].row

    still, sharp = (first(learning_rate=1e-12, head_init="linear_probe", rules=r) for r in (None, rules_of(5)))
    assert still.val_loss == pytest.approx(log_loss(sure * logits, truth), abs=1e-4)
    assert sharp.val_loss == pytest.approx(wanted := log_loss(logits, truth), abs=1e-4)
    assert still.val_accuracy == sharp.val_accuracy and still.loss == pytest.approx(fit.left_out, abs=0.01)
    assert first(learning_rate=1e-3, head_init="linear_probe").loss != pytest.approx(still.loss, abs=1e-6)
    assert abs(first(learning_rate=1e-12).val_loss - wanted) > 1e-3


def test_a_frozen_head_begins_at_random(context_of: Contexts, tmp_path: Path) -> None:
    """Where logistic regression ends there is nothing left to learn for it; studies of numerics 4 had it so."""
    wanted = {"unfrozen_layers": 0, "head_width": 0, "last_epoch": 1}
    fitted, plain = (spec(**wanted, head_init=how) for how in ("linear_probe", "random"))
    now, before = context_of(tmp_path), context_of(tmp_path, rules=rules_of(4))
    assert numbers(run(fitted, now)[1]) == numbers(run(plain, now)[1])
    assert numbers(run(fitted, before)[1]) != numbers(run(plain, before)[1]) == numbers(run(plain, now)[1])


def test_every_unit_learns_after_a_linear_start(context_of: Contexts, tmp_path: Path) -> None:
    """Those beside the two that carry the logit begin without weights to it and get some."""
    context = context_of(tmp_path)
    _, done = run(spec(head_init="linear_probe", last_epoch=1), context)
    outputs = saved(context, done, "best")[1]["head_logits/kernel"]
    assert np.count_nonzero(outputs) > 2
    hidden = []
    for how in ("linear_probe", "random"):
        _, still = run(spec(head_init=how, last_epoch=1, learning_rate=1e-12), context)
        hidden.append(saved(context, still, "best")[1]["head_hidden/kernel"])
    assert np.allclose(hidden[0][:, 2:], hidden[1][:, 2:], atol=1e-9), "the others are as they are drawn"
    assert not any(np.allclose(a, b) for a, b in itertools.combinations([hidden[0][:, 0], *hidden[1][:, :2].T], 2))
