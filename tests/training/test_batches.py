"""Batches hold every row once; one that is not filled up is what stock Keras takes under trained BatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.configuration import Configuration
from tuner.spec.seeds import generator
from tuner.training.batches import batches


@given(st.integers(0, 40), st.integers(1, 50), st.booleans())
def test_every_row_is_real_once_and_in_order(n: int, size: int, padded: bool) -> None:
    order = np.random.default_rng(n).permutation(n) + 100
    found = list(batches(order, size, padded=padded))
    assert np.array_equal(np.concatenate([order[:0], *(rows[:real] for rows, real in found)]), order)
    wanted = min(size, n)
    assert all(real == wanted for _, real in found[:-1]) and all(real for _, real in found)
    assert all(len(rows) == (wanted if padded else real) for rows, real in found)
    assert all(set(rows) <= set(order) for rows, _ in found)


def test_the_filling_comes_from_the_beginning_of_the_order() -> None:
    order = np.array([5, 3, 8, 1, 9])
    assert [(list(rows), real) for rows, real in batches(order, 3, padded=True)] == [([5, 3, 8], 3), ([1, 9, 5], 2)]


def test_under_trained_batch_norm_a_batch_not_filled_up_is_stock_keras(
    context_of: Callable[..., Any], stock_resnet: Callable[[], Any], preprocessed: np.ndarray, tmp_path: Path
) -> None:
    """Losses and moving statistics of Keras's own `fit` on the same 26 rows in batches of 10, to rounding; with the
    last one filled up both are others."""
    import keras

    context = context_of(tmp_path, batch_norm="trained", optimizer="sgd")
    network = context.network(Configuration(unfrozen_layers=10, head_width=8))
    order = context.train[generator(0, "c000", "shuffle", 1).permutation(len(context.train))]
    targets = context.labels[:, None].astype(np.float32)

    def epoch(padded: bool) -> tuple[float, dict[str, np.ndarray]]:
        network.reset(0, "c000")
        network.set_rate(1e-3, 1.0)
        total = 0.0
        for rows, real in batches(order, 10, padded=padded):
            weights = (np.arange(len(rows)) < real).astype(np.float32)
            x = np.asarray(context.features.arrays["conv5_block2"][rows])
            total += float(network.stepper.train(x, targets[rows], weights, real, network.decays(0.0, 1.0))[0])
        return total / len(order), {"/".join(n.split("/")[-2:]): v for n, v in network.weights().items()}

    network.reset(0, "c000")
    head = network.weights()
    stock = stock_resnet()
    for index, layer in enumerate(stock.layers):
        layer.trainable = index >= 175 - 10
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    x = keras.layers.GlobalAveragePooling2D()(stock.outputs[0])
    for layer in layers:
        x = layer(x)
    for layer, name in zip(layers, ("head_hidden", "head_logits"), strict=True):
        layer.set_weights([head[f"{name}/kernel"], head[f"{name}/bias"]])
    model = keras.Model(stock.inputs, x)
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), keras.losses.BinaryCrossentropy(True), run_eagerly=eager)
    wanted = model.fit(preprocessed[order], targets[order], batch_size=10, shuffle=False, verbose=0).history["loss"][0]

    statistics = [
        f"conv5_block3_{i}_bn/{kind}" for i in (1, 2, 3) for kind in ("moving_mean", "moving_variance", "gamma")
    ]
    theirs = {"/".join(v.path.split("/")[-2:]): np.asarray(v) for v in stock.weights}

    def apart(ours: dict[str, np.ndarray]) -> float:
        return max(float(np.linalg.norm(ours[n] - theirs[n]) / np.linalg.norm(theirs[n])) for n in statistics)

    loss, ours = epoch(padded=False)
    assert loss == pytest.approx(wanted, rel=2e-4) and apart(ours) < 2e-4
    loss, filled = epoch(padded=True)
    assert loss != pytest.approx(wanted, rel=2e-4) or apart(filled) > 10 * apart(ours)
