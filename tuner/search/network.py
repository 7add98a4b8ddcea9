"""What is trained: the suffix above a cut with its head, compiled once and reset for each trial.

Suffixes (their variables, their optimizer's slots) are shared by every head width on them; the learning rate, the
dropout rate and the weight decay are numbers that change from trial to trial without a new trace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.backbone import backend, cuts, lean
from tuner.backbone.resnet import Backbone
from tuner.study.seeds import generator, seed_for

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402

KEPT = 12  # compiled networks kept at a time: bounds memory when head_width is a range


@dataclass(frozen=True)
class NetworkKey:
    """What needs a trace of its own."""

    start: str  # the stored cut that is its input
    unfrozen_layers: int  # canonical
    head_width: int
    dropout: bool


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
        # keras.random.dropout wants its rate as a Python number.
        kept = keras.random.uniform(keras.ops.shape(inputs), dtype="float32", seed=self.seeds) >= self.rate
        return inputs * keras.ops.cast(kept, inputs.dtype) / keras.ops.cast(1.0 - self.rate, inputs.dtype)


@dataclass
class _Suffix:
    model: Any
    optimizer: Any
    variables: list[Any]


class Network:
    """One compiled network. `reset`, `load` and `state` move a trial's state in and out."""

    def __init__(
        self,
        key: NetworkKey,
        classes: int,
        suffix: _Suffix | None,
        backbone: Backbone,
        optimizer: str,
        precision: str,
    ) -> None:
        self.key, self._backbone, self._suffix = key, backbone, suffix
        if suffix is None:
            inputs = pooled = keras.Input((2048,), name="pooled")
        else:
            inputs, pooled = suffix.model.inputs[0], suffix.model.outputs[0]
        self.head = head_layers(classes, key.head_width, precision)
        self.dropout = HeadDropout(name="head_dropout", dtype=precision) if key.dropout else None
        x = pooled
        for layer in self.head:
            if layer is self.head[-1] and self.dropout is not None:
                x = self.dropout(x)
            x = layer(x)
        self.model = keras.Model(inputs, x, name="network")
        self.head_variables = [v for layer in self.head for v in layer.trainable_variables]
        self.optimizer = make_optimizer(optimizer)
        self.optimizer.build(self.head_variables)
        groups = [(self.optimizer, self.head_variables)] + ([(suffix.optimizer, suffix.variables)] if suffix else [])
        one = classes == 2
        self.stepper = backend.Stepper(
            self.model, groups, binary_loss if one else categorical_loss, binary_right if one else categorical_right
        )
        self._groups = groups

    @property
    def trained_parameters(self) -> int:
        return int(sum(int(np.prod(v.shape)) for v in self.model.trainable_variables))

    def _weights(self) -> dict[str, Any]:
        """What training changes, by name: trainable variables and trained BatchNorm's moving statistics."""
        found = {v.path: v for v in self.model.trainable_variables}
        for layer in self._suffix.model.layers if self._suffix else ():
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                found |= {v.path: v for v in layer.non_trainable_variables}
        return found

    def _slots(self) -> dict[str, Any]:
        names = ("head", "suffix")
        return {
            f"optimizer/{name}/{i}": v
            for name, (optimizer, _) in zip(names, self._groups, strict=False)
            for i, v in enumerate(optimizer.variables)
        }

    def reset(self, seed: int, configuration: str) -> None:
        """The state before the first epoch: pretrained suffix, head drawn by name (Glorot and Bengio 2010), empty
        slots.
        """
        if self._suffix:
            lean.pretrain(self._suffix.model, self._backbone)
        for layer in self.head:
            inputs, units = layer.kernel.shape
            limit = float(np.sqrt(6.0 / (inputs + units)))
            draw = generator(seed, configuration, "head", layer.name)
            layer.set_weights(
                [draw.uniform(-limit, limit, (inputs, units)).astype(np.float32), np.zeros(units, np.float32)]
            )
        for variable in self._slots().values():
            variable.assign(np.zeros(variable.shape, dtype=keras.backend.standardize_dtype(variable.dtype)))

    def set_head(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replaces the head's drawn numbers, by variable path."""
        for variable in self.head_variables:
            variable.assign(arrays[variable.path])

    def set_rates(self, learning_rate: float, backbone_rate: float, dropout: float) -> None:
        """The numbers of a trial that are variables of the compiled step."""
        for (optimizer, _), rate in zip(self._groups, (1.0, backbone_rate), strict=False):
            optimizer.learning_rate = learning_rate * rate
        if self.dropout is not None:
            self.dropout.rate.assign(dropout)

    def seed_dropout(self, *names: int | str) -> None:
        if self.dropout is not None:
            self.dropout.seeds.state.assign(np.array([seed_for(*names) % 2**32, 0], dtype="uint32"))

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of what training changed, by variable path (float32)."""
        return {name: np.array(v) for name, v in self._weights().items()}

    def state(self) -> dict[str, np.ndarray]:
        """`weights` and the optimizers' state: all that the next epoch depends on."""
        return self.weights() | {name: np.array(v) for name, v in self._slots().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes `state()` or `weights()` back. Raises KeyError or ValueError when it is another network's."""
        wanted = self._weights() | (self._slots() if any(n.startswith("optimizer/") for n in state) else {})
        missing = set(wanted) ^ set(state)
        if missing:
            raise KeyError(f"checkpoint and network differ in {sorted(missing)[:3]}")
        for name, variable in wanted.items():
            variable.assign(state[name])


class Networks:
    """The compiled networks of a process, made when first asked for; the longest unused one goes when there are too
    many.
    """

    def __init__(self, backbone: Backbone, classes: int, batch_norm: str, optimizer: str, precision: str) -> None:
        self.backbone, self.classes = backbone, classes
        self._batch_norm, self._optimizer, self._precision = batch_norm, optimizer, precision
        self._networks: OrderedDict[NetworkKey, Network] = OrderedDict()
        self._suffixes: dict[tuple[str, int], _Suffix] = {}

    def get(self, start: str, unfrozen_layers: int, head_width: int, dropout: bool) -> Network:
        """The network of these values whose input is the stored cut `start`."""
        key = NetworkKey(start, cuts.canonical(unfrozen_layers, self._batch_norm), head_width, dropout)
        if key not in self._networks:
            suffix = None if start == "pooled" else self._suffix(start, key.unfrozen_layers)
            self._networks[key] = Network(key, self.classes, suffix, self.backbone, self._optimizer, self._precision)
        self._networks.move_to_end(key)
        while len(self._networks) > KEPT:
            self._networks.popitem(last=False)
            used = {(k.start, k.unfrozen_layers) for k in self._networks}
            self._suffixes = {k: v for k, v in self._suffixes.items() if k in used}
        return self._networks[key]

    def _suffix(self, start: str, unfrozen_layers: int) -> _Suffix:
        if (start, unfrozen_layers) not in self._suffixes:
            model = lean.suffix(self.backbone, start, unfrozen_layers, self._batch_norm, self._precision)
            optimizer = make_optimizer(self._optimizer)
            variables = list(model.trainable_variables)
            optimizer.build(variables)
            self._suffixes[start, unfrozen_layers] = _Suffix(model, optimizer, variables)
        return self._suffixes[start, unfrozen_layers]


def head_layers(classes: int, width: int, precision: str = "float32") -> list[Any]:
    """The head's dense layers, pooled features to float32 logits: one for two classes, else one a class."""
    hidden = [keras.layers.Dense(width, activation="relu", name="head_hidden", dtype=precision)] if width else []
    layers = [*hidden, keras.layers.Dense(1 if classes == 2 else classes, name="head_logits", dtype="float32")]
    for layer, inputs in zip(layers, (2048, width), strict=False):
        layer.build((None, inputs))
    return layers


def make_optimizer(kind: str) -> Any:
    """A Keras optimizer; the learning rate is set for each trial."""
    if kind == "sgd":
        return keras.optimizers.SGD(1e-3, momentum=0.9)
    return {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[kind](1e-3)


# ---- losses: targets (b, k) float32 already smoothed, logits (b, k); one value a row ----


def binary_loss(targets: Any, logits: Any) -> Any:
    return keras.ops.binary_crossentropy(targets, logits, from_logits=True)[:, 0]


def binary_right(targets: Any, logits: Any) -> Any:
    return keras.ops.cast((logits[:, 0] > 0) == (targets[:, 0] > 0.5), "float32")


def categorical_loss(targets: Any, logits: Any) -> Any:
    return keras.ops.categorical_crossentropy(targets, logits, from_logits=True)


def categorical_right(targets: Any, logits: Any) -> Any:
    return keras.ops.cast(keras.ops.argmax(logits, axis=-1) == keras.ops.argmax(targets, axis=-1), "float32")


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Class probabilities, float32 (n, classes), from logits (n, 1) of two classes or (n, classes)."""
    z = logits.astype(np.float64)
    if z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    with np.errstate(invalid="ignore"):  # of logits that are not finite come NaN, which the trial reports
        z = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(z / z.sum(axis=1, keepdims=True), dtype=np.float32)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats, in float64: what Keras's binary or sparse categorical cross-entropy gives."""
    z = logits.astype(np.float64)
    if z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    top = z.max(axis=1)
    with np.errstate(invalid="ignore"):
        return float(np.mean(top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(z)), labels]))
