"""Any Keras functional network with one image in and one tensor out: its architecture, and parts of it as models.

The cuts are found in the graph. The operations in topological order, a tensor is one that every path goes through
exactly when nothing made before it is read after it. Cuts with no trainable weights between them serve the same depths:
the smallest of them is kept, of equal ones the highest.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from math import prod
from typing import Any

from tuner.backbones.architecture import Architecture
from tuner.backbones.layer import Layer
from tuner.backbones.normalizing import TrainedBatchNormalization
from tuner.backends import backend

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402


class Graph:
    """A network taken apart.

    network: `keras.Model` from (b, side, side, 3) to (b, h, w, channels), pooled here, or (b, width); it is frozen, and
    belongs to the graph from now on. preprocess: from RGB 0..255 to what it reads, nothing where the network does that
    itself, such as `keras.applications.resnet.preprocess_input`. name: the architecture's. Raises ValueError for a
    network that cannot be cut so.
    """

    def __init__(self, network: Any, *, name: str, preprocess: Callable[[Any], Any] | None = None) -> None:
        self.network, self._preprocess = network, preprocess
        self._operations = list(network.operations)
        self._nodes = _nodes(network)
        self._names = _names(self._operations)
        network.trainable = True  # to see which variables can be
        places = {id(operation): i for i, operation in enumerate(self._operations)}
        sources = [[places[id(parent.operation)] for parent in node.parent_nodes] for node in self._nodes]
        kinds = [_kind(operation) for operation in self._operations]
        network.trainable = False
        tensors = [node.output_tensors[0] for node in self._nodes]
        between = _cuts(sources, [kind == "weights" for kind in kinds], [prod(t.shape[1:]) for t in tensors])
        at = [0, *between, len(tensors)]
        cuts = ("image", *(self._names[i] for i in between), "pooled")
        self._regions = [bisect_left(at, i) for i in range(len(tensors))]
        self._tensors = dict(zip(cuts, [tensors[i] for i in at[:-1]] + [network.outputs[0]], strict=True))
        shapes = {cut: tuple(tensor.shape[1:]) for cut, tensor in self._tensors.items()}
        self.architecture = Architecture(
            name=name,
            image_size=shapes["image"][0],
            cuts=cuts,
            shapes=shapes | {"pooled": shapes["pooled"][-1:]},
            table=self._table(sources, kinds, [t.shape for t in tensors]),
        )

    def _table(self, sources: list[list[int]], kinds: list[Any], shapes: list[Any]) -> tuple[Layer, ...]:
        read: list[frozenset[int]] = []  # by operation, the layers that its output is or is made of
        table: list[Layer] = []
        for i, operation in enumerate(self._operations):
            below = frozenset().union(*(read[source] for source in sources[i]))
            if isinstance(operation, keras.layers.Layer):
                macs, size = _macs(operation, shapes[i]), sum(prod(v.shape) for v in operation.weights)
                table.append(Layer(self._names[i], self._regions[i], macs, kinds[i], size, tuple(sorted(below))))
                below = frozenset({len(table) - 1})
            read.append(below)
        return tuple(table)

    def layer(self, name: str) -> Any:
        """The network's own layer of that name in the architecture's table."""
        return self._operations[self._names.index(name)]

    def prefix(self, start: str, wanted: Iterable[str]) -> Any:
        """The frozen layers from the cut `start` to each cut of `wanted`: input (b, *shape at start), a list of one
        output a cut, or the output itself when only one is wanted.

        The layers are the network's, not copies. `start` "image" takes RGB 0..255 of any dtype.
        """
        wanted = list(wanted)
        inputs, at = self._replay(start, wanted, "float32", lambda place: self._operations[place])
        outputs = [at[cut] for cut in wanted]
        return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name="prefix")

    def suffix(
        self,
        start: str,
        unfrozen_layers: int,
        batch_norm: str,
        precision: str,
        *,
        also: Sequence[str] = (),
        stock: bool = False,
    ) -> Any:
        """Copies of the layers above `start`, the trained ones trainable: (b, *shape at start) to (b, width) pooled,
        then what is at each cut of `also`.

        Frozen BatchNorm stays in inference mode whatever mode the model is called in (Keras: `trainable = False`), and
        the network's own dropout does nothing, as when Keras's guide calls a base model with `training=False`. `stock`:
        of Keras's layers only, to be saved; else trained BatchNorm is ours.
        """
        trained = set(self.architecture.trained(unfrozen_layers, batch_norm))
        copies: dict[str, Any] = {}

        def copy(place: int) -> Any:
            name, operation = self._names[place], self._operations[place]
            if isinstance(operation, keras.layers.Layer):
                copies[name] = operation = _copy(operation, name, precision, name in trained, batch_norm, stock)
            return operation

        inputs, at = self._replay(start, ["pooled", *also], precision, copy)
        for name, layer in copies.items():
            if layer.weights:
                layer.set_weights(self.layer(name).get_weights())
        outputs = [at["pooled"], *(at[cut] for cut in also)]
        return keras.Model(inputs, outputs if also else outputs[0], name=f"suffix_{unfrozen_layers}")

    def _replay(
        self, start: str, wanted: Collection[str], precision: str, use: Callable[[int], Any]
    ) -> tuple[Any, dict[str, Any]]:
        """The input at `start`, and the outputs at the cuts of `wanted` of `use(place)` for each operation between."""
        low, high = self.architecture.index(start), max(map(self.architecture.index, wanted))
        inputs = x = keras.Input(self.architecture.shape(start), name=start)
        if start == "image" and self._preprocess is not None:
            x = self._preprocess(inputs)
        taken = {id(self._tensors[start]): x}
        for place, (operation, node) in enumerate(zip(self._operations, self._nodes, strict=True)):
            if low < self._regions[place] <= high:
                args, kwargs = node.arguments.fill_in(taken)
                dropped = isinstance(operation, keras.layers.Dropout)
                taken[id(node.output_tensors[0])] = args[0] if dropped else use(place)(*args, **kwargs)
        at = {cut: taken[id(self._tensors[cut])] for cut in wanted}
        if "pooled" in at and len(at["pooled"].shape) == 4:
            at["pooled"] = keras.layers.GlobalAveragePooling2D(name="pooled", dtype=precision)(at["pooled"])
        return inputs, at


def _nodes(network: Any) -> list[Any]:
    """The call of each operation of the network, in its order; one input, one output and one call each."""
    shape = tuple(network.inputs[0].shape)
    if len(network.inputs) != 1 or len(shape) != 4 or shape[1] != shape[2] or None in shape[1:]:
        raise ValueError(
            f"{network.name}: expected one input of (None, side, side, channels), received "
            f"{[tuple(x.shape) for x in network.inputs]}. Make it with input_shape and channels last."
        )
    calls = [node for nodes in network._nodes_by_depth.values() for node in nodes]
    nodes = {id(node.operation): node for node in calls}
    if len(calls) != len(network.operations) or len(network.outputs) != 1:
        raise ValueError(f"{network.name}: expected one output, and layers that are called once each.")
    found = [nodes[id(operation)] for operation in network.operations]
    if several := [node.operation.name for node in found if len(node.output_tensors) != 1]:
        raise ValueError(f"{network.name}: expected layers with one output, but {several[0]} has more.")
    return found


def _names(operations: Iterable[Any]) -> list[str]:
    """Names that are the same in every process: what Keras numbers by all that was made before is counted from 0."""
    found, counts = [], Counter[str]()
    for operation in operations:
        stem = re.sub(r"_\d+$", "", operation.name)
        if stem.replace("_", "") == type(operation).__name__.lower():
            found.append(f"{stem}_{counts[stem]}" if counts[stem] else stem)
            counts[stem] += 1
        else:
            found.append(operation.name)
    return found


def _cuts(sources: list[list[int]], weighted: list[bool], sizes: list[int]) -> list[int]:
    """The places of the operations whose outputs are cuts, without the image and the last ones up to the pooled
    output.
    """
    last = list(range(len(sources)))
    last[-1] = len(sources)
    for place, read in enumerate(sources):
        for source in read:
            last[source] = max(last[source], place)
    groups: list[list[int]] = [[]]
    reach = 0
    heavy = False
    for place in range(len(sources)):
        heavy = heavy or weighted[place]
        if reach <= place:
            if heavy:
                groups.append([])
            groups[-1].append(place)
            heavy = False
        reach = max(reach, last[place])
    return [min(reversed(group), key=lambda place: sizes[place]) for group in groups[1:-1]]


def _kind(operation: Any) -> str:
    if isinstance(operation, keras.layers.BatchNormalization):
        return "batch_norm"
    return "weights" if isinstance(operation, keras.layers.Layer) and operation.trainable_variables else "none"


def _macs(layer: Any, shape: tuple[int, ...]) -> int:
    """Multiply-adds for one image: every number of a kernel at every pixel of the output (convolutions, also depthwise
    and separable ones, and dense layers); of a network in the network the sum of its layers'.
    """
    if isinstance(layer, keras.Model):
        return sum(_macs(inner, inner.output.shape) for inner in layer.layers)
    kernels = sum(prod(v.shape) for v in layer.weights if v.name.endswith("kernel"))
    return kernels * prod(shape[1:-1]) if kernels else 0


def _copy(layer: Any, name: str, precision: str, trained: bool, batch_norm: str, stock: bool) -> Any:
    if isinstance(layer, keras.Model):

        def inside(inner: Any) -> Any:
            norm = isinstance(inner, keras.layers.BatchNormalization)
            on = trained and (not norm or batch_norm == "trained")
            return _copy(inner, inner.name, precision, on, batch_norm, stock)

        copied = keras.models.clone_model(layer, clone_function=inside)
        copied.name = name
        return copied
    made = type(layer)
    if made is keras.layers.BatchNormalization and trained and not stock:
        made = TrainedBatchNormalization
    if made in (keras.layers.Rescaling, keras.layers.Normalization):
        precision = "float32"  # of the image's own numbers, which bfloat16 would round
    return made.from_config(layer.get_config() | {"name": name, "dtype": precision, "trainable": trained})
