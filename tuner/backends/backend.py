"""The only file that knows which backend Keras runs on.

Everything else is written against Keras 3. Here: choosing the backend before Keras is imported, what machine this is,
and the two things Keras has no public call for, a compiled forward pass and a compiled training step over our own loss.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts.files import cache_root, prune
from tuner.backends import processor
from tuner.backends.choosing import choose, quiet, sparing

COMPILED = 2_000_000_000
"""Bytes of compiled programs that earlier processes leave to the next one on JAX."""
NUMERICS = 3
"""Counts the changes of this program after which the same study rounds, or draws, other numbers."""


@lru_cache(maxsize=1)
def start() -> str:
    """Imports Keras and sets the backend up: deterministic kernels, GPU memory taken as needed. Returns its name."""
    chosen = choose()
    with warnings.catch_warnings(), quiet(), sparing():
        warnings.simplefilter("ignore")
        import keras

        if chosen == "tensorflow":
            import tensorflow as tf

            # It warns of retracing by the line of code a function was made on; each of our networks makes its own
            # function there and traces it once, which `Stepper.traces` counts.
            tf.get_logger().setLevel("ERROR")
            gpus = tf.config.list_physical_devices("GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
            if gpus:
                tf.config.experimental.enable_op_determinism()
        else:
            _keep_compiled()
    keras.config.disable_traceback_filtering()
    return str(keras.backend.backend())


def _keep_compiled() -> None:
    """What XLA compiled for JAX is found by the next process: at 72 photographs it takes longer than training."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        # One folder a kind of machine: programs for one processor need not run on another that shares a home.
        folder = cache_root() / "jax" / f"{platform.node()}-{jax.__version__}"
        prune(folder.parent.glob("*/*-cache"), COMPILED)  # JAX's own limit wants a further package; it maps none
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def environment() -> dict[str, Any]:
    """What numbers depend on besides the study: backend, versions, devices, threads. Plain JSON values."""
    chosen = start()
    import keras

    facts: dict[str, Any] = {
        "backend": chosen,
        "keras": keras.__version__,
        "numerics": NUMERICS,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor.name(),
        "cores": processor.cores(),
    }
    if chosen == "tensorflow":
        import tensorflow as tf

        facts["tensorflow"] = tf.__version__
        facts["devices"] = [_tf_device(d) for d in tf.config.list_physical_devices() if d.device_type != "CPU"] or [
            "CPU"
        ]
    else:
        import jax

        facts["jax"] = jax.__version__
        facts["devices"] = [str(d.device_kind) for d in jax.devices() if d.platform != "cpu"] or ["CPU"]
    return facts


def on_gpu() -> bool:
    return bool(environment()["devices"] != ["CPU"])


def forward(model: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A compiled inference pass: an array with the model's input shape in, one float32 array per output out."""
    call: Any
    if start() == "tensorflow":
        import tensorflow as tf

        call = tf.function(lambda x: model(x, training=False), reduce_retracing=True, autograph=False)
    else:
        import jax

        trained = [v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        compiled = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])

        def call(x: np.ndarray) -> Any:
            return compiled(trained, fixed, x)

    def run(batch: np.ndarray) -> list[np.ndarray]:
        outputs = call(batch)
        return [np.asarray(o, dtype=np.float32) for o in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

    return run


def saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The `serve` function of a SavedModel folder: float32 in and out. Needs TensorFlow, whatever Keras runs on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the process that exports may hold the rest
    with quiet():
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(tf.constant(images)))


