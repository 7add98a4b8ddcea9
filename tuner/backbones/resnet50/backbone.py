"""The ResNet-50 that a search runs from its numbers alone, and the stock network of exports.

It takes RGB with ImageNet's mean subtracted, not Keras's BGR: the first convolution's kernel is turned round once when
the weights are loaded, which is the same function (to rounding) and lets one Rescaling layer do the preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.backbones.architecture import architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.resnet50 import tables
from tuner.backbones.resnet50.numbers import Numbers
from tuner.backbones.weights import Weights, known, load_into
from tuner.backends import backend

if TYPE_CHECKING:
    from tuner.backbones.graph import Graph


class ResNet50(Backbone):
    """A ResNet-50's numbers, and the stock Keras network with them, both made on first use.

    `calibration_images()` gives training images, RGB 0..255 (n, side, side, 3) of any dtype; only random weights ask
    for them. The stock parts read the whole activation at a stage's end, the others every second pixel.
    """

    def __init__(
        self, image_size: int, weights: Weights, cache: Path, calibration_images: Callable[[], np.ndarray]
    ) -> None:
        self.architecture, self.weights = architecture("resnet50", image_size=image_size), weights
        self._cache, self._calibration_images = cache, calibration_images

    @cached_property
    def numbers(self) -> Numbers:
        """The weights by layer, as `numbers.Numbers` but for conv1's kernel, which takes RGB. Raises WeightsError."""
        if (found := known(self.weights, self._cache)) is None:
            model = self._network()
            load_into(model, self.weights, self._cache, lambda: self._calibration()[..., ::-1])
            found = {name: model.get_layer(name).get_weights() for name in tables.weight_shapes()}
        kernel, bias = found["conv1_conv"]
        return found | {"conv1_conv": [np.ascontiguousarray(kernel[:, :, ::-1, :]), bias]}

    @cached_property
    def graph(self) -> Graph:
        """`keras.applications.ResNet50(include_top=False)` at this image size, frozen, taking mean-free RGB."""
        model = self._network()
        from tuner.backbones.graph import Graph
        from tuner.backbones.resnet50.lean import preprocess

        for name, arrays in self.numbers.items():
            model.get_layer(name).set_weights(arrays)
        return Graph(model, name="resnet50", preprocess=preprocess)

    def _network(self) -> Any:
        backend.start()
        import keras

        side = self.image_size
        # A name of our own: Keras numbers unnamed inputs, so the second model's would be "input_layer_1".
        image = keras.Input((side, side, 3), name=tables.STEM[0])
        return keras.applications.ResNet50(weights=None, include_top=False, input_tensor=image)

    def _calibration(self) -> np.ndarray:
        return np.asarray(self._calibration_images(), np.float32) - np.array(tables.IMAGENET_MEAN_RGB, np.float32)

    def parameters(self) -> int:
        """Number of parameters of the whole backbone."""
        return sum(a.size for arrays in self.numbers.values() for a in arrays)

    def prefix(self, start: str, cuts: Iterable[str]) -> Any:
        """As `Backbone.prefix`, with less work (`lean`)."""
        backend.start()
        from tuner.backbones.resnet50 import lean

        return lean.prefix(self.numbers, self.architecture, start, cuts)

    def suffix(
        self, start: str, unfrozen_layers: int, batch_norm: str, precision: str, means: Sequence[str] = ()
    ) -> Any:
        """As `Backbone.suffix`, with less work (`lean`)."""
        from tuner.backbones.resnet50 import lean

        trained = frozenset(self.architecture.trained(unfrozen_layers, batch_norm))
        return lean.suffix(self.numbers, self.architecture, start, trained, precision, means)

    def pretrain(self, model: Any) -> None:
        """As `Backbone.pretrain`, for a suffix of `suffix`."""
        from tuner.backbones.resnet50 import lean

        lean.pretrain(model, self.numbers)

    def _graph_cut(self, cut: str) -> str:
        return tables.cut_layer(cut)
