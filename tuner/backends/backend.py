"""The backend of this process: which one it is, what it says about the machine, and its compiled calls."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tuner.backends import processor
from tuner.backends.choosing import choose, quiet, sparing, unconfigured
from tuner.backends.seam import Backend, Stepper
from tuner.spec.rules import NUMERICS


def start() -> str:
    """Imports Keras and sets the backend up: deterministic kernels, GPU memory taken as needed. Returns its name.

    Keras's settings are ours from then on, whatever its configuration file or this process said before: numbers depend
    on them.
    """
    found = _started()
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    return found.name


@lru_cache(maxsize=1)
def _started() -> Backend:
    chosen = choose()
    with warnings.catch_warnings(), quiet(), sparing():
        warnings.simplefilter("ignore")
        with unconfigured():
            import keras

        found: Backend
        if chosen == "tensorflow":
            from tuner.backends.on_tensorflow import TensorFlow

            found = TensorFlow()
        else:
            from tuner.backends.on_jax import Jax

            found = Jax()
        found.start()
        found.allow_tf32(tf32("float32"))
    keras.config.disable_traceback_filtering()
    return found


def tf32(precision: str) -> bool:
    """Whether products of float32 may be rounded to TF32 at this precision of a study: float32 means float32, and
    mixed_bfloat16's logits, which are float32, too.
    """
    return precision not in ("float32", "mixed_bfloat16")


def environment() -> dict[str, Any]:
    """What numbers depend on besides the study: backend, versions, devices, threads, TF32. Plain JSON values."""
    name, backend = start(), _started()
    import keras

    return {
        "backend": name,
        "keras": keras.__version__,
        "numerics": NUMERICS,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor.name(),
        "cores": processor.cores(),
        **backend.facts(),
    }


def on_gpu() -> bool:
    return bool(environment()["devices"] != ["CPU"])


def forward(model: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A compiled inference pass: an array with the model's input shape in, one float32 array per output out."""
    call = _started().call(model)

    def run(batch: np.ndarray) -> list[np.ndarray]:
        outputs = call(batch)
        return [np.asarray(o, dtype=np.float32) for o in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

    return run


def stepper(
    model: Any,
    groups: Sequence[tuple[Any, list[Any]]],
    loss: Callable[[Any, Any], Any],
    correct: Callable[[Any, Any], Any],
    averages: Sequence[Any] = (),
) -> Stepper:
    """The compiled training step of a model; what is asked for and given is written at `Stepper`."""
    return _started().stepper(model, groups, loss, correct, averages)


def saved_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The `serve` function of a SavedModel folder: float32 in and out. Needs TensorFlow, whatever Keras runs on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the process that exports may hold the rest
    with quiet():
        from tuner.backends import on_tensorflow

        return on_tensorflow.saved_model(path)


def out_of_memory(error: BaseException) -> bool:
    """Whether a backend, or Python, says that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    # TensorFlow's ResourceExhaustedError and JAX's XlaRuntimeError both carry the status code's name.
    told = f"{type(error).__name__} {error}"
    return "RESOURCE_EXHAUSTED" in told or "ResourceExhausted" in told
