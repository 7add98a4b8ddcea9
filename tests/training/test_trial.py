"""One trial: it continues exactly, stops and fails as it says, and is what stock Keras would train."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.trials import equal, numbers, resumed, run, saved, task

from tuner.errors import StoreError
from tuner.spec.seeds import generator
from tuner.store.store import EpochRow
from tuner.training import logistic, trial
from tuner.training.network import log_loss

Workshops = Callable[..., Any]

# ---- promotion continues exactly ----

EXACT = {
    "pooled head": {"unfrozen_layers": 0},
    "pooled head straight to the classes, sgd": {"unfrozen_layers": 0, "head_width": 0, "optimizer": "sgd"},
    "suffix, dropout and weight decay": {"dropout": 0.3, "weight_decay": 0.05, "backbone_rate": 0.1},
    "suffix, sgd, balanced, three classes": {"optimizer": "sgd", "balanced": True, "classes": 3},
    "suffix with trained BatchNorm, rmsprop, label smoothing": {
        "batch_norm": "trained",
        "optimizer": "rmsprop",
        "label_smoothing": 0.1,
    },
}


@pytest.mark.parametrize("name", EXACT)
def test_rungs_through_checkpoints_equal_one_go_bit_for_bit(name: str, workshop: Workshops, tmp_path: Path) -> None:
    """1 + 1 + 2 epochs, with another trial on the same network in between, and 4 epochs: the same weights, slots,
    iterations and metrics."""
    options = dict(EXACT[name])
    made = {k: options.pop(k) for k in ("optimizer", "classes", "batch_norm") if k in options}
    shop = workshop(**made)
    norm = {"batch_norm": made["batch_norm"]} if "batch_norm" in made else {}
    whole = task(shop, tmp_path / "whole", last_epoch=4, **options, **norm)
    result, wanted = run(whole, shop)
    assert result.status == "COMPLETED" and [d.row.epoch for d in wanted] == list(range(1, 5))

    rung = task(shop, tmp_path / "rungs", last_epoch=1, **options, **norm)
    hopeless = {"keep_last": False, "best_bar": (-1.0, -1.0)}  # so that it writes nothing
    other = task(shop, tmp_path / "other", configuration="c009", last_epoch=1, learning_rate=0.1, **norm, **hopeless)
    found: list[trial.EpochDone] = []
    for last in (1, 2, 4):
        if found:
            run(other, shop)
            rung = resumed(rung, found, last)
            rung = type(rung)(**(vars(rung) | {"earlier": tuple(d.row for d in found)}))
        result, here = run(rung, shop)
        assert result.status == "COMPLETED"
        found += here
    assert numbers(found) == numbers(wanted)
    for role in ("last", "best"):
        (epoch, ours), (whole_epoch, all_at_once) = saved(rung, found, role), saved(whole, wanted, role)
        assert epoch == whole_epoch and equal(ours, all_at_once)
    assert any(n.startswith("optimizer/head/") for n in saved(rung, found, "last")[1])
    assert not any(n.startswith("optimizer/") for n in saved(rung, found, "best")[1])
    assert result.best == trial.best_of(tuple(d.row for d in found), "val_loss")


def test_the_same_task_gives_the_same_files_and_another_name_other_numbers(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop()
    first, again = (task(shop, tmp_path / n, last_epoch=2, dropout=0.2) for n in ("a", "b"))
    (_, one), (_, two) = run(first, shop), run(pickle.loads(pickle.dumps(again)), shop)
    assert numbers(one) == numbers(two)
    assert one[-1].saved == two[-1].saved, "the files have the same SHA-256"
    for change in ({"configuration": "c001"}, {"seed": 1}):
        _, other = run(task(shop, tmp_path / "c", last_epoch=2, dropout=0.2, **change), shop)
        assert numbers(other) != numbers(one)


def test_stopping_finishes_the_epoch_saves_and_resumes_bit_for_bit(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop()
    whole = task(shop, tmp_path / "whole", last_epoch=5, dropout=0.2)
    _, wanted = run(whole, shop)
    stop = threading.Event()
    stop.set()
    begun = task(shop, tmp_path / "stopped", last_epoch=5, dropout=0.2)
    result, found = run(begun, shop, stop)
    assert result.status == "STOPPED" and [d.row.epoch for d in found] == [1]
    assert {s.role for s in found[0].saved} == {"last", "best"}
    # Asked while an epoch is being recorded: the state of that one may not be saved, so the next one ends it.
    stop.clear()
    begun = resumed(begun, found, 5)
    result, more = run(begun, shop, stop, on_epoch=lambda done: stop.set())
    assert result.status == "STOPPED" and [d.row.epoch for d in more] == [2, 3]
    assert "last" in {s.role for s in more[-1].saved}, "stopped means saved"
    stop.clear()
    last = resumed(begun, more, 5)
    result, rest = run(last, shop, stop)
    assert result.status == "COMPLETED"
    assert numbers(found + more + rest) == numbers(wanted)
    assert equal(saved(last, rest, "last")[1], saved(whole, wanted, "last")[1])


def test_a_stop_in_the_last_epoch_completes(workshop: Workshops, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    result, _ = run(task(workshop(), tmp_path / "t", last_epoch=1), workshop(), stop)
    assert result.status == "COMPLETED"


# ---- what is saved and reported ----


def test_the_predictions_are_those_of_each_best_epoch(workshop: Workshops, tmp_path: Path) -> None:
    for classes in (2, 3):
        shop = workshop(classes=classes)
        _, done = run(task(shop, tmp_path / "t", last_epoch=4), shop)
        best: float | None = None
        truth = shop.labels[shop.validation]
        for d in done:
            assert d.is_best == (best is None or d.row.val_loss < best)
            assert (d.probabilities is not None) == d.is_best
            if d.probabilities is not None:
                best = d.row.val_loss
                assert d.probabilities.shape == (len(truth), classes) and d.probabilities.dtype == np.float32
                assert np.allclose(d.probabilities.sum(axis=1), 1, atol=1e-6)
                loss = -np.log(d.probabilities[np.arange(len(truth)), truth]).mean()
                assert loss == pytest.approx(d.row.val_loss, rel=1e-5)
                assert (d.probabilities.argmax(axis=1) == truth).mean() == d.row.val_accuracy
            assert d.row.images == len(shop.train) + len(shop.validation)


def test_nothing_is_written_that_nobody_can_need(
    workshop: Workshops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a state that cannot be promoted nor weights that do not lead."""
    monkeypatch.setattr(trial, "SAVE_EVERY", 1e9)  # on a busy machine a trace may take longer than the real one
    shop = workshop()
    unbeatable = (-1.0, -1.0)
    for keep, last_bar, best_bar, wanted in [
        (True, None, unbeatable, {"last", "best"}),  # it may be promoted
        (True, unbeatable, unbeatable, set()),
        (True, unbeatable, None, {"best"}),  # it leads
        (False, None, None, {"best"}),
        (False, None, unbeatable, set()),
    ]:
        folder = tmp_path / f"{keep}{last_bar}{best_bar}"
        wish = task(shop, folder, keep_last=keep, last_bar=last_bar, best_bar=best_bar, unfrozen_layers=0)
        _, done = run(wish, shop)
        assert {s.role for d in done for s in d.saved} == wanted
        assert len(list(folder.iterdir())) == len(wanted)


