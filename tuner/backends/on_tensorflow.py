"""TensorFlow: functions traced into graphs, variables that live in the graph's resources."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tuner.backends import processor
from tuner.backends.seam import Backend, Compiled, Stepper


class GraphStepper(Stepper):
    """The step as a graph."""

    def _compile(self) -> Compiled:
        def gradients(x: Any, y: Any, weights: Any, rows: Any) -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                logits = self.model(x, training=True)
                total = tf.reduce_sum(self.loss(y, logits) * weights)
                mean = total / rows
            found = tape.gradient(mean, self.model.trainable_variables)
            return found, total, tf.reduce_sum(self.correct(y, logits) * tf.cast(weights > 0, tf.float32))

        def move(found: Any, decays: Any) -> None:
            by_variable = {id(v): g for v, g in zip(self.model.trainable_variables, found, strict=True)}
            for (optimizer, variables), decay in zip(self.groups, decays[:-1], strict=True):
                kernels = [v for v in variables if len(v.shape) > 1]
                # Without weight decay the variables, tens of megabytes, are not read and written once more.
                tf.cond(decay > 0, lambda k=kernels, d=decay: _shrink(k, d), lambda: tf.constant(0))
                _apply(optimizer, [by_variable[id(v)] for v in variables], variables)
            for average, v in zip(self.averages, self.model.trainable_variables if self.averages else (), strict=True):
                average.assign(decays[-1] * average + (1.0 - decays[-1]) * v)

        def train(x: Any, y: Any, weights: Any, rows: Any, decays: Any) -> tuple[Any, Any]:
            self.traces += 1
            found, total, right = gradients(x, y, weights, rows)
            move(found, decays)
            return total, right

        def forward(x: Any) -> Any:
            return self.model(x, training=False)

        step, differentiate, apart, infer = (tf.function(f, autograph=False) for f in (train, gradients, move, forward))
        return step, differentiate, apart, infer


class TensorFlow(Backend):
    """Keras on TensorFlow."""

    name = "tensorflow"
    stepper = GraphStepper

    def start(self) -> None:
        # It warns of retracing by the line of code a function was made on; each of our networks makes its own
        # function there and traces it once, which `Stepper.traces` counts.
        tf.get_logger().setLevel("ERROR")
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if gpus:
            tf.config.experimental.enable_op_determinism()

    def allow_tf32(self, allowed: bool) -> None:
        tf.config.experimental.enable_tensor_float_32_execution(allowed)

    def facts(self) -> dict[str, Any]:
        threading = tf.config.threading
        return {
            "tensorflow": tf.__version__,
            "devices": [_device(d) for d in tf.config.list_physical_devices() if d.device_type != "CPU"] or ["CPU"],
            "threads": f"{_threads(threading.get_intra_op_parallelism_threads(), 'TF_NUM_INTRAOP_THREADS')} intra-op, "
            f"{_threads(threading.get_inter_op_parallelism_threads(), 'TF_NUM_INTEROP_THREADS')} inter-op",
            "tf32": bool(tf.config.experimental.tensor_float_32_execution_enabled()),
        }

    def call(self, model: Any) -> Callable[[np.ndarray], Any]:
        return tf.function(  # type: ignore[no-any-return]
            lambda x: model(x, training=False), reduce_retracing=True, autograph=False
        )


def saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The `serve` function of a SavedModel folder: float32 in and out."""
    loaded = tf.saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(tf.constant(images)))


def _shrink(kernels: Sequence[Any], decay: Any) -> Any:
    for v in kernels:
        v.assign_sub(v * decay)
    return tf.constant(0)


def _apply(optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """`optimizer.apply` of Keras, for Adam (Kingma and Ba 2015) as one kernel a variable: the same formula, read from
    keras/src/optimizers/adam.py, which is written in ten operations there and takes a tenth of a step.
    """
    import keras

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


def _device(device: Any) -> str:
    return str(tf.config.experimental.get_device_details(device).get("device_name", device.device_type))


def _threads(configured: int, variable: str) -> int:
    """0 stands for the environment's number, and without one for as many as there are cores."""
    told = os.environ.get(variable, "")
    return configured or (int(told) if told.isdecimal() else 0) or processor.cores()
