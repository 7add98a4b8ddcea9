"""What is trained: the suffix above a cut with its head, compiled once and reset for each trial.

Above a suffix one network serves every head width of the study (`head`); the learning rate, the dropout rate and the
weight decay are numbers that change from trial to trial without a new trace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.backbones.backbone import Backbone
from tuner.backends import backend
from tuner.backends.variables import variable_like, zero
from tuner.features import sets
from tuner.training.head import WIDEST_SHARED, Head, Piece, assign_all, linear_start, make_optimizer, read

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402

KEPT = 12  # compiled networks kept at a time: bounds memory when head_width is a range


@dataclass(frozen=True)
class NetworkKey:
    """What needs a trace of its own."""

    start: str  # the stored cut that is its input
    unfrozen_layers: int  # canonical
    head_widths: tuple[int, ...]  # those that share it
    dropout: bool
    cuts: tuple[str, ...] = ("pooled",)  # whose means the head reads, joined


@dataclass(frozen=True)
class _Part:
    """Variables of a suffix that share a learning rate; `level`: blocks between theirs and the top."""

    level: int
    optimizer: Any
    variables: list[Any]


@dataclass
class _Suffix:
    """`inputs` and `features`: of a network with it, and what the network's head reads."""

    model: Any
    inputs: Any
    features: Any
    parts: list[_Part]

    @property
    def variables(self) -> list[Any]:
        return [v for part in self.parts for v in part.variables]


