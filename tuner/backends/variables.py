"""Numbers into and out of Keras's variables without the copies that Keras's own way makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tuner.backends import backend

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402


def view(variable: Any) -> np.ndarray:
    """The variable's numbers where they lie, to be read before anything else is assigned or trained."""
    value = variable.value
    # `np.asarray` of TensorFlow's variable copies it, of a tensor it does not.
    return np.asarray(value.read_value() if hasattr(value, "read_value") else value)


def zero(variable: Any) -> None:
    """Sets every number to zero."""
    # Zeros made by the backend become the variable's memory; numpy's would be copied into it.
    variable.assign(keras.ops.zeros(variable.shape, dtype=variable.dtype))


def variable_like(variable: Any) -> Any:
    """Another variable of the same shape and dtype, zero, that nothing trains."""
    return keras.Variable(np.zeros(variable.shape, np.float32), trainable=False, dtype=variable.dtype)