class Stepper:
    """A compiled training step and a compiled forward pass over one model, kept for the life of the process.

    The model's variables and the optimizers' slots are the state; `reset` of a trial assigns them, nothing is traced
    again. `groups` pairs each optimizer with the trainable variables it moves; together they are all of the model's, in
    the model's order. `loss(targets, logits)` gives one value per row.

    With `parts` above 1 a batch is taken in so many pieces whose gradients add up before the optimizers move: the same
    step but for rounding (and for trained BatchNorm's statistics) in less memory.

    `train` takes inputs (b, ...), targets (b, k), row weights (b,) with 0 for padding rows, the number of real rows,
    and one weight-decay amount per group (decay times learning rate; it shrinks kernels only). It returns the sum over
    real rows of the weighted loss and the number of rows predicted rightly, both float.
    """

    def __init__(
        self,
        model: Any,
        groups: Sequence[tuple[Any, list[Any]]],
        loss: Callable[[Any, Any], Any],
        correct: Callable[[Any, Any], Any],
    ) -> None:
        self.model, self.groups, self.loss, self.correct = model, list(groups), loss, correct
        self.traces = 0
        self._kind = start()
        if self._kind == "tensorflow":
            self._build_tensorflow()
        else:
            self._build_jax()

    def train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        rows: int,
        decays: Sequence[float],
        parts: int = 1,
    ) -> tuple[Any, Any]:
        """One step; shapes and values as the class says."""
        args = (x, y, weights, np.float32(rows), tuple(np.float32(d) for d in decays))
        if parts > 1:
            return self._train_in_parts(*args, parts)
        return self._tf_train(*args) if self._kind == "tensorflow" else self._jax_train(*args)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Inference: float32 (b, k)."""
        out = self._tf_call(x) if self._kind == "tensorflow" else self._jax_logits(x)
        return np.asarray(out, dtype=np.float32)

    def _train_in_parts(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, rows: np.float32, decays: Any, parts: int
    ) -> tuple[float, float]:
        size = -(-len(x) // parts)
        gradients: list[Any] | None = None
        total = right = 0.0
        for first in range(0, len(x), size):
            # The last piece is filled up with rows that weigh nothing: one shape, one trace.
            at = np.arange(first, first + size)
            piece, weight = np.minimum(at, len(x) - 1), np.where(at < len(x), weights[np.minimum(at, len(x) - 1)], 0)
            call = self._tf_gradients if self._kind == "tensorflow" else self._jax_gradients
            found, loss, correct = call(x[piece], y[piece], weight.astype(np.float32), rows)
            gradients = found if gradients is None else [a + b for a, b in zip(gradients, found, strict=True)]
            total, right = total + float(loss), right + float(correct)
        (self._tf_move if self._kind == "tensorflow" else self._jax_move)(gradients, decays)
        return total, right

    # ---- TensorFlow ----

    def _build_tensorflow(self) -> None:
        import tensorflow as tf

        def gradients(x: Any, y: Any, weights: Any, rows: Any) -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                total = tf.reduce_sum(self.loss(y, logits) * weights)
                mean = total / rows
            found = tape.gradient(mean, self.model.trainable_variables)
            return found, total, tf.reduce_sum(self.correct(y, logits) * tf.cast(weights > 0, tf.float32))

        def move(found: Any, decays: Any) -> None:
            by_variable = {id(v): g for v, g in zip(self.model.trainable_variables, found, strict=True)}
            for (optimizer, variables), decay in zip(self.groups, decays, strict=True):
                kernels = [v for v in variables if len(v.shape) > 1]
                # Without weight decay the variables, tens of megabytes, are not read and written once more.
                tf.cond(decay > 0, lambda k=kernels, d=decay: _tf_shrink(k, d), lambda: tf.constant(0))
                _tf_apply(optimizer, [by_variable[id(v)] for v in variables], variables)

        def train(x: Any, y: Any, weights: Any, rows: Any, decays: Any) -> tuple[Any, Any]:
            self.traces += 1
            found, total, right = gradients(x, y, weights, rows)
            move(found, decays)
            return total, right

        self._tf_train = tf.function(train, autograph=False)
        self._tf_gradients = tf.function(gradients, autograph=False)
        self._tf_move = tf.function(move, autograph=False)
        self._tf_call = tf.function(lambda x: self.model(x, training=False), autograph=False)

    # ---- JAX ----

    def _build_jax(self) -> None:
        import jax
        import jax.numpy as jnp

        model = self.model
        position = {id(v): i for i, v in enumerate(model.trainable_variables)}
        members = [[position[id(v)] for v in variables] for _, variables in self.groups]
        kernel = [len(v.shape) > 1 for v in model.trainable_variables]

        def objective(trained: Any, fixed: Any, x: Any, y: Any, weights: Any, rows: Any) -> Any:
            logits, fixed = model.stateless_call(trained, fixed, x, training=True)
            total = jnp.sum(self.loss(y, logits) * weights)
            return total / rows, (total, jnp.sum(self.correct(y, logits) * (weights > 0)), fixed)

        def differentiate(trained: Any, fixed: Any, x: Any, y: Any, weights: Any, rows: Any) -> Any:
            found, (total, right, fixed) = jax.grad(objective, has_aux=True)(trained, fixed, x, y, weights, rows)
            return found, fixed, total, right

        def move(trained: Any, slots: Any, gradients: Any, decays: Any) -> Any:
            trained, new_slots = list(trained), []
            for (optimizer, _), mine, slot, decay in zip(self.groups, members, slots, decays, strict=True):
                values = [trained[i] - trained[i] * decay if kernel[i] else trained[i] for i in mine]
                values, slot = optimizer.stateless_apply(slot, [gradients[i] for i in mine], values)
                for i, value in zip(mine, values, strict=True):
                    trained[i] = value
                new_slots.append(slot)
            return trained, new_slots

        def train(trained: Any, fixed: Any, slots: Any, x: Any, y: Any, weights: Any, rows: Any, decays: Any) -> Any:
            self.traces += 1
            gradients, fixed, total, right = differentiate(trained, fixed, x, y, weights, rows)
            trained, slots = move(trained, slots, gradients, decays)
            return trained, fixed, slots, total, right

        self._jax_step = jax.jit(train, donate_argnums=(0, 2))
        self._jax_differentiate, self._jax_apply = jax.jit(differentiate), jax.jit(move)
        self._jax_forward = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])

    def _values(self) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """Trainable variables, the others, and each optimizer's slots, as JAX arrays."""
        model = self.model
        slots = [[v.value for v in optimizer.variables] for optimizer, _ in self.groups]
        return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables], slots

    def _assign(self, trained: Any = None, fixed: Any = None, slots: Any = None) -> None:
        pairs = [(self.model.trainable_variables, trained), (self.model.non_trainable_variables, fixed)]
        pairs += [(o.variables, values) for (o, _), values in zip(self.groups, slots or [], strict=False)]
        for variables, values in pairs:
            for variable, value in zip(variables, values if values is not None else [], strict=False):
                variable.assign(value)

    def _jax_train(self, *args: Any) -> tuple[Any, Any]:
        trained, fixed, slots, total, right = self._jax_step(*self._values(), *args)
        self._assign(trained, fixed, slots)
        return total, right

    def _jax_gradients(self, *args: Any) -> tuple[Any, Any, Any]:
        trained, fixed, _ = self._values()
        found, fixed, total, right = self._jax_differentiate(trained, fixed, *args)
        self._assign(fixed=fixed)
        return found, total, right

    def _jax_move(self, gradients: Any, decays: Any) -> None:
        trained, _, slots = self._values()
        trained, slots = self._jax_apply(trained, slots, gradients, decays)
        self._assign(trained, slots=slots)

    def _jax_logits(self, x: np.ndarray) -> Any:
        trained, fixed, _ = self._values()
        return self._jax_forward(trained, fixed, x)