# ---- failing ----


def test_a_loss_that_is_not_finite_fails_with_the_reason(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop(optimizer="sgd")
    result, done = run(task(shop, tmp_path / "t", learning_rate=1e30, unfrozen_layers=0, last_epoch=9), shop)
    assert result.status == "FAILED" and result.reason is not None
    assert result.reason.startswith(("the training loss was nan", "the training loss was inf")) or (
        result.reason.startswith(("the validation loss was nan", "the validation loss was inf"))
    )
    assert len(done) < 9 and f"in epoch {len(done) + 1}" in result.reason
    assert all(np.isfinite([d.row.loss, d.row.val_loss]).all() for d in done)
    # The network it broke is as good as new for the next trial.
    sound = task(shop, tmp_path / "sound", unfrozen_layers=0, last_epoch=2)
    fresh = task(shop, tmp_path / "fresh", unfrozen_layers=0, last_epoch=2)
    assert numbers(run(sound, shop)[1]) == numbers(run(fresh, workshop(optimizer="sgd"))[1])
    assert run(sound, shop)[0].status == "COMPLETED"


def test_another_networks_checkpoint_fails_and_says_so(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop()
    small = task(shop, tmp_path / "t", unfrozen_layers=0, last_epoch=1)
    _, done = run(small, shop)
    wrong = resumed(task(shop, tmp_path / "t", last_epoch=2), done, 2)
    result, _ = run(wrong, shop)
    assert result.status == "FAILED" and "checkpoint and network differ" in str(result.reason)


# ---- compiled once ----


def test_one_trace_for_any_rates_and_any_number_of_trials(backbone: Any, workshop: Workshops, tmp_path: Path) -> None:
    from tuner.training.network import Networks

    shop = workshop()
    shop = type(shop)(**(vars(shop) | {"networks": Networks(backbone, 2, "frozen", "adam", "float32")}))
    for number, rate in enumerate((1e-3, 1e-2)):
        for depth in (0, 10, 12):  # 12 trains what 10 does
            wish = task(
                shop,
                tmp_path / "t",
                configuration=f"c{number}",
                unfrozen_layers=depth,
                learning_rate=rate,
                backbone_rate=1 - rate,
                weight_decay=rate,
                label_smoothing=rate,
                dropout=0.1 + rate,
                balanced=bool(number),
                last_epoch=2,
            )
            assert run(wish, shop)[0].status == "COMPLETED"
    networks = shop.networks._networks
    assert {(k.start, k.unfrozen_layers) for k in networks} == {("pooled", 0), ("conv5_block2", 10)}
    assert [n.stepper.traces for n in networks.values()] == [1, 1]


@pytest.mark.parametrize(("optimizer", "classes"), [("adam", 2), ("sgd", 3)])
def test_widths_that_share_a_network_train_as_with_one_of_their_own(
    optimizer: str, classes: int, workshop: Workshops, tmp_path: Path
) -> None:
    """The same numbers drawn, the same losses to rounding, with dropout too; units a width does not have stay zero; the
    network that three widths share is traced once."""
    shared = workshop(classes=classes, optimizer=optimizer)
    options = {"learning_rate": 1e-3, "dropout": 0.3, "weight_decay": 0.01}
    for width in (16, 0, 8):
        alone = workshop(classes=classes, optimizer=optimizer, head_widths=())
        wanted = task(shared, tmp_path / "t", head_width=width, last_epoch=2, **options)
        result, ours = run(wanted, shared)
        assert result.status == "COMPLETED"
        network = shared.networks.get("conv5_block2", 10, width, True)
        weights = network.weights()
        assert weights["head_logits/kernel"].shape[0] == (width or 2048)
        other, theirs = run(wanted, alone)
        assert other.trained_parameters == result.trained_parameters
        assert [d.row.loss for d in ours] == pytest.approx([d.row.loss for d in theirs], rel=1e-4)
        their_own = alone.networks.get("conv5_block2", 10, width, True).weights()
        assert weights.keys() == their_own.keys()
        for branch in network.head.branches:
            for variable, part in branch.pieces().values():
                whole = np.array(variable)
                if branch is network.head.worn:
                    whole[part] = 0.0
                assert not whole.any()
        assert network.stepper.traces == 1


def test_after_a_loss_that_was_not_finite_another_width_is_as_before(workshop: Workshops, tmp_path: Path) -> None:
    """The units that a width does not have become NaN with the others; nothing of them is left for the next trial."""
    shop = workshop()
    sound = task(shop, tmp_path / "t", head_width=0, last_epoch=1)
    _, before = run(sound, shop)
    for width in (8, 0):
        broken = task(shop, tmp_path / "t", head_width=width, learning_rate=1e38, last_epoch=3)
        assert run(broken, shop)[0].status == "FAILED"
        _, after = run(sound, shop)
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
    model: Any, x: np.ndarray, shop: Any, wanted: trial.TrialTask, loss: Any, optimizer: Any, **fit: Any
) -> list[float]:
    """Epoch losses of Keras's own `fit` over the same batches in the same order."""
    import keras

    # Tracing takes longer than these few steps; JAX has nothing else.
    model.compile(optimizer, loss, run_eagerly=keras.backend.backend() == "tensorflow")
    labels = shop.labels
    if isinstance(loss, keras.losses.CategoricalCrossentropy):
        labels = np.eye(shop.classes)[labels]
    losses = []
    for epoch in range(1, wanted.last_epoch + 1):
        rows = shop.train[generator(wanted.seed, wanted.configuration, "shuffle", epoch).permutation(len(shop.train))]
        history = model.fit(
            x[rows], labels[rows], batch_size=wanted.batch_size, epochs=1, shuffle=False, verbose=0, **fit
        )
        losses.append(history.history["loss"][0])
    return losses


def with_head(resnet: Any, shop: Any, wanted: trial.TrialTask) -> Any:
    """Stock layers on top of `resnet`'s output (or of pooled features), beginning with our head's numbers."""
    import keras

    hp = wanted.hyperparameters
    network = shop.networks.get(wanted.start, hp["unfrozen_layers"], hp["head_width"], hp["dropout"] > 0)
    network.reset(wanted.seed, wanted.configuration)
    inputs = keras.Input((2048,)) if resnet is None else resnet.inputs[0]
    x = inputs if resnet is None else keras.layers.GlobalAveragePooling2D()(resnet.outputs[0])
    layers = [keras.layers.Dense(hp["head_width"], activation="relu")] if hp["head_width"] else []
    layers.append(keras.layers.Dense(1 if shop.classes == 2 else shop.classes))
    for layer in layers:
        x = layer(x)
    drawn = network.weights()
    for layer, name in zip(layers, ["head_hidden", "head_logits"][-len(layers) :], strict=True):
        layer.set_weights([drawn[f"{name}/kernel"], drawn[f"{name}/bias"]])
    return keras.Model(inputs, x)


@pytest.mark.parametrize(("depth", "width"), [(10, 8), (32, 0), (104, 8)])
def test_a_trial_is_stock_keras_fit_on_the_same_batches(
    depth: int,
    width: int,
    workshop: Workshops,
    stock_resnet: Callable[[], Any],
    preprocessed: np.ndarray,
    tmp_path: Path,
) -> None:
    """Adam on photographs through the whole stock network, 26 of them in batches of 10: the last one has 6. At 32
    and 104 ends of stages are trained, of which we compute every second pixel. The frozen head is the next test's."""
    import keras

    cut = workshop().networks.backbone.architecture.cut_for(depth, "frozen")
    shop = workshop() if depth <= 10 else workshop(cuts=(cut, "pooled"))
    options = {"unfrozen_layers": depth, "head_width": width, "learning_rate": 1e-4}
    wanted = task(shop, tmp_path / "t", last_epoch=2 if depth == 10 else 1, keep_last=False, **options)
    result, done = run(wanted, shop)
    resnet = stock_resnet()
    for index, layer in enumerate(resnet.layers):
        layer.trainable = index >= 175 - depth and type(layer).__name__ != "BatchNormalization"
    model = with_head(resnet, shop, wanted)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    theirs = stock_curve(model, preprocessed, shop, wanted, loss, keras.optimizers.Adam(1e-4))
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=2e-3)
    assert result.trained_parameters == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    if depth == 10:
        x, y = preprocessed[shop.validation], shop.labels[shop.validation]
        assert model.evaluate(x, y, verbose=0) == pytest.approx(done[-1].row.val_loss, rel=5e-3)


