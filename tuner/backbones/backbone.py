"""A backbone: an architecture and its weights, cut into what is frozen and what is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tuner.backbones.architecture import Architecture
from tuner.backbones.weights import Weights

if TYPE_CHECKING:
    from tuner.backbones.graph import Graph


class Backbone:
    """Any Keras functional network, in parts of its own layers. An architecture with a faster way overrides `prefix`
    and `suffix`, which a search runs; the stock parts, of Keras's layers only, are for exports.

    `prefix` and `suffix` read features as `architecture.shape` says.
    """

    architecture: Architecture
    weights: Weights

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self._graph, self.architecture, self.weights = graph, graph.architecture, weights

    @property
    def graph(self) -> Graph:
        """The stock network with its weights, taken apart."""
        return self._graph

    @property
    def stock(self) -> Any:
        """The stock Keras network without its top, frozen."""
        return self.graph.network

    @property
    def image_size(self) -> int:
        """Pixels on a side of the square images."""
        return self.architecture.image_size

    def parameters(self) -> int:
        """Number of parameters of the whole backbone."""
        return int(self.stock.count_params())

    def prefix(self, start: str, cuts: Iterable[str]) -> Any:
        """The frozen layers from the cut `start` to each cut of `cuts`: input (b, *shape at start), a list of one
        output a cut, or the output itself when only one is wanted. `start` "image" takes RGB 0..255 of any dtype.
        """
        return self.graph.prefix(start, cuts)

    def suffix(self, start: str, unfrozen_layers: int, batch_norm: str, precision: str) -> Any:
        """Copies of the layers above `start`, the trained ones trainable: (b, *shape at start) to (b, width) pooled.

        Frozen BatchNorm stays as it was whatever mode the model is called in.
        """
        return self.graph.suffix(start, unfrozen_layers, batch_norm, precision)

    def pretrain(self, model: Any) -> None:
        """Sets the trained layers of a suffix back to the backbone's weights."""
        for layer in model.layers:
            if layer.trainable and layer.weights:
                layer.set_weights(self.graph.layer(layer.name).get_weights())

    def stock_prefix(self, start: str, cuts: Iterable[str]) -> Any:
        """What `prefix` computes, by Keras's own layers, to be saved: the stock network's, not copies."""
        return self.graph.prefix(start, cuts)

    def stock_suffix(self, start: str, unfrozen_layers: int, batch_norm: str, precision: str) -> Any:
        """What `suffix` computes, by copies of Keras's own layers, to be saved."""
        return self.graph.suffix(start, unfrozen_layers, batch_norm, precision, stock=True)