def _tf_shrink(kernels: Sequence[Any], decay: Any) -> Any:
    import tensorflow as tf

    for v in kernels:
        v.assign_sub(v * decay)
    return tf.constant(0)


def _tf_apply(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """`optimizer.apply` of Keras, for Adam (Kingma and Ba 2015) as one kernel a variable: the same formula, read from
    keras/src/optimizers/adam.py, which is written in ten operations there and takes a tenth of a step.
    """
    import keras
    import tensorflow as tf

    if type(optimizer) is not keras.optimizers.Adam:
        optimizer.apply(gradients, variables)
        return
    step = tf.cast(optimizer.iterations + 1, tf.float32)
    rates = {
        "lr": tf.cast(optimizer.learning_rate, tf.float32),
        "beta1": optimizer.beta_1,
        "beta2": optimizer.beta_2,
        "epsilon": optimizer.epsilon,
        "beta1_power": tf.pow(tf.cast(optimizer.beta_1, tf.float32), step),
        "beta2_power": tf.pow(tf.cast(optimizer.beta_2, tf.float32), step),
    }
    for v, m, s, gradient in zip(variables, optimizer._momentums, optimizer._velocities, gradients, strict=True):
        handles = {"var": v.value.handle, "m": m.value.handle, "v": s.value.handle}
        tf.raw_ops.ResourceApplyAdam(**handles, **rates, grad=tf.cast(gradient, tf.float32))
    optimizer.iterations.assign_add(1)


def out_of_memory(error: BaseException) -> bool:
    """Whether a backend, or Python, says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    # TensorFlow's ResourceExhaustedError and JAX's XlaRuntimeError both carry the status code's name.
    told = f"{type(error).__name__} {error}"
    return "RESOURCE_EXHAUSTED" in told or "ResourceExhausted" in told


def _tf_device(device: Any) -> str:
    import tensorflow as tf

    return str(tf.config.experimental.get_device_details(device).get("device_name", device.device_type))
