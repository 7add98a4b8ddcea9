"""The plain tables against Keras's real network, and the properties that every depth has."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.backbones.architecture import Architecture, architecture
from tuner.backbones.resnet50 import tables
from tuner.errors import SpecError
from tuner.spec.spec import SpaceSpec, Spec

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


A = architecture(image_size=64)
"""What does not depend on the image size is asked of this one."""


def index(layer: str) -> int:
    return tables.layer_names().index(layer)


def test_the_layers_are_kerass_own_in_its_order(network: Any) -> None:
    assert tuple(layer.name for layer in A.table) == tuple(layer.name for layer in network[1].layers)
    assert A.layers == 175


def test_the_arrays_of_every_layer_have_kerass_shapes_in_its_order(network: Any) -> None:
    wanted = {layer.name: tuple(v.shape for v in layer.get_weights()) for layer in network[1].layers if layer.weights}
    assert list(tables.weight_shapes().items()) == list(wanted.items())


def test_every_cut_has_the_shape_keras_gives_its_layer(network: Any) -> None:
    side, model = network
    found = architecture(image_size=side)
    assert found.shape("image") == (side, side, 3)
    for cut in found.cuts[1:-1]:
        shape = tuple(model.get_layer(tables.cut_layer(cut)).output.shape[1:])
        assert found.shape(cut) == (np.zeros(shape)[::2, ::2].shape if cut in tables.STAGE_ENDS else shape), cut
    assert found.shape("pooled") == (found.width,) == (model.output.shape[-1],)


def test_of_a_stages_end_no_pixel_is_read_but_every_second(network: Any) -> None:
    """What makes it right to store no more: every layer that reads it is a 1x1 convolution with stride 2."""
    _, model = network
    for cut in A.cuts[1:-1]:
        readers = [node.operation for node in model.get_layer(tables.cut_layer(cut))._outbound_nodes]
        skip = [getattr(r, "kernel_size", None) == (1, 1) and r.strides == (2, 2) for r in readers]
        assert all(skip) == (cut in tables.STAGE_ENDS) == any(skip), cut


def test_bytes_are_those_of_the_array_that_is_stored() -> None:
    assert A.bytes("image") == 64 * 64 * 3
    large = architecture(image_size=224)
    assert large.bytes("pooled") == 8 * 1024
    sizes = [large.bytes(f"{stage}_block1") // 1024 for stage in ("conv2", "conv3", "conv4", "conv5")]
    assert sizes == [3136, 1568, 784, 392]


def test_trained_layers_are_those_of_keras_that_hold_variables(network: Any) -> None:
    _, model = network
    holding = {layer.name for layer in model.layers if layer.weights}
    norms = {layer.name for layer in model.layers if type(layer).__name__ == "BatchNormalization"}
    sizes = {layer.name: sum(a.nbytes for a in layer.get_weights()) for layer in model.layers}
    for depth in DEPTHS:
        top = {layer.name for layer in model.layers[175 - depth :]}
        assert set(A.trained(depth, "frozen")) == (top & holding) - norms
        assert set(A.trained(depth, "trained")) == top & holding
        assert A.weight_bytes(depth, "trained") == sum(sizes[name] for name in A.trained(depth, "trained"))


def test_multiply_adds_are_kerass_convolutions_counted_from_their_real_shapes(network: Any) -> None:
    side, model = network
    real = {}
    for layer in model.layers:
        if type(layer).__name__ == "Conv2D":
            height, width = layer.output.shape[1:3]
            if layer.name.startswith(tables.STAGE_ENDS) and not layer.name.endswith("_1_conv"):
                height, width = -(-height // 2), -(-width // 2)  # the pixels that are read
            real[layer.name] = int(np.prod(layer.kernel.shape)) * height * width
    assert {layer.name: layer.macs for layer in architecture(image_size=side).table if layer.macs} == real


def test_multiply_adds_at_224_are_the_designs_less_what_is_never_read() -> None:
    """The design counts 3,856 million; the last blocks of three stages need 93 of their 218."""
    large = architecture(image_size=224)
    million = [round(large.macs(a, b) / 1e6) for a, b in zip(large.cuts, large.cuts[1:], strict=False)]
    # image to stem, then the sixteen blocks; the last way, conv5_block2 to pooled, is the last block's.
    assert million == [118, 231, 218, 93, 295, 218, 218, 93, 295, 218, 218, 218, 218, 93, 295, 218, 218]
    assert round(large.macs("image", "pooled") / 1e6) == 3480


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_equal_canonical_depths_are_equal_trained_sets(batch_norm: str) -> None:
    trained = {d: A.trained(d, batch_norm) for d in DEPTHS}
    canonical = {d: A.canonical(d, batch_norm) for d in DEPTHS}
    for a in DEPTHS:
        assert canonical[a] <= a
        assert trained[canonical[a]] == trained[a], "the canonical depth is the same model"
        assert canonical[a] == min(d for d in DEPTHS if trained[d] == trained[a])
    assert len(set(canonical.values())) == len(set(trained.values()))


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_the_cut_is_the_highest_one_below_every_trained_layer(batch_norm: str) -> None:
    tops = {cut: index(tables.cut_layer(cut)) for cut in A.cuts[1:-1]} | {"image": 0, "pooled": 175}
    for depth in DEPTHS:
        lowest = min(map(index, A.trained(depth, batch_norm)), default=176)
        assert A.cut_for(depth, batch_norm) == max((c for c in A.cuts if tops[c] < lowest), key=A.index)


def test_the_three_layers_that_hold_nothing_trainable_leave_the_model_as_it_is() -> None:
    """The design: unfreezing the top 0 or the top 3 layers of a block is the same model."""
    for edge, above in zip(EDGES[1:], EDGES, strict=False):
        assert len({A.canonical(above + n, "frozen") for n in range(4)}) == 1
        # A stage's first block has a fourth such layer, the shortcut's BatchNorm.
        assert A.cut_for(edge, "frozen") == A.cut_for(above + 5, "frozen"), "a depth inside a block: its lower cut"
    assert A.canonical(3, "frozen") == 0 and A.cut_for(3, "frozen") == "pooled"
    assert A.canonical(175, "frozen") == A.canonical(173, "frozen") and A.cut_for(175, "frozen") == "image"


@given(a=st.sampled_from(DEPTHS), b=st.sampled_from(DEPTHS), batch_norm=st.sampled_from(["frozen", "trained"]))
def test_deeper_never_trains_less_nor_costs_less(a: int, b: int, batch_norm: str) -> None:
    low, high = sorted((a, b))
    assert set(A.trained(low, batch_norm)) <= set(A.trained(high, batch_norm))
    assert A.index(A.cut_for(low, batch_norm)) >= A.index(A.cut_for(high, batch_norm))
    start = A.cut_for(high, batch_norm)
    assert A.step_macs(start, low, batch_norm) <= A.step_macs(start, high, batch_norm)


def test_a_step_costs_three_forwards_without_the_first_input_gradients() -> None:
    """`epochs x (train images x (3 S - D) + validation images x S)`, the design's floor, when all above the cut
    trains. D: the convolutions that read the cut itself, two of them in a stage's first block."""
    large = architecture(image_size=224)
    macs = {layer.name: layer.macs for layer in large.table}
    for depth in EDGES[1:]:
        cut, block = large.cut_for(depth, "frozen"), large.trained(depth, "frozen")[0].removesuffix("_1_conv")
        forward = large.macs(cut, "pooled")
        first = macs.get(f"{block}_0_conv", 0) + macs[f"{block}_1_conv"]
        assert large.step_macs(cut, depth, "frozen") == (3 * forward - first, forward)
    whole = large.macs("image", "pooled")
    assert large.step_macs("image", 175, "frozen") == (3 * whole - macs["conv1_conv"], whole)