@pytest.mark.parametrize("case", ["smoothing", "balanced", "decay", "three smoothed", "one batch"])
def test_a_frozen_trial_is_stock_keras_fit_with_each_option(case: str, workshop: Workshops, tmp_path: Path) -> None:
    import keras

    classes = 3 if "three" in case else 2
    shop = workshop(classes=classes)
    options: dict[str, Any] = {"unfrozen_layers": 0, "learning_rate": 3e-3, "last_epoch": 4}
    losses = keras.losses
    loss: Any = losses.BinaryCrossentropy(from_logits=True)
    optimizer: Any = keras.optimizers.Adam(3e-3)
    fit: dict[str, Any] = {}
    if case == "smoothing":
        options["label_smoothing"] = 0.2
        loss = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)
    elif case == "balanced":
        options["balanced"] = True
        counts = np.bincount(shop.labels[shop.train])
        fit["class_weight"] = {c: len(shop.train) / (2 * n) for c, n in enumerate(counts)}
    elif case == "decay":
        options["weight_decay"] = 0.5
        optimizer = keras.optimizers.AdamW(3e-3, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    elif case == "three smoothed":
        options["label_smoothing"] = 0.3
        loss = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)
    elif case == "one batch":
        options["batch_size"] = 1000
    wanted = task(shop, tmp_path / "t", **options)
    _, done = run(wanted, shop)
    pooled = np.array(shop.features.arrays["pooled"])
    theirs = stock_curve(with_head(None, shop, wanted), pooled, shop, wanted, loss, optimizer, **fit)
    assert [d.row.loss for d in done] == pytest.approx(theirs, rel=2e-4)


