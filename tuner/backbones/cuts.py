"""ResNet-50's layers, blocks and cuts as plain tables: no Keras is needed to plan a study.

The layers are those of `keras.applications.ResNet50(include_top=False)` in Keras's order (a test compares them), 175
with the input. A *cut* is the block output just below the first trainable variable: "image" < "stem" < "conv2_block1" <
... < "conv5_block2" < "pooled". "pooled" is the global average of the last block, the cut of a frozen backbone.

Sources: He et al., CVPR 2016 (table 1); `keras/src/applications/resnet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from tuner.backbones.layer import Layer

STAGES = (("conv2", 64, 3), ("conv3", 128, 4), ("conv4", 256, 6), ("conv5", 512, 3))
"""Stage, width of its 3x3 convolutions, number of blocks."""

STEM = ("input_layer", "conv1_pad", "conv1_conv", "conv1_bn", "conv1_relu", "pool1_pad", "pool1_pool")
_FIRST = ("1_conv", "1_bn", "1_relu", "2_conv", "2_bn", "2_relu", "0_conv", "3_conv", "0_bn", "3_bn", "add", "out")
_LATER = ("1_conv", "1_bn", "1_relu", "2_conv", "2_bn", "2_relu", "3_conv", "3_bn", "add", "out")
_READS = {"add": ("3_bn",), "out": ("add",), "2_conv": ("1_relu",), "3_conv": ("2_relu",)} | {
    f"{n}_{part}": (f"{n}_{before}",) for n in range(4) for part, before in (("bn", "conv"), ("relu", "bn"))
}
"""What a part of a block reads in it, none for those that read its input; "add" reads the shortcut too."""

BLOCKS = tuple(f"{stage}_block{i + 1}" for stage, _, count in STAGES for i in range(count))
CUTS = ("image", "stem", *BLOCKS[:-1], "pooled")
"""Every cut from the image upwards."""

STAGE_ENDS = ("conv2_block3", "conv3_block4", "conv4_block6")
"""Cuts of which only every second pixel is ever read: the next stage's 1x1 convolutions have stride 2. No more of them
is stored, and no more of their blocks' 3x3 and last convolutions is computed.
"""


@lru_cache(maxsize=1)
def layer_names() -> tuple[str, ...]:
    """The 175 layer names in Keras's order, bottom to top."""
    names = list(STEM)
    for stage, _, count in STAGES:
        for i in range(count):
            names += [f"{stage}_block{i + 1}_{part}" for part in (_FIRST if i == 0 else _LATER)]
    return tuple(names)


@lru_cache(maxsize=1)
def weight_shapes() -> dict[str, tuple[tuple[int, ...], ...]]:
    """Shapes of the arrays of every layer that has any, in Keras's order: of a convolution kernel and bias, of
    BatchNorm gamma, beta, moving mean and moving variance.
    """
    kernels: dict[str, tuple[int, ...]] = {"conv1": (7, 7, 3, 64)}
    channels = 64
    for stage, width, count in STAGES:
        for i in range(count):
            block = f"{stage}_block{i + 1}"
            kernels |= {f"{block}_0": (1, 1, channels, 4 * width)} if i == 0 else {}
            kernels |= {f"{block}_1": (1, 1, channels, width), f"{block}_2": (3, 3, width, width)}
            kernels[f"{block}_3"] = (1, 1, width, 4 * width)
            channels = 4 * width
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name in layer_names():
        which, _, kind = name.rpartition("_")
        if kind in ("conv", "bn"):
            kernel = kernels[which]
            shapes[name] = (kernel, kernel[3:]) if kind == "conv" else (kernel[3:],) * 4
    return shapes


def cut_layer(cut: str) -> str:
    """The Keras layer whose output is the cut ("pooled" is the average of the last one's output)."""
    if cut == "image":
        return STEM[0]
    if cut == "stem":
        return STEM[-1]
    return f"{BLOCKS[-1]}_out" if cut == "pooled" else f"{cut}_out"


def trained_layers(unfrozen_layers: int, batch_norm: str = "frozen") -> tuple[str, ...]:
    """The layers that hold trained variables when the top `unfrozen_layers` are unfrozen, bottom to top.

    Convolutions always; BatchNorm only when `batch_norm` is "trained".
    """
    top = layer_names()[len(layer_names()) - unfrozen_layers :] if unfrozen_layers else ()
    return tuple(n for n in top if n.endswith("_conv") or (batch_norm == "trained" and n.endswith("_bn")))


def canonical(unfrozen_layers: int, batch_norm: str = "frozen") -> int:
    """The smallest `unfrozen_layers` that trains the same variables: equal numbers are equal models."""
    trained = trained_layers(unfrozen_layers, batch_norm)
    return len(layer_names()) - layer_names().index(trained[0]) if trained else 0


def cut_for(unfrozen_layers: int, batch_norm: str = "frozen") -> str:
    """The cut just below the first trained variable."""
    trained = trained_layers(unfrozen_layers, batch_norm)
    if not trained:
        return "pooled"
    first = layer_names().index(trained[0])
    return [c for c in CUTS[:-1] if layer_names().index(cut_layer(c)) < first][-1]


