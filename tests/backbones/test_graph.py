"""The default backbone, of any Keras functional network: held against ResNet-50's own tables and fast path, and against
stock Keras for other families, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resnet import close, gradients

from tuner.backbones.architecture import architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.resnet50 import tables
from tuner.backbones.weights import Weights
from tuner.backends import backend

SIDE = 64
RANDOM = Weights("random", "random", None, "graph-tests")
DEPTHS = {"ResNet50V2": 29, "MobileNetV3Small": 40, "EfficientNetV2B0": 38}
"""Layers unfrozen: in each network down into the middle of a block, beside branches that stay frozen."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)


@cache
def family(name: str) -> tuple[Any, Any]:
    """A stock network in float64 with drawn weights and moving statistics, pooled and with its preprocessing, and the
    default backbone of the same numbers: in float32 a rounding across a ReLU's kink changes a gradient by per mille.
    """
    backend.start()
    import keras

    from tuner.backbones.graph import Graph

    make = getattr(keras.applications, name)
    preprocess = keras.applications.resnet_v2.preprocess_input if name == "ResNet50V2" else None
    keras.config.set_dtype_policy("float64" if keras.backend.backend() == "tensorflow" else "float32")
    try:
        ours, stock = (make(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3)) for _ in range(2))
        image = keras.Input((SIDE, SIDE, 3), dtype="float32")
        x = stock(preprocess(image) if preprocess else image)
        whole = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    finally:
        keras.config.set_dtype_policy("float32")
    draw = np.random.default_rng(1)
    for layer in stock.layers:
        if type(layer).__name__ == "Dropout":
            layer.rate = 0.0  # as when the guide calls a base model in inference mode
        if type(layer).__name__ == "BatchNormalization":
            some = draw.uniform(0.5, 1.5, (4, layer.gamma.shape[0]))
            layer.set_weights([some[0], some[1] - 1, some[2] - 1, some[3]])
    ours.set_weights(stock.get_weights())
    return (whole, stock), Backbone(Graph(ours, name=name.lower(), preprocess=preprocess), RANDOM)


def losses(model: Any, x: np.ndarray, steps: int = 3) -> list[float]:
    """Losses of gradient descent on the mean of squares of the pooled features, in training mode."""
    import keras

    model.compile(keras.optimizers.SGD(1e-3), lambda targets, pooled: keras.ops.mean(pooled**2, axis=-1))
    return [float(model.train_on_batch(x, np.zeros(len(x), np.float32))) for _ in range(steps)]


def unfreeze(stock: Any, depth: int) -> None:
    """The top `depth` layers trainable as Keras's guide has it, BatchNorm kept frozen."""
    for number, layer in enumerate(stock.layers):
        layer.trainable = number >= len(stock.layers) - depth and type(layer).__name__ != "BatchNormalization"


@pytest.mark.parametrize("name", DEPTHS)
def test_prefix_and_suffix_are_the_stock_network_with_its_top_layers_unfrozen(name: str, images: np.ndarray) -> None:
    """The same outputs, gradients, and outputs after a step along them; then the weights are put back."""
    (whole, stock), ours = family(name)
    of, depth, precision = ours.architecture, DEPTHS[name], stock.layers[-1].dtype_policy.name
    cut, rounding = of.cut_for(depth, "frozen"), 1e-5 if precision == "float64" else 2e-2
    assert of.name == name.lower() and of.image_size == SIDE and of.layers == len(stock.layers)
    assert cut not in ("image", "pooled")
    unfreeze(stock, depth)
    suffix, x = ours.suffix(cut, depth, "frozen", precision), images.astype(np.float32)
    wanted, before = np.asarray(whole(x)), stock.get_weights()
    features, pooled = backend.forward(ours.prefix("image", [cut, "pooled"]))(images)
    assert features.shape[1:] == of.shape(cut) and pooled.shape[1:] == (of.width,)
    assert close(pooled, wanted) and close(np.asarray(suffix(features, training=True)), wanted)

    direction = np.random.default_rng(5).normal(size=wanted.shape).astype(precision)
    mine, theirs = gradients(suffix, features, direction), gradients(whole, x, direction)
    assert {path.split("/")[0] for path in mine} == set(of.trained(depth, "frozen"))
    assert set(mine) == set(theirs), "the same variables are trained"
    for path, value in theirs.items():
        assert np.linalg.norm(mine[path] - value) <= rounding * np.linalg.norm(value), path

    kept = [np.array(v) for v in suffix.trainable_variables]
    for model, found in ((suffix, mine), (whole, theirs)):
        for v in model.trainable_variables:
            gradient = found["/".join(v.path.split("/")[-2:])]
            v.assign(np.array(v) - 0.01 * gradient * np.linalg.norm(v) / np.linalg.norm(gradient))
    after = np.asarray(whole(x))
    stock.set_weights(before)
    assert close(np.asarray(suffix(features, training=True)), after) and not close(after, wanted)
    ours.pretrain(suffix)
    assert all(np.array_equal(a, np.array(v)) for a, v in zip(kept, suffix.trainable_variables, strict=True))