def test_the_suffix_learns_at_its_own_rate(workshop: Workshops, tmp_path: Path) -> None:
    """With sgd a step is the rate times the gradient: a hundredth of the rate is a hundredth of the first move."""
    shop = workshop(optimizer="sgd")
    moves = []
    for rate in (1.0, 0.01):
        wanted = task(shop, tmp_path / "t", backbone_rate=rate, batch_size=26, last_epoch=1, learning_rate=0.1)
        _, done = run(wanted, shop)
        after = saved(wanted, done, "last")[1]
        name = next(n for n in after if n.endswith("conv5_block3_3_conv/kernel"))
        moves.append(after[name] - shop.networks.backbone.stock.get_layer("conv5_block3_3_conv").get_weights()[0])
    assert np.linalg.norm(moves[0]) > 0
    assert np.linalg.norm(moves[1]) == pytest.approx(0.01 * np.linalg.norm(moves[0]), rel=0.01)


# ---- BatchNorm and precision ----


def norms(model: Any) -> dict[str, list[np.ndarray]]:
    return {
        layer.name: [np.array(w) for w in layer.get_weights()]
        for layer in model.layers
        if type(layer).__name__ == "BatchNormalization"
    }


def test_frozen_batch_norm_never_moves_and_the_stock_network_neither(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop()
    before = [np.array(v) for v in shop.networks.backbone.stock.get_weights()]
    wanted = task(shop, tmp_path / "t", learning_rate=0.1)
    _, done = run(wanted, shop)
    suffix = shop.networks.get("conv5_block2", 10, 8, False)._suffix.model
    for name, values in norms(suffix).items():
        stock = shop.networks.backbone.stock.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(values, stock, strict=True)), name
    assert not any("_bn/" in name for name in saved(wanted, done, "last")[1])
    after = shop.networks.backbone.stock.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_trained_batch_norm_moves_all_four_and_only_above_the_cut(workshop: Workshops, tmp_path: Path) -> None:
    """Its state survives the round trip: the bit-for-bit test above has this case too."""
    shop = workshop(batch_norm="trained")
    wanted = task(shop, tmp_path / "t", batch_norm="trained", last_epoch=2)
    _, done = run(wanted, shop)
    state = saved(wanted, done, "last")[1]
    own = {name.split("/")[-2] + "/" + name.split("/")[-1] for name in state if "_bn/" in name}
    assert own == {
        f"conv5_block3_{i}_bn/{kind}" for i in (1, 2, 3) for kind in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    for name, value in state.items():
        if "_bn/" in name:
            layer = shop.networks.backbone.stock.get_layer(name.split("/")[-2])
            stock = next(v for v in layer.weights if v.path.endswith(name.split("/")[-1]))
            assert not np.array_equal(value, np.asarray(stock)), name


def test_mixed_bfloat16_trains_with_float32_variables(workshop: Workshops, tmp_path: Path) -> None:
    shop = workshop(precision="mixed_bfloat16")
    wanted = task(shop, tmp_path / "t", last_epoch=2)
    result, done = run(wanted, shop)
    assert result.status == "COMPLETED", result.reason
    assert {a.dtype.name for n, a in saved(wanted, done, "last")[1].items() if "optimizer" not in n} == {"float32"}
    _, exact = run(task(workshop(), tmp_path / "exact", last_epoch=2), workshop())
    assert [d.row.val_loss for d in done] == pytest.approx([d.row.val_loss for d in exact], rel=0.15)


# ---- a cut that is not stored ----


def test_without_stored_features_the_losses_are_the_same(workshop: Workshops, tmp_path: Path) -> None:
    """Budget 0: the network begins at the photographs and computes its frozen part again in every epoch."""
    stored, bare = workshop(), workshop(cuts=("pooled",))
    a, b = task(stored, tmp_path / "a", last_epoch=2), task(bare, tmp_path / "b", last_epoch=2)
    assert (a.start, b.start) == ("conv5_block2", "image")
    (one, first), (two, second) = run(a, stored), run(b, bare)
    assert [d.row.loss for d in second] == pytest.approx([d.row.loss for d in first], rel=2e-3)
    assert [d.row.val_loss for d in second] == pytest.approx([d.row.val_loss for d in first], rel=2e-3)
    assert one.trained_parameters == two.trained_parameters
    assert saved(a, first, "last")[1].keys() == saved(b, second, "last")[1].keys(), "and nothing frozen is saved"


# ---- ranks ----

rows = st.builds(
    EpochRow,
    epoch=st.integers(1, 30),
    loss=st.just(0.5),
    accuracy=st.just(0.5),
    val_loss=st.sampled_from([0.1, 0.2, 0.3]),
    val_accuracy=st.sampled_from([0.5, 0.6]),
    seconds=st.just(0.1),
    images=st.just(10),
)


@given(st.lists(rows, max_size=8, unique_by=lambda r: r.epoch))
def test_the_best_epoch_is_the_earlier_of_equals(found: list[EpochRow]) -> None:
    by_loss, by_accuracy = (trial.best_of(tuple(found), o) for o in ("val_loss", "val_accuracy"))
    if not found:
        assert by_loss is None and by_accuracy is None
        return
    assert by_loss == min(found, key=lambda r: (r.val_loss, -r.val_accuracy, r.epoch))
    assert by_accuracy == min(found, key=lambda r: (-r.val_accuracy, r.val_loss, r.epoch))


def test_accuracy_ties_are_broken_by_loss_and_loss_ties_by_accuracy() -> None:
    def row(epoch: int, val_loss: float, val_accuracy: float) -> EpochRow:
        return EpochRow(epoch, 0.5, 0.5, val_loss, val_accuracy, 0.1, 10)

    assert trial.rank_key(row(1, 0.4, 0.9), "val_accuracy") < trial.rank_key(row(2, 0.5, 0.9), "val_accuracy")
    assert trial.rank_key(row(1, 0.9, 0.9), "val_accuracy") < trial.rank_key(row(2, 0.1, 0.8), "val_accuracy")
    assert trial.rank_key(row(1, 0.4, 0.9), "val_loss") < trial.rank_key(row(2, 0.4, 0.8), "val_loss")


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


def test_a_store_that_cannot_be_written_is_no_fault_of_the_trial(workshop: Workshops, tmp_path: Path) -> None:
    """What `on_epoch` raises stops the search; taken for the trial's, a full disk would fail a good configuration."""

    def full(done: trial.EpochDone) -> None:
        raise StoreError("study.db: cannot be read or written (database or disk is full).")

    shop = workshop()
    with pytest.raises(StoreError, match="disk is full"):
        run(task(shop, tmp_path), shop, on_epoch=full)


# ---- the fitted head ----


@pytest.mark.parametrize(("depth", "classes"), [(0, 2), (10, 3)])
def test_from_the_fitted_head_training_begins_where_logistic_regression_ends(
    workshop: Workshops, tmp_path: Path, depth: int, classes: int
) -> None:
    """At a rate that moves nothing the first epoch is the linear fit; at a real one it goes on from there."""
    shop = workshop(classes=classes)
    options = {"unfrozen_layers": depth, "head_width": 0, "fitted_head": 1, "last_epoch": 1}
    fit = logistic.fit_rows(shop, "val_loss", False, 0)
    rows = shop.validation
    wanted = log_loss(fit.logits(shop.features.arrays["pooled"][rows]), shop.labels[rows])
    _, still = run(task(shop, tmp_path / "a", learning_rate=1e-12, **options), shop)
    assert still[0].row.val_loss == pytest.approx(wanted, abs=1e-4)
    _, moved = run(task(shop, tmp_path / "b", learning_rate=1e-3, **options), shop)
    assert moved[0].row.loss != pytest.approx(still[0].row.loss, abs=1e-6)
    _, drawn = run(task(shop, tmp_path / "c", learning_rate=1e-12, **options | {"fitted_head": 0}), shop)
    assert abs(drawn[0].row.val_loss - wanted) > 1e-3
