"""A backbone: an architecture and its weights, cut into what is frozen and what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    def prefix_with_means(self, start: str, cuts: Iterable[str], means: Iterable[str]) -> Any:
        """`prefix` as a list of outputs, and after those the means over height and width of what is stored at each cut
        of `means`: (b, channels).
        """
        cuts, means = list(cuts), list(means)
        both = list(dict.fromkeys([*cuts, *means]))
        below = self.prefix(start, both)
        import keras

        at = dict(zip(both, below.outputs, strict=True))
        pooled = [keras.layers.GlobalAveragePooling2D(name=f"{cut}_mean", dtype="float32")(at[cut]) for cut in means]
        return keras.Model(below.inputs, [*(at[cut] for cut in cuts), *pooled], name="prefix")

    def suffix(
        self, start: str, unfrozen_layers: int, batch_norm: str, precision: str, means: Sequence[str] = ()
    ) -> Any:
        """Copies of the layers above `start`, the trained ones trainable: (b, *shape at start) to (b, width) pooled,
        then the means over height and width at each cut of `means`, all above `start`: (b, channels).

        Frozen BatchNorm stays as it was whatever mode the model is called in.
        """
        return self._with_means(self.graph.suffix(start, unfrozen_layers, batch_norm, precision, also=means), means)

    def pretrain(self, model: Any) -> None:
        """Sets the trained layers of a suffix back to the backbone's weights."""
        for layer in model.layers:
            if layer.trainable and layer.weights:
                layer.set_weights(self.graph.layer(layer.name).get_weights())

    def stock_prefix(self, start: str, cuts: Iterable[str]) -> Any:
        """What `prefix` computes, by Keras's own layers, to be saved: the stock network's, not copies."""
        return self.graph.prefix(self._graph_cut(start), [self._graph_cut(cut) for cut in cuts])

    def stock_means(self, cuts: Sequence[str]) -> Any:
        """By Keras's own layers, to be saved: from RGB 0..255 to the means over height and width of what is stored at
        each cut of `cuts`, joined: (b, sum of channels).
        """
        below = self.stock_prefix("image", cuts)
        import keras

        found = [self._mean(cut, x) for cut, x in zip(cuts, below.outputs, strict=True)]
        joined = keras.layers.Concatenate(name="joined")(found) if len(found) > 1 else found[0]
        return keras.Model(below.inputs, joined, name="means")

    def stock_prefix_with_means(self, cut: str, means: Sequence[str]) -> Any:
        """By Keras's own layers, to be saved: from RGB 0..255 to what is at a cut and, joined, the means at each cut of
        `means`, none above it: (b, sum of channels).
        """
        wanted = list(dict.fromkeys([cut, *means]))
        below = self.stock_prefix("image", wanted)
        import keras

        at = dict(zip(wanted, below.outputs, strict=True))
        found = [self._mean(name, at[name]) for name in means]
        joined = keras.layers.Concatenate(name="joined")(found) if len(found) > 1 else found[0]
        return keras.Model(below.inputs, [at[cut], joined], name="prefix")

    def stock_suffix(
        self, start: str, unfrozen_layers: int, batch_norm: str, precision: str, means: Sequence[str] = ()
    ) -> Any:
        """What `suffix` computes, by copies of Keras's own layers, to be saved."""
        also = [self._graph_cut(cut) for cut in means]
        suffix = self.graph.suffix(
            self._graph_cut(start), unfrozen_layers, batch_norm, precision, also=also, stock=True
        )
        return self._with_means(suffix, means)

    def _graph_cut(self, cut: str) -> str:
        """What the stock network calls a cut."""
        return cut

    def _with_means(self, suffix: Any, cuts: Sequence[str]) -> Any:
        """The suffix with the means of its outputs at `cuts`, which come after the pooled one."""
        import keras

        if not cuts:
            return suffix
        pooled, *at = suffix.outputs
        found = [self._mean(cut, x) for cut, x in zip(cuts, at, strict=True)]
        return keras.Model(suffix.inputs, [pooled, *found], name=suffix.name)

    def _mean(self, cut: str, x: Any) -> Any:
        """By Keras's own layers: the mean over height and width of what is stored of the tensor at a cut."""
        import keras

        if len(x.shape) != 4:
            return x
        if (step := -(-x.shape[1] // self.architecture.shape(cut)[0])) > 1:  # not every pixel is stored
            x = keras.layers.MaxPooling2D(1, strides=step, name=f"{cut}_stored")(x)
        return keras.layers.GlobalAveragePooling2D(name=f"{cut}_mean", dtype="float32")(x)
