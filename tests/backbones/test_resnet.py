"""The stock parts of ResNet-50 are the stock network: the same outputs, the same gradients, at every kind of depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tuner.backbones.architecture import architecture
from tuner.backbones.resnet50.tables import STAGES, cut_layer, layer_names
from tuner.backends import backend

OF = architecture(image_size=48)
DEPTHS = (0, 4, 10, 20, 33, 94, 173)


def gradients(model: Any, x: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    """d(sum of pooled * direction) / d(each trainable variable), by "layer/kind", in training mode."""
    variables = model.trainable_variables
    if backend.start() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model(x, training=True) * direction)
        found = tape.gradient(total, variables)
    else:
        import jax
        import jax.numpy as jnp

        fixed = [v.value for v in model.non_trainable_variables]

        def total_of(trained: Any) -> Any:
            return jnp.sum(model.stateless_call(trained, fixed, x, training=True)[0] * direction)

        found = jax.jit(jax.grad(total_of))([v.value for v in variables])
    return {"/".join(v.path.split("/")[-2:]): np.asarray(g) for v, g in zip(variables, found, strict=True)}


def unfreeze(model: Any, depth: int) -> None:
    """The top `depth` layers trainable as the Keras guide has it, BatchNorm kept frozen."""
    top = layer_names()[175 - depth :]
    for layer in model.layers:
        layer.trainable = layer.name in top and type(layer).__name__ != "BatchNormalization"


def pooled_model(resnet: Any) -> Any:
    import keras

    return keras.Model(resnet.inputs, keras.layers.GlobalAveragePooling2D()(resnet.outputs[0]))


@pytest.fixture(scope="module")
def whole(stock_resnet: Callable[[], Any]) -> Any:
    return pooled_model(stock_resnet())


@pytest.fixture(scope="module")
def precise(stock_resnet: Callable[[], Any]) -> tuple[Any, float]:
    """The stock network for gradients, and how near they must be. In float64 where the backend has it: in float32 a
    rounding that moves one number across a ReLU's kink changes a gradient by a few per mille."""
    import keras

    backend_has_float64 = keras.backend.backend() == "tensorflow"
    keras.config.set_dtype_policy("float64" if backend_has_float64 else "float32")
    try:
        return pooled_model(stock_resnet()), 1e-6 if backend_has_float64 else 2e-2
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def direction() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(6, 2048))


def close(found: np.ndarray, wanted: np.ndarray, rounding: float = 1e-4) -> bool:
    """Equal to float32 rounding that has come through up to 53 convolutions: relative to the array's own size."""
    return bool(np.abs(found - wanted).max() <= rounding * np.abs(wanted).max())


def holds(suffix: Any, cut: str, trained: tuple[str, ...], backbone: Any) -> None:
    """Every layer above the cut, as a copy, in order, and only the right ones trainable."""
    own = [layer for layer in suffix.layers[1:] if layer.name in layer_names()]
    assert [layer.name for layer in own] == list(layer_names()[OF.layers - OF.layers_above(cut) :])
    assert {layer.name for layer in own if layer.trainable_variables} == set(trained)
    assert all(layer is not backbone.stock.get_layer(layer.name) for layer in own), "training must not change the stock"


def test_prefix_and_suffix_give_the_stock_networks_outputs(
    whole: Any, backbone: Any, squares: np.ndarray, preprocessed: np.ndarray
) -> None:
    wanted = np.asarray(whole(preprocessed[:6], training=False))
    used = sorted({OF.cut_for(d, "frozen") for d in DEPTHS} - {"image"}, key=OF.index)
    at = dict(zip(used, backend.forward(backbone.stock_prefix("image", used))(squares[:6]), strict=True))
    at["image"] = squares[:6]
    assert close(at["pooled"], wanted)
    for depth in DEPTHS[1:]:
        cut = OF.cut_for(depth, "frozen")
        suffix = backbone.stock_suffix(cut, depth, "frozen", "float32")
        # In training mode as well: frozen BatchNorm ignores the mode.
        assert close(np.asarray(suffix(at[cut], training=depth in (10, 94))), wanted), depth
        holds(suffix, cut, OF.trained(depth, "frozen"), backbone)
    suffix = backbone.stock_suffix("conv5_block1", 20, "trained", "float32")
    holds(suffix, "conv5_block1", OF.trained(20, "trained"), backbone)


@pytest.mark.parametrize(
    ("depth", "start"),
    [(10, "conv5_block1"), (173, "image")],
)
def test_the_suffix_gives_the_stock_networks_gradients(
    depth: int,
    start: str,
    precise: tuple[Any, float],
    backbone: Any,
    squares: np.ndarray,
    preprocessed: np.ndarray,
    direction: np.ndarray,
) -> None:
    """Also where the network starts from a stored cut below its own: what lies between is frozen there too."""
    import keras

    assert OF.index(start) <= OF.index(OF.cut_for(depth, "frozen"))
    (whole, rounding), precision = precise, precise[0].dtype_policy.name
    unfreeze(whole, depth)
    wanted = gradients(whole, preprocessed[:6].astype(precision), direction.astype(precision))
    source = squares[:6]
    if start != "image":
        below = keras.Model(whole.inputs, whole.get_layer(cut_layer(start)).output)
        source = np.asarray(below(preprocessed[:6].astype(precision), training=False))
    found = gradients(backbone.stock_suffix(start, depth, "frozen", precision), source, direction.astype(precision))
    if "conv1_conv/kernel" in wanted:
        wanted["conv1_conv/kernel"] = wanted["conv1_conv/kernel"][:, :, ::-1, :]
    assert set(found) == set(wanted) == {f"{n}/{k}" for n in OF.trained(depth, "frozen") for k in ("kernel", "bias")}
    for name, value in wanted.items():
        assert np.linalg.norm(found[name] - value) <= rounding * np.linalg.norm(value), name


def test_the_prefix_is_the_stock_layers_themselves(backbone: Any) -> None:
    prefix = backbone.stock_prefix("image", ["conv2_block1", "pooled"])
    own = [layer for layer in prefix.layers if layer.name in layer_names()[1:]]
    assert all(layer is backbone.stock.get_layer(layer.name) for layer in own)
    assert [layer.name for layer in own] == list(layer_names()[1:]), "each frozen layer once, whatever is wanted"
    assert not prefix.trainable_variables


def test_a_prefix_can_begin_at_a_stored_cut(backbone: Any, squares: np.ndarray) -> None:
    low, high = backend.forward(backbone.stock_prefix("image", ["conv4_block2", "conv5_block1"]))(squares[:6])
    (again,) = backend.forward(backbone.stock_prefix("conv4_block2", ["conv5_block1"]))(low)
    assert close(again, high)
    assert [layer.name for layer in backbone.stock_prefix("conv4_block2", ["pooled"]).layers][
        1
    ] == "conv4_block3_1_conv"


def test_random_weights_give_features_of_order_one(backbone: Any, squares: np.ndarray) -> None:
    wanted = ["stem", *(f"{stage}_block1" for stage, _, _ in STAGES), "pooled"]
    for cut, values in zip(wanted, backend.forward(backbone.stock_prefix("image", wanted))(squares[:32]), strict=True):
        assert np.isfinite(values).all()
        assert 0.05 < np.sqrt(np.mean(values**2)) < 20, cut


def test_the_number_of_parameters_is_kerass(backbone: Any) -> None:
    assert backbone.parameters() == 23_587_712
