"""ResNet-50's layers, blocks and cuts as plain tables: no Keras is needed to plan a study.

The layers are those of `keras.applications.ResNet50(include_top=False)` in Keras's order (a test compares them), 175
with the input. The cuts are the outputs of the stem and of the residual blocks: "image" < "stem" < "conv2_block1" < ...
< "conv5_block2" < "pooled". "pooled" is the global average of the last block, the cut of a frozen backbone.

Sources: He et al., CVPR 2016 (table 1); `keras/src/applications/resnet.py`.
"""

from __future__ import annotations

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

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
"""`keras/src/applications/imagenet_utils.py`, mode "caffe", in RGB order."""

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
    for block in BLOCKS:
        names += [f"{block}_{part}" for part in (_FIRST if block.endswith("block1") else _LATER)]
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
    """The Keras layer whose output is the cut; "image" and "pooled", which none's is, remain as they are."""
    return cut if cut in ("image", "pooled") else STEM[-1] if cut == "stem" else f"{cut}_out"


def feature_shape(cut: str, image_size: int) -> tuple[int, ...]:
    """Shape of what is stored of one image at the cut: (height, width, channels), of a stage's end every second pixel,
    or (2048,) when pooled.
    """
    channels = next((4 * width for stage, width, _ in STAGES if cut.startswith(stage)), 64)
    side = _half(_side(cut, image_size)) if cut in STAGE_ENDS else _side(cut, image_size)
    special = {"image": (image_size, image_size, 3), "pooled": (4 * STAGES[-1][1],)}
    return special.get(cut, (side, side, channels))


@lru_cache(maxsize=8)
def table(image_size: int) -> tuple[Layer, ...]:
    """Every layer in Keras's order, for `architecture.Architecture`. Multiply-adds are those of `lean`: only the pixels
    that are read.
    """
    shapes, places = weight_shapes(), {name: i for i, name in enumerate(layer_names())}
    reads: dict[str, tuple[str, ...]] = dict(zip(STEM, [(), *((name,) for name in STEM)], strict=False))
    regions = {name: int(name != STEM[0]) for name in STEM}
    areas = {"conv1_conv": _half(image_size) ** 2}
    for number, (block, below) in enumerate(zip(BLOCKS, [STEM[-1], *(f"{b}_out" for b in BLOCKS)], strict=False)):
        side = _side(block, image_size)
        shortcut = f"{block}_0_bn" if f"{block}_0_conv" in shapes else below
        for part in _FIRST if block.endswith("block1") else _LATER:
            name, sources = f"{block}_{part}", tuple(f"{block}_{source}" for source in _READS.get(part, ()))
            reads[name] = (shortcut, *sources) if part == "add" else sources or (below,)
            regions[name] = number + 2
            read = block in STAGE_ENDS and part in ("2_conv", "3_conv")
            areas |= {name: (_half(side) if read else side) ** 2} if part.endswith("_conv") else {}
    return tuple(
        Layer(
            name=name,
            region=regions[name],
            macs=areas[name] * prod(shapes[name][0]) if name in areas else 0,
            kind="weights" if name in areas else "batch_norm" if name in shapes else "none",
            size=sum(prod(shape) for shape in shapes.get(name, ())),
            sources=tuple(places[source] for source in reads[name]),
        )
        for name in layer_names()
    )


def _half(side: int) -> int:
    return -(-side // 2)


def _side(cut: str, image_size: int) -> int:
    """Pixels on a side of a block's output in the stock network."""
    side = _half(_half(image_size))
    for stage, _, _ in STAGES:
        if cut == "stem" or cut.startswith(stage):
            return side
        side = _half(side)
    return side
