"""The parts of the network that a search runs: the stock layers' function with less work, made from the numbers alone.

Frozen BatchNorm is folded into its convolution, and a stage's last block is computed at every second pixel only: the
next stage's 1x1 convolutions have stride 2 and read no other. Both are exact up to rounding; exports are made of the
stock layers (`Backbone.stock_prefix` and `stock_suffix`) and compared with what these parts predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tuner.backbones.architecture import Architecture
from tuner.backbones.normalizing import TrainedBatchNormalization
from tuner.backbones.resnet50.folded import FoldedConvolution
from tuner.backbones.resnet50.numbers import Numbers
from tuner.backbones.resnet50.tables import BLOCKS, IMAGENET_MEAN_RGB, STAGE_ENDS
from tuner.backends import backend

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402

EPSILON = 1.001e-5
"""BatchNorm's, `keras/src/applications/resnet.py`."""


def preprocess(image: Any) -> Any:
    """RGB 0..255 (b, h, w, 3) to float32 with ImageNet's mean subtracted: caffe preprocessing in RGB order."""
    return keras.layers.Rescaling(1.0, offset=[-m for m in IMAGENET_MEAN_RGB], name="preprocess")(image)


def prefix(numbers: Numbers, architecture: Architecture, start: str, wanted: Iterable[str]) -> Any:
    """As `Backbone.prefix`."""
    wanted = list(wanted)
    replay = _Replay(numbers, architecture, frozenset(), "float32")
    inputs, at = replay.run(start, max(wanted, key=architecture.index))
    outputs = [at[c] for c in wanted]
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="prefix")


def suffix(
    numbers: Numbers,
    architecture: Architecture,
    start: str,
    trained: frozenset[str],
    precision: str,
    means: Sequence[str] = (),
) -> Any:
    """As `Backbone.suffix`; `trained`: the names of the layers that are."""
    replay = _Replay(numbers, architecture, trained, precision, means)
    inputs, at = replay.run(start, "pooled")
    outputs = [at["pooled"], *(replay.means[cut] for cut in means)]
    return keras.Model(inputs, outputs if means else outputs[0], name="suffix")


def pretrain(model: Any, numbers: Numbers) -> None:
    """Sets the trained layers of a suffix back to the pretrained weights."""
    for layer in model.layers:
        if not layer.trainable or not layer.weights:
            continue
        if isinstance(layer, FoldedConvolution):
            layer.pretrain(*numbers[layer.name])
        else:
            layer.set_weights(numbers[layer.name])


class _Replay:
    """`wanted`: the cuts whose means over height and width are to be in `means` after a run."""

    def __init__(
        self,
        numbers: Numbers,
        architecture: Architecture,
        trained: frozenset[str],
        precision: str,
        wanted: Sequence[str] = (),
    ) -> None:
        self.numbers, self.architecture = numbers, architecture
        self.trained, self.precision = trained, precision
        self.wanted, self.means = wanted, dict[str, Any]()

    def run(self, start: str, last: str) -> tuple[Any, dict[str, Any]]:
        """The input at `start` and the outputs of every cut above it up to `last`."""
        low, high = self.architecture.index(start), self.architecture.index(last)
        inputs = keras.Input(self.architecture.shape(start), name=start)
        at = {start: preprocess(inputs) if start == "image" else inputs}
        for below, cut in zip(self.architecture.cuts[low:high], self.architecture.cuts[low + 1 :], strict=False):
            at[cut] = self._stem(at[below]) if cut == "stem" else self._block(at[below], cut)
        return inputs, at

    def _stem(self, x: Any) -> Any:
        x = keras.layers.ZeroPadding2D(3, name="conv1_pad", dtype=self.precision)(x)
        x = self._convolution(x, "conv1", strides=2, relu=True)
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad", dtype=self.precision)(x)
        return keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool", dtype=self.precision)(x)

    def _block(self, x: Any, cut: str) -> Any:
        """One residual block; what a stage's first one reads has only the pixels that its strides would take."""
        block = BLOCKS[-1] if cut == "pooled" else cut
        shortcut = self._convolution(x, f"{block}_0") if block.endswith("block1") else x
        # Trained BatchNorm takes its statistics from every pixel, so there the whole block is computed.
        halved = block in STAGE_ENDS
        early = halved and not any(n.startswith(block) and n.endswith("_bn") for n in self.trained)
        y = self._convolution(x, f"{block}_1", relu=True)
        y = self._convolution(y, f"{block}_2", strides=2 if early else 1, relu=True)
        y = self._convolution(y, f"{block}_3")
        added = keras.layers.Add(name=f"{block}_add", dtype=self.precision)
        x = added([shortcut[:, ::2, ::2] if early else shortcut, y])
        if cut in self.wanted:
            # With a ReLU of its own: what the next block and a mean read from one would get three gradients, whose sum
            # TensorFlow may take in any order (`normalizing`).
            y = self._relu(x, f"{block}_mean_out")
            y = y[:, ::2, ::2] if halved and not early else y
            self.means[cut] = keras.layers.GlobalAveragePooling2D(name=f"{cut}_mean", dtype="float32")(y)
        x = self._relu(x, f"{block}_out")
        if cut == "pooled":
            return keras.layers.GlobalAveragePooling2D(name="pooled", dtype=self.precision)(x)
        return x[:, ::2, ::2] if halved and not early else x

    def _convolution(self, x: Any, name: str, strides: int = 1, relu: bool = False) -> Any:
        """Convolution `name`_conv with its BatchNorm, and ReLU where asked."""
        conv, norm = f"{name}_conv", f"{name}_bn"
        options = {"name": conv, "trainable": conv in self.trained, "dtype": self.precision}
        if norm in self.trained:
            x = self._stock_pair(x, conv, norm, strides, options)
            return self._relu(x, f"{name}_relu") if relu else x
        padding = "valid" if name == "conv1" else "both" if strides == 2 else "same"
        weights = [*self.numbers[conv], *self.numbers[norm]]
        return FoldedConvolution(weights, EPSILON, strides, padding, relu, **options)(x)

    def _stock_pair(self, x: Any, conv: str, norm: str, strides: int, options: dict[str, Any]) -> Any:
        """Convolution and trained BatchNorm, with the variables that Keras's have."""
        kernel = self.numbers[conv][0].shape
        padding = "valid" if conv == "conv1_conv" else "same"
        convolution = keras.layers.Conv2D(kernel[3], kernel[0], strides=strides, padding=padding, **options)
        batch_norm = TrainedBatchNormalization(epsilon=EPSILON, name=norm, dtype=self.precision)
        x = batch_norm(convolution(x))
        convolution.set_weights(self.numbers[conv])
        batch_norm.set_weights(self.numbers[norm])
        return x

    def _relu(self, x: Any, name: str) -> Any:
        return keras.layers.Activation("relu", name=name, dtype=self.precision)(x)