class Network:
    """One compiled network. `wear`, `reset`, `load` and `state` move a trial's state in and out."""

    def __init__(
        self,
        key: NetworkKey,
        classes: int,
        suffix: _Suffix | None,
        backbone: Backbone,
        optimizer: str,
        precision: str,
        averaged: bool = False,
    ) -> None:
        self.key, self._backbone, self._suffix = key, backbone, suffix
        if suffix is None:
            inputs = features = keras.Input((backbone.architecture.width,), name="pooled")
        else:
            inputs, features = suffix.inputs, suffix.features
        self.head = Head(
            key.head_widths,
            classes=classes,
            features=features.shape[-1],
            precision=precision,
            optimizer=optimizer,
            dropout=key.dropout,
        )
        self.model = keras.Model(inputs, self.head(features), name="network")
        self.wear(max(key.head_widths))
        groups = self.head.groups + [(part.optimizer, part.variables) for part in self._parts]
        one, trained = classes == 2, self.model.trainable_variables
        self._averages = {id(v): variable_like(v) for v in trained} if averaged else {}
        self.stepper = backend.stepper(
            self.model,
            groups,
            binary_loss if one else categorical_loss,
            binary_right if one else categorical_right,
            list(self._averages.values()),
        )

    @property
    def _parts(self) -> list[_Part]:
        return self._suffix.parts if self._suffix else []

    def wear(self, head_width: int) -> None:
        """Has this head width from now on; `reset` or `load` has to follow."""
        self.worn = head_width
        self.head.wear(head_width)

    @property
    def trained_parameters(self) -> int:
        return int(sum(read(piece).size for piece in self._head().values())) + sum(
            int(np.prod(v.shape)) for v in (self._suffix.variables if self._suffix else ())
        )

    def _head(self) -> dict[str, Piece]:
        return self.head.worn.pieces()

    def _weights(self) -> dict[str, Piece]:
        """What training changes, by name: trainable variables and trained BatchNorm's moving statistics."""
        found = list(self._suffix.variables) if self._suffix else []
        for layer in self._suffix.model.layers if self._suffix else ():
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                found += layer.non_trainable_variables
        return {v.path: (v, ()) for v in found} | self._head()

    def _averaged(self) -> dict[str, Piece]:
        """The moving averages of what is averaged, by the name of the weights."""
        pieces = self._weights().items() if self._averages else ()
        return {name: (self._averages[id(v)], part) for name, (v, part) in pieces if id(v) in self._averages}

    def _slots(self) -> dict[str, Piece]:
        """All else that the next epoch depends on, by name: the optimizers' variables and the moving averages."""
        groups = {"head": self.head.worn.slots()}
        for part in self._parts:
            name = f"suffix/{part.level}" if len(self._parts) > 1 else "suffix"
            groups[name] = [(v, ()) for v in part.optimizer.variables]
        found = {f"optimizer/{name}/{i}": piece for name, pieces in groups.items() for i, piece in enumerate(pieces)}
        return found | {f"average/{name}": piece for name, piece in self._averaged().items()}

    def reset(self, seed: int, configuration: str) -> None:
        """The state before the first epoch: pretrained suffix, head drawn by name, empty slots."""
        self.head.clear()
        self.head.draw(seed, configuration)
        if self._suffix:
            self._backbone.pretrain(self._suffix.model)
        for part in self._parts:
            for slot in part.optimizer.variables:
                zero(slot)
        self._clear_averages()

    def _clear_averages(self) -> None:
        for average in self._averages.values():
            zero(average)

    def begin_linear(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Has the head compute what a linear one does, by variable path; see `head.linear_start`."""
        pieces = self._head()
        assign_all(pieces, linear_start({name: read(piece) for name, piece in pieces.items()}, arrays))

    def set_rate(self, learning_rate: float, multiplier: float, layer_decay: float = 1.0) -> None:
        """The learning rate from now on; `multiplier`: the suffix's over the head's, `layer_decay`: each block's over
        that of the block above it.
        """
        for optimizer, _ in self.head.groups:
            optimizer.learning_rate = learning_rate
        for part in self._parts:
            part.optimizer.learning_rate = learning_rate * multiplier * layer_decay**part.level

    def decays(self, decay: float, multiplier: float, layer_decay: float = 1.0) -> list[float]:
        """Weight decay a step of each of the stepper's groups."""
        suffix = [decay * multiplier * layer_decay**part.level for part in self._parts]
        return [decay] * len(self.head.groups) + suffix

    def set_dropout(self, rate: float) -> None:
        """The dropout rate from now on."""
        self.head.set_dropout(rate)

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Inside, the network has the moving averages for weights, if it keeps any."""
        kept = {name: np.array(read(piece)) for name, piece in self._weights().items() if self._averages}
        if kept:
            assign_all(self._weights(), kept | {name: np.array(read(p)) for name, p in self._averaged().items()})
        try:
            yield
        finally:
            if kept:
                assign_all(self._weights(), kept)

    def seed_dropout(self, *names: int | str) -> None:
        """Fixes what the next epoch draws."""
        self.head.seed_dropout(*names)

    def weights(self, copied: bool = True) -> dict[str, np.ndarray]:
        """What training changed, by variable path (float32), moving averages where it keeps them; not `copied`, to be
        written before anything else happens to the network.
        """
        found = {name: read(piece) for name, piece in (self._weights() | self._averaged()).items()}
        return {name: np.array(value) for name, value in found.items()} if copied else found

    def state(self) -> dict[str, np.ndarray]:
        """What `weights` gives and the optimizers' state: all that the next epoch depends on. Not copies: to be written
        before anything else happens to the network.
        """
        return {name: read(piece) for name, piece in (self._weights() | self._slots()).items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes `state()` or `weights()` back. Raises KeyError or ValueError when it is another network's."""
        wanted = self._weights() | (self._slots() if any(n.startswith("optimizer/") for n in state) else {})
        missing = set(wanted) ^ set(state)
        if missing:
            raise KeyError(f"checkpoint and network differ in {sorted(missing)[:3]}")
        self.head.clear()
        self._clear_averages()
        assign_all(wanted, state)


class Networks:
    """The compiled networks of a process, made when first asked for; the longest unused one goes when there are too
    many. `head_widths`: those of the study's space, which share a network above a suffix. `layered`: blocks may have
    learning rates of their own; `averaged`: a moving average of the weights is kept and is what is evaluated.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        batch_norm: str,
        optimizer: str,
        precision: str,
        head_widths: Sequence[int] = (),
        *,
        layered: bool = False,
        averaged: bool = False,
    ) -> None:
        self.backbone, self.classes = backbone, classes
        self._shared = tuple(w for w in sorted(set(head_widths)) if w <= WIDEST_SHARED)
        self._batch_norm, self._optimizer, self._precision = batch_norm, optimizer, precision
        self._layered, self._averaged = layered, averaged
        self._networks: OrderedDict[NetworkKey, Network] = OrderedDict()
        self._suffixes: dict[tuple[str, int, tuple[str, ...]], _Suffix] = {}

    def get(
        self,
        start: str,
        unfrozen_layers: int,
        head_width: int,
        dropout: bool,
        *,
        cuts: tuple[str, ...] = ("pooled",),
    ) -> Network:
        """The network of these values whose input is the stored cut `start` and, where its head reads the means at
        several `cuts`, the means at those below the unfrozen layers; it may hold what was trained last.
        """
        depth = self.backbone.architecture.canonical(unfrozen_layers, self._batch_norm)
        # A head alone is traced in a fifth of a second, and would pay for units that it does not have in every step.
        shared = start != "pooled" and head_width in self._shared
        key = NetworkKey(start, depth, self._shared if shared else (head_width,), dropout, cuts)
        if key not in self._networks:
            suffix = None if start == "pooled" else self._suffix(start, depth, cuts)
            self._networks[key] = Network(
                key,
                self.classes,
                suffix,
                self.backbone,
                optimizer=self._optimizer,
                precision=self._precision,
                averaged=self._averaged,
            )
        self._networks.move_to_end(key)
        while len(self._networks) > KEPT:
            self._networks.popitem(last=False)
            used = {(k.start, k.unfrozen_layers, k.cuts) for k in self._networks}
            self._suffixes = {k: v for k, v in self._suffixes.items() if k in used}
        if self._networks[key].worn != head_width:
            self._networks[key].wear(head_width)
        return self._networks[key]

    def _suffix(self, start: str, unfrozen_layers: int, cuts: tuple[str, ...]) -> _Suffix:
        of = self.backbone.architecture
        if (start, unfrozen_layers, cuts) not in self._suffixes:
            beside = sets.beside(cuts, of.cut_for(unfrozen_layers, self._batch_norm), of)
            means = [cut for cut in cuts if cut != "pooled" and cut not in beside]
            model = self.backbone.suffix(start, unfrozen_layers, self._batch_norm, self._precision, means)
            inputs, found = model.inputs[0], list(model.outputs)
            if beside:
                found.append(keras.Input((sum(of.shape(cut)[-1] for cut in beside),), name="means"))
                inputs = inputs, found[-1]
            features = keras.layers.Concatenate(name="joined", dtype="float32")(found) if len(found) > 1 else found[0]
            self._suffixes[start, unfrozen_layers, cuts] = _Suffix(model, inputs, features, self._parts(model))
        return self._suffixes[start, unfrozen_layers, cuts]

    def _parts(self, model: Any) -> list[_Part]:
        """The trained variables of a suffix, a part a block where blocks may have learning rates of their own."""
        variables: dict[int, list[Any]] = {} if self._layered else {0: list(model.trainable_variables)}
        for layer in model.layers if self._layered else ():
            if layer.trainable_variables:
                level = self.backbone.architecture.level(layer.name)
                variables.setdefault(level, []).extend(layer.trainable_variables)
        parts = [_Part(level, make_optimizer(self._optimizer), own) for level, own in variables.items()]
        for part in parts:
            part.optimizer.build(part.variables)
        return parts


# ---- losses: targets (b, k) float32 already smoothed, logits (b, k); one value a row ----


def binary_loss(targets: Any, logits: Any) -> Any:
    # Keras's own form reads the logits four times, and the sum of four gradients depends on the order that TensorFlow
    # takes them in; a sum of two does not.
    softplus = keras.ops.softplus
    return ((1.0 - targets) * softplus(logits) + targets * softplus(-logits))[:, 0]


def binary_right(targets: Any, logits: Any) -> Any:
    return keras.ops.cast((logits[:, 0] > 0) == (targets[:, 0] > 0.5), "float32")


def categorical_loss(targets: Any, logits: Any) -> Any:
    return keras.ops.categorical_crossentropy(targets, logits, from_logits=True)


def categorical_right(targets: Any, logits: Any) -> Any:
    return keras.ops.cast(keras.ops.argmax(logits, axis=-1) == keras.ops.argmax(targets, axis=-1), "float32")


def averaged(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Logits of the mean of the class probabilities that each of `logits`, (n, k), gives the same images.

    One alone is given back as it is; of several it is the mean's logarithm, float64 (n, classes), which `probabilities`
    and `log_loss` take as any other logits. Nothing under- or overflows: it is added up in logarithms.
    """
    if len(logits) == 1:
        return logits[0]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.logaddexp.reduce([_log_probabilities(z) for z in logits]) - np.log(len(logits)))


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    z = logits.astype(np.float64)
    if z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


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
