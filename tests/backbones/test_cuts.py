"""The plain tables against Keras's real network, and the properties that every depth has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.backbones import cuts

DEPTHS = range(176)
EDGES = (0, 10, 20, 32, 42, 52, 62, 72, 82, 94, 104, 114, 124, 136, 146, 156, 168)
"""Layers from the top down to each block's lower edge: what study.toml calls block boundaries."""


@pytest.fixture(scope="module", params=[64, 75])
def network(request: pytest.FixtureRequest) -> Any:
    """Keras's own network at an even and an odd size, with the side."""
    from tuner.backends import backend

    backend.start()
    import keras

    side = request.param
    photograph = keras.Input((side, side, 3), name="input_layer")
    return side, keras.applications.ResNet50(weights=None, include_top=False, input_tensor=photograph)


def test_the_layers_are_kerass_own_in_its_order(network: Any) -> None:
    assert cuts.layer_names() == tuple(layer.name for layer in network[1].layers)
    assert len(cuts.layer_names()) == 175


def test_the_arrays_of_every_layer_have_kerass_shapes_in_its_order(network: Any) -> None:
    wanted = {layer.name: tuple(v.shape for v in layer.get_weights()) for layer in network[1].layers if layer.weights}
    assert list(cuts.weight_shapes().items()) == list(wanted.items())


def test_every_cut_has_the_shape_keras_gives_its_layer(network: Any) -> None:
    side, model = network
    for cut in cuts.CUTS[:-1]:
        shape = tuple(model.get_layer(cuts.cut_layer(cut)).output.shape[1:])
        assert cuts.layer_shape(cut, side) == shape, cut
        stored = np.zeros(shape)[::2, ::2].shape if cut in cuts.STAGE_ENDS else shape
        assert cuts.feature_shape(cut, side) == stored, cut
    assert cuts.feature_shape("pooled", side) == (model.output.shape[-1],)


def test_of_a_stages_end_no_pixel_is_read_but_every_second(network: Any) -> None:
    """What makes it right to store no more: every layer that reads it is a 1x1 convolution with stride 2."""
    _, model = network
    for cut in cuts.CUTS[1:-1]:
        readers = [node.operation for node in model.get_layer(cuts.cut_layer(cut))._outbound_nodes]
        skip = [getattr(r, "kernel_size", None) == (1, 1) and r.strides == (2, 2) for r in readers]
        assert all(skip) == (cut in cuts.STAGE_ENDS) == any(skip), cut


