"""What a search runs of ResNet-50 computes the stock network: the same outputs, gradients and trained layers, at every
kind of depth, from every kind of stored cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_resnet import DEPTHS, close, direction, gradients, precise, unfreeze, whole  # noqa: F401 (fixtures)

from tuner.backbones.resnet50.tables import STAGE_ENDS, cut_layer
from tuner.backends import backend


def stored(values: np.ndarray, cut: str) -> np.ndarray:
    return values[:, ::2, ::2] if cut in STAGE_ENDS else values


def stock_at(backbone: Any, used: list[str], squares: np.ndarray) -> dict[str, np.ndarray]:
    """What the stock layers give at each cut, of a stage's end the pixels that are stored."""
    outputs = backend.forward(backbone.stock_prefix("image", used))(squares)
    return {cut: stored(values, cut) for cut, values in zip(used, outputs, strict=True)} | {"image": squares}


def test_every_cut_is_the_stock_networks(backbone: Any, squares: np.ndarray) -> None:
    used = list(backbone.architecture.cuts[1:])
    wanted = stock_at(backbone, used, squares[:6])
    found = dict(zip(used, backend.forward(backbone.prefix("image", used))(squares[:6]), strict=True))
    for cut in used:
        assert found[cut].shape[1:] == backbone.architecture.shape(cut), cut
        assert close(found[cut], wanted[cut]), cut
    for start, end in zip(used, used[1:], strict=False):  # from every stored cut too
        (again,) = backend.forward(backbone.prefix(start, [end]))(found[start])
        assert close(again, wanted[end]), (start, end)


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_every_suffix_gives_the_stock_networks_outputs(backbone: Any, squares: np.ndarray, batch_norm: str) -> None:
    depths, of = [d for d in DEPTHS if d], backbone.architecture
    used = sorted({of.cut_for(d, batch_norm) for d in depths} - {"image"} | {"pooled"}, key=of.index)
    at = stock_at(backbone, used, squares[:6])
    for depth in depths:
        cut = of.cut_for(depth, batch_norm)
        suffix = backbone.suffix(cut, depth, batch_norm, "float32")
        # In training mode as well where BatchNorm is frozen: it ignores the mode.
        training = batch_norm == "frozen" and depth in (10, 94)
        assert close(np.asarray(suffix(at[cut], training=training)), at["pooled"]), depth
        trained = {layer.name for layer in suffix.layers if layer.trainable_variables}
        assert trained == set(of.trained(depth, batch_norm))


@pytest.mark.parametrize(
    ("depth", "start"),
    [
        (10, "conv5_block1"),
        (32, "conv4_block6"),
        (33, "conv4_block5"),
        (104, "conv3_block2"),
        (173, "image"),
    ],
)
def test_the_gradients_are_the_stock_networks(
    depth: int,
    start: str,
    precise: tuple[Any, float],  # noqa: F811
    backbone: Any,
    squares: np.ndarray,
    preprocessed: np.ndarray,
    direction: np.ndarray,  # noqa: F811
) -> None:
    """Also where the network starts from a stored cut below its own, and through the ends of stages."""
    import keras

    (whole, rounding), precision = precise, precise[0].dtype_policy.name  # noqa: F811
    unfreeze(whole, depth)
    wanted = gradients(whole, preprocessed[:6].astype(precision), direction.astype(precision))
    source = squares[:6]
    if start != "image":
        below = keras.Model(whole.inputs, whole.get_layer(cut_layer(start)).output)
        source = stored(np.asarray(below(preprocessed[:6].astype(precision), training=False)), start)
    found = gradients(backbone.suffix(start, depth, "frozen", precision), source, direction.astype(precision))
    if "conv1_conv/kernel" in wanted:
        wanted["conv1_conv/kernel"] = wanted["conv1_conv/kernel"][:, :, ::-1, :]
    assert (
        set(found)
        == set(wanted)
        == {f"{n}/{k}" for n in backbone.architecture.trained(depth, "frozen") for k in ("kernel", "bias")}
    )
    for name, value in wanted.items():
        assert np.linalg.norm(found[name] - value) <= rounding * np.linalg.norm(value), name


