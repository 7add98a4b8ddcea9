"""The ResNet-50 itself: loaded once, then replayed in parts of stock layers, the prefix and the suffix above a cut.

A search runs the same parts with less work (`lean`); exports are made of these.

The backbone takes RGB with ImageNet's mean subtracted, not Keras's BGR: the first convolution's kernel is turned round
once when the weights are loaded, which is the same function (to rounding) and lets one Rescaling layer do the
preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tuner.backbones import cuts
from tuner.backbones.numbers import Numbers
from tuner.backbones.weights import Weights, known, load_into
from tuner.backends import backend

IMAGENET_MEAN_RGB = (123.68, 116.779, 103.939)
"""`keras/src/applications/imagenet_utils.py`, mode "caffe", in RGB order."""


class Backbone:
    """A ResNet-50's numbers, the stock Keras network with them, both made on first use, and copies of its parts.

    A search needs the numbers alone; the network is made for exports, and to calibrate random weights.
    """

    def __init__(
        self, image_size: int, weights: Weights, cache: Path, calibration_images: Callable[[], np.ndarray]
    ) -> None:
        self.image_size, self.weights = image_size, weights
        self._cache, self._calibration_images = cache, calibration_images
        self._stock: Any = None
        self._numbers: Numbers | None = None

    @property
    def numbers(self) -> Numbers:
        """The weights by layer, as `numbers.Numbers` but for conv1's kernel, which takes RGB. Raises WeightsError."""
        if self._numbers is None:
            if (found := known(self.weights, self._cache)) is None:
                model = self._network()
                load_into(model, self.weights, self._cache, lambda: self._calibration_images()[..., ::-1])
                found = {name: model.get_layer(name).get_weights() for name in cuts.weight_shapes()}
            kernel, bias = found["conv1_conv"]
            self._numbers = found | {"conv1_conv": [np.ascontiguousarray(kernel[:, :, ::-1, :]), bias]}
        return self._numbers

    @property
    def stock(self) -> Any:
        """`keras.applications.ResNet50(include_top=False)` at this image size, frozen, taking mean-free RGB."""
        if self._stock is None:
            numbers = self.numbers
            model = self._network()
            for name, arrays in numbers.items():
                model.get_layer(name).set_weights(arrays)
            model.trainable = False
            self._stock = model
        return self._stock

    def _network(self) -> Any:
        backend.start()
        import keras

        side = self.image_size
        # A name of our own: Keras numbers unnamed inputs, so the second model's would be "input_layer_1".
        photograph = keras.Input((side, side, 3), name=cuts.STEM[0])
        return keras.applications.ResNet50(weights=None, include_top=False, input_tensor=photograph)

    def parameters(self) -> int:
        """Number of parameters of the whole backbone."""
        return sum(a.size for arrays in self.numbers.values() for a in arrays)

    def prefix(self, start: str, wanted: Iterable[str]) -> Any:
        """The frozen layers from the cut `start` to each cut of `wanted`: input (b, *layer shape of start), a list of
        one output a cut, or the output itself when only one is wanted.

        The layers are the stock ones, not copies. `start` "image" takes RGB 0..255 of any dtype.
        """
        import keras

        wanted = list(wanted)
        shape = cuts.layer_shape(start, self.image_size)
        inputs = keras.Input(shape, name="photograph" if start == "image" else start)
        taken = {cuts.cut_layer(start): preprocess(inputs) if start == "image" else inputs}
        self._replay(taken, max((cuts.cut_layer(c) for c in wanted), key=cuts.layer_names().index), lambda layer: layer)
        outputs = [taken[cuts.cut_layer(c)] for c in wanted]
        outputs = [
            keras.layers.GlobalAveragePooling2D(name="pooled")(o) if c == "pooled" else o
            for c, o in zip(wanted, outputs, strict=True)
        ]
        return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="prefix")

    def lean_prefix(self, start: str, wanted: Iterable[str]) -> Any:
        """`lean.prefix`: what `prefix` computes, with less work, from stored features to stored features."""
        from tuner.backbones import lean  # imports Keras and this module

        return lean.prefix(self, start, wanted)

    def suffix(self, start: str, unfrozen_layers: int, batch_norm: str, precision: str) -> Any:
        """Copies of the layers above `start`, with the trained ones trainable: (b, *layer shape of start) to (b, 2048)
        pooled.

        Frozen BatchNorm stays in inference mode whatever mode the model is called in (Keras: `trainable = False`).
        """
        import keras

        trained = set(cuts.trained_layers(unfrozen_layers, batch_norm))

        def copy(layer: Any) -> Any:
            config = layer.get_config() | {"dtype": precision, "trainable": layer.name in trained}
            return type(layer).from_config(config)

        shape = cuts.layer_shape(start, self.image_size)
        inputs = keras.Input(shape, name="photograph" if start == "image" else start)
        taken = {cuts.cut_layer(start): preprocess(inputs) if start == "image" else inputs}
        copies = self._replay(taken, cuts.cut_layer("pooled"), copy)
        for name, layer in copies.items():
            if layer.weights:
                layer.set_weights(self.stock.get_layer(name).get_weights())
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled", dtype=precision)(taken[cuts.cut_layer("pooled")])
        return keras.Model(inputs, pooled, name=f"suffix_{start}_{unfrozen_layers}")

    def _replay(self, taken: dict[str, Any], last: str, use: Callable[[Any], Any]) -> dict[str, Any]:
        """Applies `use(layer)` for every stock layer above the one in `taken` up to `last`; fills `taken` by layer
        name.
        """
        names = cuts.layer_names()
        below = max(names.index(n) for n in taken)
        used = {}
        for layer in self.stock.layers[below + 1 : names.index(last) + 1]:
            sources = [taken[node.operation.name] for node in layer._inbound_nodes[0].parent_nodes]
            used[layer.name] = use(layer)
            taken[layer.name] = used[layer.name](sources if len(sources) > 1 else sources[0])
        return used


def preprocess(photograph: Any) -> Any:
    """RGB 0..255 (b, h, w, 3) to float32 with ImageNet's mean subtracted: caffe preprocessing in RGB order."""
    import keras

    return keras.layers.Rescaling(1.0, offset=[-m for m in IMAGENET_MEAN_RGB], name="preprocess")(photograph)