def test_bytes_are_those_of_the_array_that_is_stored() -> None:
    assert cuts.feature_bytes("image", 64) == 64 * 64 * 3
    assert cuts.feature_bytes("pooled", 224) == 8 * 1024
    sizes = [cuts.feature_bytes(f"{stage}_block1", 224) // 1024 for stage in ("conv2", "conv3", "conv4", "conv5")]
    assert sizes == [3136, 1568, 784, 392]


def test_trained_layers_are_those_of_keras_that_hold_variables(network: Any) -> None:
    _, model = network
    holding = {layer.name for layer in model.layers if layer.weights}
    norms = {layer.name for layer in model.layers if type(layer).__name__ == "BatchNormalization"}
    for depth in DEPTHS:
        top = {layer.name for layer in model.layers[175 - depth :]}
        assert set(cuts.trained_layers(depth)) == (top & holding) - norms
        assert set(cuts.trained_layers(depth, "trained")) == top & holding


def test_multiply_adds_are_kerass_convolutions_counted_from_their_real_shapes(network: Any) -> None:
    side, model = network
    real = {}
    for layer in model.layers:
        if type(layer).__name__ == "Conv2D":
            height, width = layer.output.shape[1:3]
            kernel = tuple(layer.kernel.shape)
            if layer.name.startswith(cuts.STAGE_ENDS) and not layer.name.endswith("_1_conv"):
                height, width = -(-height // 2), -(-width // 2)  # the pixels that are read
            real[layer.name] = kernel[0] * kernel[1] * kernel[2] * kernel[3] * height * width
    assert {p.layer: p.multiply_adds for p in cuts.pieces(side)} == real
    blocks = [p.block for p in cuts.pieces(side)]
    assert blocks == sorted(blocks, key=("stem", *cuts.BLOCKS).index), "from the bottom up"


def test_multiply_adds_at_224_are_the_designs_less_what_is_never_read() -> None:
    """The design counts 3,856 million; the last blocks of three stages need 93 of their 218."""
    million = [round(cuts.multiply_adds(a, b, 224) / 1e6) for a, b in zip(cuts.CUTS, cuts.CUTS[1:], strict=False)]
    # image to stem, then the sixteen blocks; the last way, conv5_block2 to pooled, is the last block's.
    assert million == [118, 231, 218, 93, 295, 218, 218, 93, 295, 218, 218, 218, 218, 93, 295, 218, 218]
    assert round(cuts.multiply_adds("image", "pooled", 224) / 1e6) == 3480


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_equal_canonical_depths_are_equal_trained_sets(batch_norm: str) -> None:
    trained = {d: cuts.trained_layers(d, batch_norm) for d in DEPTHS}
    canonical = {d: cuts.canonical(d, batch_norm) for d in DEPTHS}
    for a in DEPTHS:
        assert canonical[a] <= a
        assert trained[canonical[a]] == trained[a], "the canonical depth is the same model"
        assert canonical[a] == min(d for d in DEPTHS if trained[d] == trained[a])
    assert len(set(canonical.values())) == len(set(trained.values()))


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_the_cut_is_the_highest_one_below_every_trained_layer(batch_norm: str) -> None:
    place = cuts.layer_names().index
    for depth in DEPTHS:
        trained, cut = cuts.trained_layers(depth, batch_norm), cuts.cut_for(depth, batch_norm)
        if not trained:
            assert cut == "pooled"
            continue
        lowest = min(place(layer) for layer in trained)
        assert cut != "pooled" and place(cuts.cut_layer(cut)) < lowest
        above = cuts.CUTS[cuts.CUTS.index(cut) + 1]
        assert above == "pooled" or place(cuts.cut_layer(above)) > lowest


def test_the_three_layers_that_hold_nothing_trainable_leave_the_model_as_it_is() -> None:
    """The design: unfreezing the top 0 or the top 3 layers of a block is the same model."""
    for edge, above in zip(EDGES[1:], EDGES, strict=False):
        assert len({cuts.canonical(above + n) for n in range(4)}) == 1
        # A stage's first block has a fourth such layer, the shortcut's BatchNorm.
        assert cuts.cut_for(edge) == cuts.cut_for(above + 5), "every depth inside a block needs the block's lower cut"
    assert cuts.canonical(3) == 0 and cuts.cut_for(3) == "pooled"
    assert cuts.canonical(175) == cuts.canonical(173) and cuts.cut_for(175) == "image"


@given(a=st.sampled_from(DEPTHS), b=st.sampled_from(DEPTHS), batch_norm=st.sampled_from(["frozen", "trained"]))
def test_deeper_never_trains_less_nor_costs_less(a: int, b: int, batch_norm: str) -> None:
    low, high = sorted((a, b))
    assert set(cuts.trained_layers(low, batch_norm)) <= set(cuts.trained_layers(high, batch_norm))
    assert cuts.CUTS.index(cuts.cut_for(low, batch_norm)) >= cuts.CUTS.index(cuts.cut_for(high, batch_norm))
    start = cuts.cut_for(high, batch_norm)
    assert cuts.step_cost(start, low, 64, batch_norm) <= cuts.step_cost(start, high, 64, batch_norm)


def test_a_step_costs_three_forwards_without_the_first_input_gradients() -> None:
    """`epochs x (train images x (3 S - D) + validation images x S)`, the design's floor, when all above the cut
    trains. D: the convolutions that read the cut itself, two of them in a stage's first block."""
    for depth in EDGES[1:]:
        cut, block = cuts.cut_for(depth), cuts.trained_layers(depth)[0].removesuffix("_1_conv")
        forward = cuts.multiply_adds(cut, "pooled", 224)
        reading = {f"{block}_0_conv", f"{block}_1_conv"}
        first = sum(p.multiply_adds for p in cuts.pieces(224) if p.layer in reading)
        assert cuts.step_cost(cut, depth, 224) == (3 * forward - first, forward)
    whole = cuts.multiply_adds("image", "pooled", 224)
    assert cuts.step_cost("image", 175, 224) == (3 * whole - cuts.pieces(224)[0].multiply_adds, whole)


def test_an_unknown_cut_is_named() -> None:
    with pytest.raises(ValueError, match="conv9_block1.*expected one of image, stem"):
        cuts.feature_shape("conv9_block1", 64)