def test_trained_batch_norm_sees_every_pixel(backbone: Any, stock_resnet: Any, squares: np.ndarray) -> None:
    """Its statistics are over the whole activation, also at a stage's end of which half the pixels go on."""
    depth = 42  # down into conv4_block6
    start = backbone.architecture.cut_for(depth, "trained")
    (at,) = backend.forward(backbone.stock_prefix("image", [start]))(squares[:6])
    ours = backbone.suffix(start, depth, "trained", "float32")
    stock = backbone.stock_suffix(start, depth, "trained", "float32")
    assert close(np.asarray(ours(stored(at, start), training=True)), np.asarray(stock(at, training=True)))
    for layer in stock.layers:
        if layer.name.endswith("_bn") and layer.trainable:
            for mine, theirs in zip(ours.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                assert close(mine, theirs), layer.name


def test_pretrain_puts_the_trained_layers_back(backbone: Any) -> None:
    for batch_norm in ("frozen", "trained"):
        suffix = backbone.suffix("conv5_block1", 20, batch_norm, "float32")
        before = [np.array(v) for v in suffix.variables]
        for v in suffix.trainable_variables:
            v.assign(np.array(v) + 1)
        backbone.pretrain(suffix)
        assert all(np.array_equal(a, np.array(v)) for a, v in zip(before, suffix.variables, strict=True))


def test_the_means_are_those_of_what_is_stored_from_every_start_and_by_stock_layers(
    backbone: Any, squares: np.ndarray
) -> None:
    """Through two ends of stages; also of the cut that a pass begins at."""
    cuts = ["pooled", "conv5_block1", "conv4_block6", "conv3_block4", "stem"]
    used = [cut for cut in backbone.architecture.cuts[1:] if cut in cuts]
    at = dict(zip(used, backend.forward(backbone.prefix("image", used))(squares[:6]), strict=True))
    wanted = {cut: values.mean(axis=(1, 2)) if values.ndim == 4 else values for cut, values in at.items()}
    stored, *means = backend.forward(backbone.prefix_with_means("image", ["conv4_block6"], cuts[1:]))(squares[:6])
    assert close(stored, at["conv4_block6"])
    assert all(close(mean, wanted[cut]) for mean, cut in zip(means, cuts[1:], strict=True))
    again = backend.forward(backbone.prefix_with_means("conv4_block6", [], cuts[1:3]))(at["conv4_block6"])
    assert all(close(mean, wanted[cut]) for mean, cut in zip(again, cuts[1:3], strict=True))
    (joined,) = backend.forward(backbone.stock_means(cuts))(squares[:6])
    assert close(joined, np.concatenate([wanted[cut] for cut in cuts], axis=1))
    (alone,) = backend.forward(backbone.stock_means(["pooled"]))(squares[:6])
    assert close(alone, wanted["pooled"])


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_the_means_in_what_is_trained_are_the_stock_networks_and_so_are_their_gradients(
    batch_norm: str, backbone: Any, squares: np.ndarray
) -> None:
    """Through an end of a stage, of which every second pixel counts. Nothing is kept of trained BatchNorm's pass, whose
    moments come from six images here and are not stable enough to be compared behind many layers."""
    import keras

    depth, start, cuts = 62, "conv4_block3", ["conv4_block6", "conv4_block4", "conv5_block2"]
    (at,) = backend.forward(backbone.stock_prefix("image", [start]))(squares[:6])
    found, wanted = (of(start, depth, batch_norm, "float32", cuts) for of in (backbone.suffix, backbone.stock_suffix))
    for mine, theirs in zip(found(at, training=False), wanted(at, training=False), strict=True):
        assert close(np.asarray(mine), np.asarray(theirs))
    if batch_norm == "frozen":
        joined = [keras.Model(m.inputs, keras.layers.Concatenate()(m.outputs)) for m in (found, wanted)]
        direction = np.random.default_rng(5).normal(size=(6, 2048 + 1024 + 1024 + 2048)).astype(np.float32)
        mine, theirs = (gradients(model, at, direction) for model in joined)
        assert mine.keys() == theirs.keys()
        assert all(np.linalg.norm(mine[n] - theirs[n]) <= 1e-3 * np.linalg.norm(theirs[n]) for n in theirs)
    backbone.pretrain(found)