def feature_shape(cut: str, image_size: int) -> tuple[int, ...]:
    """Shape of what is stored of one image at the cut: `layer_shape`, of a stage's end every second pixel."""
    shape = layer_shape(cut, image_size)
    return (-(-shape[0] // 2), -(-shape[1] // 2), shape[2]) if cut in STAGE_ENDS else shape


def layer_shape(cut: str, image_size: int) -> tuple[int, ...]:
    """Shape of one image's activations at the cut: (height, width, channels), or (2048,) when pooled."""
    if cut == "image":
        return (image_size, image_size, 3)
    if cut == "pooled":
        return (2048,)
    side = _stem_side(image_size)
    if cut == "stem":
        return (side, side, 64)
    for index, (stage, width, _) in enumerate(STAGES):
        side = side if index == 0 else -(-side // 2)
        if cut.startswith(stage):
            return (side, side, 4 * width)
    raise ValueError(f"unknown cut {cut!r}, expected one of {', '.join(CUTS)}")


def feature_bytes(cut: str, image_size: int) -> int:
    """Bytes one stored image takes at the cut: float32, or uint8 for the image itself."""
    size = 1 if cut == "image" else 4
    for n in feature_shape(cut, image_size):
        size *= n
    return size


@dataclass(frozen=True)
class Piece:
    """One convolution: its layer, the block (or "stem") it is in, its multiply-adds for one image."""

    layer: str
    block: str
    multiply_adds: int


@lru_cache(maxsize=8)
def pieces(image_size: int) -> tuple[Piece, ...]:
    """Every convolution from the bottom up with the multiply-adds that it needs at this image size."""
    half = (image_size - 1) // 2 + 1
    found = [Piece("conv1_conv", "stem", 7 * 7 * 3 * 64 * half * half)]
    side, channels = _stem_side(image_size), 64
    for index, (stage, width, count) in enumerate(STAGES):
        side = side if index == 0 else -(-side // 2)
        for i in range(count):
            block, area = f"{stage}_block{i + 1}", side * side
            read = (-(-side // 2)) ** 2 if block in STAGE_ENDS else area
            if i == 0:
                found.append(Piece(f"{block}_0_conv", block, channels * 4 * width * area))
            found.append(Piece(f"{block}_1_conv", block, channels * width * area))
            found.append(Piece(f"{block}_2_conv", block, 9 * width * width * read))
            found.append(Piece(f"{block}_3_conv", block, 4 * width * width * read))
            channels = 4 * width
    return tuple(found)


@lru_cache(maxsize=8)
def table(image_size: int) -> tuple[Layer, ...]:
    """Every layer in Keras's order with what it reads, for `architecture.Architecture`."""
    macs = {p.layer: p.multiply_adds for p in pieces(image_size)}
    shapes, places = weight_shapes(), {name: i for i, name in enumerate(layer_names())}
    reads: dict[str, tuple[str, ...]] = dict(zip(STEM, [(), *((name,) for name in STEM)], strict=False))
    regions = {name: int(name != STEM[0]) for name in STEM}
    for block, below in zip(BLOCKS, [STEM[-1], *(f"{block}_out" for block in BLOCKS)], strict=False):
        shortcut = f"{block}_0_bn" if f"{block}_0_conv" in shapes else below
        for part in _FIRST if block.endswith("block1") else _LATER:
            sources = tuple(f"{block}_{source}" for source in _READS.get(part, ()))
            reads[f"{block}_{part}"] = (shortcut, *sources) if part == "add" else sources or (below,)
            regions[f"{block}_{part}"] = BLOCKS.index(block) + 2
    return tuple(
        Layer(
            name=name,
            region=regions[name],
            macs=macs.get(name, 0),
            kind="weights" if name in macs else "batch_norm" if name in shapes else "none",
            size=sum(prod(shape) for shape in shapes.get(name, ())),
            sources=tuple(places[source] for source in reads[name]),
        )
        for name in layer_names()
    )


def multiply_adds(below: str, above: str, image_size: int) -> int:
    """Multiply-adds of one image's way from the cut `below` up to the cut `above`."""
    low, high = CUTS.index(below), CUTS.index(above)
    order = {block: i + 2 for i, block in enumerate(BLOCKS)} | {"stem": 1}
    return sum(p.multiply_adds for p in pieces(image_size) if low < order[p.block] <= high)


def step_cost(start: str, unfrozen_layers: int, image_size: int, batch_norm: str = "frozen") -> tuple[int, int]:
    """Multiply-adds of (one training image, one validation image) for a trial whose input is the stored cut `start`.

    Forward S from `start`; backward again S for the trained part's input gradients and S for its weights, without the
    input gradient D that the first trained convolutions do not need (design, "Numbers to know").
    """
    forward = multiply_adds(start, "pooled", image_size)
    trained = set(trained_layers(unfrozen_layers, batch_norm))
    if not trained:
        return forward, forward
    above = multiply_adds(cut_for(unfrozen_layers, batch_norm), "pooled", image_size)
    weights = sum(p.multiply_adds for p in pieces(image_size) if p.layer in trained)
    lowest = next(p for p in pieces(image_size) if p.layer in trained)
    # In a stage's first block two convolutions read the cut, the block's own first one and the shortcut's.
    ends = ("_0_conv", "_1_conv") if lowest.layer.endswith(("_0_conv", "_1_conv")) else (lowest.layer,)
    first = sum(
        p.multiply_adds
        for p in pieces(image_size)
        if p.layer in trained and p.block == lowest.block and p.layer.endswith(ends)
    )
    return forward + weights + max(above - first, 0), forward


def _stem_side(image_size: int) -> int:
    half = (image_size - 1) // 2 + 1
    return (half - 1) // 2 + 1
