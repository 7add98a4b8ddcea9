"""What a backend has to be able to do, and nothing else: the two that there are differ in these methods only.

Everything else is written against Keras 3. These are the things Keras has no public call for: what machine this is, a
compiled forward pass, and a compiled training step over our own loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

Compiled: TypeAlias = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]


class Stepper(ABC):
    """A compiled training step and a compiled forward pass over one model, kept for the life of the process.

    The model's variables and the optimizers' slots are the state; `reset` of a trial assigns them, nothing is traced
    again. `groups` pairs each optimizer with the trainable variables it moves; together they are all of the model's, in
    the model's order. `loss(targets, logits)` gives one value per row, `correct(targets, logits)` 1 or 0.

    With `parts` above 1 a batch is taken in so many pieces whose gradients add up before the optimizers move: the same
    step but for rounding (and for trained BatchNorm's statistics) in less memory.

    `averages`: a variable beside each trainable one of the model, in its order, that takes the moving average of its
    values; none without.

    `traces` counts how often the training step was traced.
    """

    def __init__(
        self,
        model: Any,
        groups: Sequence[tuple[Any, list[Any]]],
        loss: Callable[[Any, Any], Any],
        correct: Callable[[Any, Any], Any],
        averages: Sequence[Any] = (),
    ) -> None:
        self.model, self.groups, self.loss, self.correct = model, list(groups), loss, correct
        self.averages = list(averages)
        self.traces = 0
        self._step, self._gradients, self._move, self._forward = self._compile()

    def train(
        self,
        x: Any,
        y: np.ndarray,
        weights: np.ndarray,
        rows: int,
        decays: Sequence[float],
        parts: int = 1,
        momentum: float = 0.0,
    ) -> tuple[Any, Any]:
        """One step. Inputs (b, ...) or a tuple of them, targets (b, k), row weights (b,) with 0 for padding rows, all
        float32; the number of real rows; one weight-decay amount per group (decay times learning rate; it shrinks
        kernels only); what the averages keep of themselves, 0 in the first step. Gives the sum over real rows of the
        weighted loss and the number of rows predicted correctly, both float.
        """
        args = (x, y, weights, np.float32(rows), (*(np.float32(d) for d in decays), np.float32(momentum)))
        return self._train_in_parts(*args, parts) if parts > 1 else self._step(*args)

    def logits(self, x: Any) -> np.ndarray:
        """Inference: float32 (b, k)."""
        return np.asarray(self._forward(x), dtype=np.float32)

    def _train_in_parts(
        self, x: Any, y: np.ndarray, weights: np.ndarray, rows: np.float32, decays: Any, parts: int
    ) -> tuple[float, float]:
        size = -(-len(y) // parts)
        gradients: list[Any] | None = None
        total = right = 0.0
        for first in range(0, len(y), size):
            # The last piece is filled up with rows that weigh nothing: one shape, one trace.
            at = np.arange(first, first + size)
            piece, weight = np.minimum(at, len(y) - 1), np.where(at < len(y), weights[np.minimum(at, len(y) - 1)], 0)
            taken = tuple(one[piece] for one in x) if isinstance(x, tuple) else x[piece]
            found, loss, correct = self._gradients(taken, y[piece], weight.astype(np.float32), rows)
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found, strict=True)]
            total, right = total + float(loss), right + float(correct)
        self._move(gradients, decays)
        return total, right

    @abstractmethod
    def _compile(self) -> Compiled:
        """The compiled functions. (x, y, weights, rows, decays): a whole `train` step. (x, y, weights, rows): gradients
        in the model's order, loss and correct rows of a piece; it moves BatchNorm's statistics only. (gradients,
        decays): moves the variables by gradients that were added up. (x): the model in inference mode. After the decay
        of each group, `decays` holds the momentum of the averages.
        """


class Backend(ABC):
    """What Keras runs on. One object a process, made when Keras is imported."""

    name: str
    stepper: type[Stepper]

    @abstractmethod
    def start(self) -> None:
        """Sets it up before anything is computed: deterministic kernels, GPU memory taken as needed."""

    @abstractmethod
    def allow_tf32(self, allowed: bool) -> None:
        """Whether a GPU may round the factors of float32 products to TF32's 10 bits; no other device is asked."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Plain JSON values: the library's version under its name, "devices" (accelerators by name, or ["CPU"]),
        "threads" of its pools on the CPU, and "tf32", whether it is allowed.
        """

    @abstractmethod
    def call(self, model: Any) -> Callable[[np.ndarray], Any]:
        """The model in inference mode, compiled: an array in, an output or several out."""