@pytest.mark.parametrize("name", DEPTHS)
def test_a_cut_is_a_tensor_that_every_path_goes_through(name: str, images: np.ndarray) -> None:
    """From each cut alone, what is above it gives the pooled features, whatever stands below."""
    _, ours = family(name)
    cuts = ours.architecture.cuts[len(ours.architecture.cuts) // 2 :: 5]
    *at, wanted = backend.forward(ours.prefix("image", [*cuts, "pooled"]))(images)
    for cut, features in zip(cuts, at, strict=True):
        assert close(np.asarray(ours.prefix(cut, ["pooled"])(features)), wanted), cut


@pytest.mark.parametrize("name", DEPTHS)
def test_every_depth_is_cut_below_all_that_it_trains(name: str) -> None:
    """What a depth trains is what Keras's top layers hold; nothing of it is below the cut, and the next cut is."""
    (_, stock), ours = family(name)
    of = ours.architecture
    for layer in stock.layers:
        layer.trainable = True
    for depth in range(0, of.layers + 1, 7):
        top = stock.layers[of.layers - depth :]
        for batch_norm in ("frozen", "trained"):
            norms = ("BatchNormalization",) if batch_norm == "frozen" else ()
            held = [v for x in top if type(x).__name__ not in norms for v in x.trainable_variables]
            cut, trained = of.cut_for(depth, batch_norm), of.trained(depth, batch_norm)
            assert len(held) == sum(len(ours.graph.layer(n).weights) - 2 * n.endswith("bn") for n in trained)
            regions = {layer.name: layer.region for layer in of.table}
            assert min((regions[n] for n in trained), default=len(of.cuts)) == of.index(cut) + 1
            assert of.trained(of.canonical(depth, batch_norm), batch_norm) == trained


def test_names_are_the_same_whatever_was_made_before() -> None:
    """Keras numbers unnamed layers by all that a process has made; keys and checkpoints must not change with that."""
    import keras

    from tuner.backbones.graph import Graph

    first, again = (
        Graph(keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3)), name="m")
        for _ in range(2)
    )
    assert first.architecture.cuts == again.architecture.cuts
    assert first.architecture.table == again.architecture.table
    paths = [[v.path for v in graph.suffix("image", 157, "trained", "float32").variables] for graph in (first, again)]
    assert paths[0] == paths[1]