def test_inside_a_block_a_step_costs_no_gradient_that_nothing_trained_waits_for() -> None:
    """Of the top block only its last convolution trained: forward, and that one's weights."""
    macs = {layer.name: layer.macs for layer in A.table}
    whole, last = A.macs("conv5_block2", "pooled"), macs["conv5_block3_3_conv"]
    assert A.step_macs("conv5_block2", 4, "frozen") == (whole + last, whole)
    assert A.step_macs("conv5_block2", 3, "trained") == (whole, whole), "a BatchNorm alone costs no multiply-adds"


@given(cut=st.sampled_from(A.cuts), stored=st.sets(st.sampled_from(A.cuts)))
def test_the_nearest_stored_cut_is_at_or_below_and_the_image_always_is(cut: str, stored: set[str]) -> None:
    found = A.nearest(cut, stored)
    assert A.index(found) <= A.index(cut) and (found in stored or found == "image")
    assert not any(A.index(found) < A.index(other) <= A.index(cut) for other in stored)
    assert A.layers_above(found) >= A.layers_above(cut)


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(ValueError, match="resnet50 has no cut 'conv9_block1', expected one of image, stem"):
        A.shape("conv9_block1")
    with pytest.raises(ValueError, match="'vgg16', expected resnet50"):
        architecture("vgg16", image_size=64)


def test_the_spec_offers_the_depths_that_there_are() -> None:
    """The bound and the help text of `space.unfrozen_layers` stand in the spec, which knows no backbone."""
    (key,) = (f for f in fields(SpaceSpec) if f.name == "unfrozen_layers")
    assert f"(0 to {A.layers})" in str(key.metadata)
    assert ": " + ", ".join(map(str, (*EDGES, A.layers))) + "'" in str(key.metadata).replace('"', "'")
    Spec.from_dict({"space": {"unfrozen_layers": A.layers}})
    with pytest.raises(SpecError, match=f"from 0 to {A.layers}"):
        Spec.from_dict({"space": {"unfrozen_layers": A.layers + 1}})


def test_an_architecture_travels_to_another_process() -> None:
    again: Architecture = pickle.loads(pickle.dumps(A))
    assert again.cuts == A.cuts and again.table == A.table and again.shapes == A.shapes
