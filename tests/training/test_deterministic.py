"""The same step from the same state gives the same bits, whatever finishes first among the threads of a backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuner.backends import backend
from tuner.features import sets


def network(
    backbone: Any, depth: int, batch_norm: str, classes: int, several: bool = False
) -> tuple[Any, tuple[Any, ...]]:
    """A network that begins at its own cut, and inputs, targets and weights of a batch of four for it."""
    from tuner.training.network import Networks

    of = backbone.architecture
    start, cuts = of.cut_for(depth, batch_norm), sets.widest(of, 4) if several else ("pooled",)
    networks = Networks(backbone, classes, batch_norm, "adam", "float32", (0, 8))
    found = networks.get(start, depth, 8, True, cuts=cuts)
    draw = np.random.default_rng(0)
    x: Any = draw.random((4, *of.shape(start)), np.float32)
    if several:
        beside = sets.beside(cuts, start, of)
        x = x, draw.random((4, sum(of.shape(cut)[-1] for cut in beside)), np.float32)
    targets = np.eye(classes, dtype=np.float32)[np.arange(4) % classes]
    return found, (x, targets if classes > 2 else targets[:, 1:], np.ones(4, np.float32))


@pytest.mark.skipif(backend.start() != "tensorflow", reason="of TensorFlow's graphs; XLA adds in a fixed order")
@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
@pytest.mark.parametrize(("classes", "several"), [(2, False), (3, False), (2, True)])
def test_no_gradient_is_a_sum_of_three(backbone: Any, batch_norm: str, classes: int, several: bool) -> None:
    """TensorFlow may add three and more in the order in which they arrive; two are the same in either."""
    import tensorflow as tf

    depths = (62,) if several else (0, 62) if classes == 2 else (0, 10)  # what 10 layers are is in 62
    for depth in depths:  # the loss differs, what is below the head does not
        trained, batch = network(backbone, depth, batch_norm, classes, several)
        numbers = [*batch, np.float32(4), tuple(np.zeros(len(trained.decays(0, 1)) + 1, np.float32))]
        specs = tf.nest.map_structure(lambda a: tf.TensorSpec(np.shape(a), tf.float32), numbers)
        graph = trained.stepper._step.get_concrete_function(*specs).graph
        sums = {op.name: len(op.inputs) for op in graph.get_operations() if op.type == "AddN"}
        assert all(terms == 2 for terms in sums.values()), (depth, sums)


@pytest.mark.parametrize(
    ("depth", "batch_norm", "several"), [(94, "frozen", False), (62, "trained", False), (94, "frozen", True)]
)
def test_the_same_steps_give_the_same_bits_in_a_deep_network(
    backbone: Any, depth: int, batch_norm: str, several: bool
) -> None:
    trained, (x, targets, weights) = network(backbone, depth, batch_norm, 2, several)
    found = set()
    for _ in range(3):
        trained.reset(1, "c000")
        trained.set_rate(1e-4, 1.0)
        trained.set_dropout(0.5)
        trained.seed_dropout(1)
        for _ in range(3):
            trained.stepper.train(x, targets, weights, 4, trained.decays(0.0, 1.0))
        found.add(b"".join(np.ascontiguousarray(v).tobytes() for _, v in sorted(trained.state().items())))
    assert len(found) == 1


def test_trained_batch_norm_is_kerass(backbone: Any) -> None:
    """Outputs, gradients and moving statistics to rounding, and inference bit for bit."""
    import keras

    from tuner.backbones.normalizing import TrainedBatchNormalization

    draw = np.random.default_rng(3)
    values = [draw.normal(1, 0.5, 6), draw.normal(0, 1, 6), draw.normal(0, 1, 6), draw.uniform(0.5, 2, 6)]
    layers = [kind(epsilon=1e-5) for kind in (TrainedBatchNormalization, keras.layers.BatchNormalization)]
    x = keras.Input((3, 3, 6))
    models = [keras.Model(x, layer(x)) for layer in layers]
    data = draw.normal(2, 3, (5, 3, 3, 6)).astype(np.float32)
    for layer in layers:
        layer.set_weights([v.astype(np.float32) for v in values])
    assert np.array_equal(*(np.asarray(m(data, training=False)) for m in models))
    assert np.allclose(*(np.asarray(m(data, training=True)) for m in models), atol=1e-5)
    for mine, theirs in zip(*(layer.get_weights() for layer in layers), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(data, np.ones_like(data))
    for mine, theirs in zip(*(layer.get_weights() for layer in layers), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    for layer in layers:
        layer.set_weights([v.astype(np.float32) for v in values])
        layer.trainable = False
    assert np.array_equal(*(np.asarray(m(data, training=True)) for m in models))