def test_another_family_is_stored_trained_and_exported_like_resnet50(images: np.ndarray, tmp_path: Path) -> None:
    """Nothing outside the backbones knows which one it is: features, a compiled network, and a file that plain Keras
    loads and that says what the trained network says."""
    import keras

    from tuner.backbones.graph import Graph
    from tuner.export.model import build
    from tuner.features import bank
    from tuner.training.network import Networks, probabilities

    network = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    ours, depth = Backbone(Graph(network, name="mobilenetv3small"), RANDOM), 18
    cut = ours.architecture.cut_for(depth, "frozen")
    stored = bank.ensure(ours, images, "images", wanted=(cut, "pooled"), cache=tmp_path)
    trained = Networks(ours, 2, "frozen", "adam", "float32", (0, 8)).get(cut, depth, 8, False)
    trained.reset(1, "c000")
    trained.set_rate(1e-3, 1.0)
    for _ in range(3):
        batch = np.array(stored.arrays[cut]), np.array([[0.0], [1.0]], np.float32), np.ones(2, np.float32)
        trained.stepper.train(*batch, 2, trained.decays(0.0, 1.0))
    said = probabilities(np.asarray(trained.model(stored.arrays[cut])))
    model = build(
        ours,
        trained.weights(),
        unfrozen_layers=depth,
        head_width=8,
        batch_norm="frozen",
        precision="float32",
        resize="crop",
        classes=("a", "b"),
        squares=True,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert close(np.asarray(loaded(images.astype(np.float32))), said)


# ---- on ResNet-50 itself ----


@pytest.fixture(scope="module")
def default(backbone: Any) -> Backbone:
    """The product's ResNet-50 by the default implementation."""
    return Backbone(backbone.graph, backbone.weights)


def test_the_default_finds_resnet50s_table(backbone: Any) -> None:
    """Its layers, what they read, how many numbers they hold, and its cuts; multiply-adds are those of stock Keras."""
    ours, default = architecture(image_size=backbone.image_size), backbone.graph.architecture
    assert default.cuts == tuple(map(tables.cut_layer, ours.cuts))

    def facts(of: Any) -> list[Any]:
        return [(x.name, x.region, x.kind, x.size, frozenset(x.sources), x.macs > 0) for x in of.table]

    assert facts(default) == facts(ours)
    assert backbone.parameters() == backbone.stock.count_params()
    for depth in range(176):
        for batch_norm in ("frozen", "trained"):
            assert default.cut_for(depth, batch_norm) == tables.cut_layer(ours.cut_for(depth, batch_norm))
            assert default.canonical(depth, batch_norm) == ours.canonical(depth, batch_norm)


def test_the_default_counts_the_designs_multiply_adds() -> None:
    """design, "Numbers to know", in millions: the stem, then the sixteen blocks."""
    import keras

    from tuner.backbones.graph import Graph

    network = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    of = Graph(network, name="resnet50").architecture
    million = [round(of.macs(a, b) / 1e6) for a, b in zip(of.cuts, of.cuts[1:], strict=False)]
    assert million == [118, 231, 218, 218, 295, 218, 218, 218, 295, 218, 218, 218, 218, 218, 295, 218, 218]
    assert round(of.macs("image", "pooled") / 1e6) == 3856


@pytest.mark.parametrize(("depth", "batch_norm"), [(42, "frozen"), (20, "trained")])
def test_training_by_the_default_is_training_by_the_fast_path(
    depth: int, batch_norm: str, backbone: Any, default: Backbone, squares: np.ndarray
) -> None:
    """The same losses to rounding, each from its own features, through the end of a stage too."""

    def trained(of: Any) -> list[float]:
        cut = of.architecture.cut_for(depth, batch_norm)
        (features,) = backend.forward(of.prefix("image", [cut]))(squares[:8])
        suffix = of.suffix(cut, depth, batch_norm, "float32")
        return losses(suffix, features)

    fast, slow = trained(backbone), trained(default)
    assert fast[-1] < fast[0]
    np.testing.assert_allclose(slow, fast, rtol=1e-3 if batch_norm == "trained" else 1e-4)


# ---- what can be cut, and what cannot ----


def chain(*layers: Callable[[], Any]) -> Any:
    import keras

    image = x = keras.Input((8, 8, 3))
    for make in layers:
        x = make()(x)
    return keras.Model(image, x)


def test_a_frozen_branch_beside_a_trained_one_is_above_the_cut() -> None:
    """Keras's order puts a long branch's first layers below a short one's: the cut is below both."""
    import keras

    from tuner.backbones.graph import Graph

    image = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(4, 3, name="stem")(image)
    long = keras.layers.Conv2D(4, 1, name="long_2")(keras.layers.Conv2D(4, 1, name="long_1")(stem))
    short = keras.layers.Conv2D(4, 1, name="short")(stem)
    both = keras.layers.Add(name="both")([long, short])
    of = Graph(keras.Model(image, keras.layers.Dense(5, name="top")(both)), name="made").architecture
    assert [layer.name for layer in of.table] == ["input_layer", "stem", "long_1", "long_2", "short", "both", "top"]
    assert of.cuts == ("image", "stem", "both", "pooled")
    assert of.trained(3, "frozen") == ("short", "top") and of.cut_for(3, "frozen") == "stem"
    assert of.shape("pooled") == (5,) and of.macs("both", "pooled") == 6 * 6 * 4 * 5
    # Forward; the weights of short and top; the gradient of the top's input alone, for stem and long are frozen.
    assert of.step_macs("stem", 3, "frozen") == (36 * (3 * 16 + 20) + 36 * (16 + 20) + 36 * 20, 36 * (3 * 16 + 20))


def test_multiply_adds_of_every_kind_of_kernel() -> None:
    """Counted by hand: kernel numbers times output pixels."""
    from keras import layers

    from tuner.backbones.graph import Graph

    of = Graph(
        chain(
            lambda: layers.Conv2D(6, 3, strides=2, padding="same", groups=3),
            lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            lambda: layers.SeparableConv2D(7, 3, padding="valid"),
            layers.GlobalAveragePooling2D,
            lambda: layers.Dense(11),
        ),
        name="made",
    ).architecture
    found = [layer.macs for layer in of.table if layer.macs]
    assert found == [9 * 1 * 6 * 16, 9 * 12 * 16, (9 * 12 + 12 * 7) * 4, 7 * 11]


def test_a_network_that_cannot_be_cut_is_refused_with_what_is_expected() -> None:
    import keras

    from tuner.backbones.graph import Graph

    free = keras.applications.MobileNetV2(weights=None, include_top=False)
    with pytest.raises(ValueError, match=r"expected one input of \(None, side, side, channels\), received .*None"):
        Graph(free, name="free")
    image, twice = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same")
    with pytest.raises(ValueError, match="layers that are called once each"):
        Graph(keras.Model(image, twice(twice(image))), name="shared")
