"""The dense head, of one width or shared by all widths that a study has.

Above a trained suffix a trace takes longer than an epoch of a small study, so there one compiled network serves every
head width: its hidden layer is as wide as the widest, a narrower head is its first units, and the others stay exactly
zero, because a unit whose weights in and out are zero gets no gradient and no optimizer moves a zero without one. A
head without a hidden layer is a second branch; a gate of 0 or 1 leaves only one branch its output and its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.backends import backend
from tuner.backends.variables import view, zero
from tuner.spec.seeds import generator, seed_for

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402

WIDEST_SHARED = 1024
"""A wider head has a network of its own: its optimizer would cost the narrow ones more than their traces."""

Piece = tuple[Any, tuple[slice, ...]]
"""A variable and the part of it that the width in use has; all else of it is zero."""


class HeadDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout whose rate is a variable, so that another rate needs no other trace. Never saved."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(0)

    def build(self, shape: Any) -> None:
        self.rate = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="rate", dtype="float32", autocast=False
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        # keras.random.dropout wants its rate as a Python number. Drawn unit by unit, so that a unit's numbers do not
        # depend on how many units come after it.
        rows, units = keras.ops.shape(inputs)
        drawn = keras.ops.transpose(keras.random.uniform((units, rows), dtype="float32", seed=self.seeds))
        kept = keras.ops.cast(drawn >= self.rate, inputs.dtype)
        return inputs * kept / keras.ops.cast(1.0 - self.rate, inputs.dtype)


class Gate(keras.layers.Layer):  # type: ignore[misc]
    """The first of two inputs where `first` is 1, the second where it is 0. Never saved."""

    def build(self, shapes: Any) -> None:
        self.first = self.add_weight(shape=(), initializer="ones", trainable=False, name="first", dtype="float32")

    def call(self, inputs: Any) -> Any:
        return inputs[0] * self.first + inputs[1] * (1.0 - self.first)


class Branch:
    """Dense layers from pooled features to float32 logits with a hidden layer of `widest` units, or none for 0."""

    def __init__(
        self, widest: int, name: str = "", *, classes: int, features: int, precision: str, optimizer: str, dropout: bool
    ) -> None:
        self.widest = widest
        self.layers = head_layers(widest, name, classes=classes, features=features, precision=precision)
        self.variables = [v for layer in self.layers for v in layer.trainable_variables]
        self.names = [f"{layer.name.removeprefix(name)}/{v.name}" for layer in self.layers for v in layer.weights]
        self.optimizer = make_optimizer(optimizer)
        self.optimizer.build(self.variables)
        self.dropout = HeadDropout(name=f"{name}head_dropout", dtype=precision) if dropout else None
        self.wear(widest)

    def __call__(self, pooled: Any) -> Any:
        for layer in self.layers:
            if layer is self.layers[-1] and self.dropout is not None:
                pooled = self.dropout(pooled)
            pooled = layer(pooled)
        return pooled

    def wear(self, width: int) -> None:
        """Takes `width` hidden units from now on."""
        own, rest = slice(0, width), slice(None)
        every = [(rest, own), (own,), (own, rest), (rest,)] if self.widest else [(rest, rest), (rest,)]
        self._parts = every if width else [(rest,) * len(v.shape) for v in self.variables]

    def pieces(self) -> dict[str, Piece]:
        """The variables by the name they have in checkpoints and exports."""
        return dict(zip(self.names, zip(self.variables, self._parts, strict=True), strict=True))

    def slots(self) -> list[Piece]:
        """The optimizer's variables in its own order: two numbers, then the slots, each shaped as its variable."""
        own = self.optimizer.variables
        per = (len(own) - 2) // len(self.variables)
        grouped = [i // per for i in range(len(own) - 2)]  # one variable's slots after another's, or one kind's
        if any(own[i + 2].shape != self.variables[at].shape for i, at in enumerate(grouped)):
            grouped = [i % len(self.variables) for i in range(len(own) - 2)]
        return [(v, ()) for v in own[:2]] + [(own[i + 2], self._parts[at]) for i, at in enumerate(grouped)]

    def clear(self) -> None:
        """Sets all its numbers, the optimizer's too, to zero."""
        for variable in (*self.variables, *self.optimizer.variables):
            zero(variable)


class Head:
    """One or two branches from pooled features to logits; the width worn last decides which one and how much of it.

    `widths`: the hidden widths it can be asked for, 0 for none. `features`: number of pooled features.
    """

    def __init__(self, widths: Sequence[int], **options: Any) -> None:
        widest = max(widths)
        self.branches = [Branch(widest, **options)]
        self.gate = None
        if widest and 0 in widths:
            self.branches.append(Branch(0, "direct_", **options))
            self.gate = Gate(name="head_gate", dtype="float32")
        self.worn = self.branches[0]

    def __call__(self, pooled: Any) -> Any:
        found = [branch(pooled) for branch in self.branches]
        return self.gate(found) if self.gate is not None else found[0]

    @property
    def groups(self) -> list[tuple[Any, list[Any]]]:
        """Each branch's optimizer and variables."""
        return [(branch.optimizer, branch.variables) for branch in self.branches]

    def wear(self, width: int) -> None:
        """Is a head of this width from now on; its numbers mean nothing until it is cleared and set."""
        self.worn = self.branches[-1] if not width else self.branches[0]
        self.worn.wear(width)
        if self.gate is not None:
            self.gate.first.assign(1.0 if width else 0.0)

    def clear(self) -> None:
        """Sets every branch to zero: what a head is not has to be, and may have become NaN."""
        for branch in self.branches:
            branch.clear()

    def draw(self, seed: int, configuration: str) -> None:
        """Kernels drawn by name (Glorot and Bengio 2010) at the width that is worn; what is zero stays zero."""
        for name, (variable, part) in self.worn.pieces().items():
            if name.endswith("/kernel"):
                shape = np.empty(variable.shape, np.uint8)[part].shape
                limit = float(np.sqrt(6.0 / sum(shape)))
                draw = generator(seed, configuration, "head", name.split("/")[0])
                assign((variable, part), draw.uniform(-limit, limit, shape))

    def set_dropout(self, rate: float) -> None:
        for branch in self.branches:
            if branch.dropout is not None:
                branch.dropout.rate.assign(rate)

    def seed_dropout(self, *names: int | str) -> None:
        for branch in self.branches:
            if branch.dropout is not None:
                branch.dropout.seeds.state.assign(np.array([seed_for(*names) % 2**32, 0], dtype="uint32"))


def assign(piece: Piece, value: Any) -> None:
    """Sets a piece; what the variable has beyond it becomes zero."""
    variable, part = piece
    if not part and np.shape(value) == tuple(variable.shape):
        variable.assign(value)
        return
    whole = np.zeros(variable.shape, dtype=keras.backend.standardize_dtype(variable.dtype))
    whole[part] = value
    variable.assign(whole)


def read(piece: Piece) -> np.ndarray:
    """A piece where it lies, to be read before anything else is assigned or trained."""
    variable, part = piece
    return view(variable)[part]


def assign_all(pieces: Mapping[str, Piece], values: Mapping[str, np.ndarray]) -> None:
    """Sets every piece by name. Raises ValueError for an array of another shape."""
    for name, piece in pieces.items():
        value = np.asarray(values[name])
        if value.shape != (shape := np.empty(piece[0].shape, np.uint8)[piece[1]].shape):
            raise ValueError(f"checkpoint and network differ: {name} has {value.shape}, expected {shape}")
        assign(piece, value)


def linear_start(drawn: Mapping[str, np.ndarray], linear: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A head's numbers by name so that it computes what a linear one does, arrays "head_logits/kernel" float32
    (features, k) and "head_logits/bias" (k,).

    In a hidden layer two units with ReLU carry each logit, its positive and its negative part; the others keep their
    `drawn` weights and begin with none to the logits, as in Net2Net (Chen, Goodfellow and Shlens, ICLR 2016). A hidden
    layer with fewer than two units a logit stays as it is drawn.
    """
    kernel, bias = linear["head_logits/kernel"], linear["head_logits/bias"]
    if "head_hidden/kernel" not in drawn:
        return dict(linear)
    found = {name: np.array(value) for name, value in drawn.items()}
    logits = kernel.shape[1]
    if found["head_hidden/bias"].size < 2 * logits:
        return found
    found["head_hidden/kernel"][:, : 2 * logits] = np.concatenate([kernel, -kernel], axis=1)
    found["head_hidden/bias"][: 2 * logits] = np.concatenate([bias, -bias])
    found["head_logits/kernel"][:] = 0.0
    found["head_logits/kernel"][: 2 * logits] = np.concatenate([np.eye(logits), -np.eye(logits)])
    found["head_logits/bias"][:] = 0.0
    return found


def head_layers(width: int, prefix: str = "", *, classes: int, features: int, precision: str) -> list[Any]:
    """The head's dense layers, (b, features) pooled to float32 logits: one for two classes, else one a class."""
    dense = keras.layers.Dense
    hidden = [dense(width, activation="relu", name=f"{prefix}head_hidden", dtype=precision)] if width else []
    layers = [*hidden, dense(1 if classes == 2 else classes, name=f"{prefix}head_logits", dtype="float32")]
    for layer, inputs in zip(layers, (features, width), strict=False):
        layer.build((None, inputs))
    return layers


def make_optimizer(kind: str) -> Any:
    """A Keras optimizer; the learning rate is set for each trial."""
    if kind == "sgd":
        return keras.optimizers.SGD(1e-3, momentum=0.9)
    adam = keras.optimizers.Adam  # weight decay is the step's own, decoupled: AdamW is Adam with it
    return {"adam": adam, "adamw": adam, "rmsprop": keras.optimizers.RMSprop}[kind](1e-3)
