"""A convolution with the frozen BatchNorm that follows it folded in.

`BatchNorm(conv(x, W) + b)` in inference mode is `conv(x, W * s) + (b * s + t)` with `s = gamma / sqrt(var + eps)` and
`t = beta - mean * s`. W and b stay the variables, so gradients are those of the stock layers to rounding; what is gone
is Keras's unfused BatchNorm, two more passes over every activation, and its backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tuner.backends import backend

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402
from keras import ops  # noqa: E402


class FoldedConvolution(keras.layers.Layer):  # type: ignore[misc]
    """(b, h, w, in) to (b, h', w', out): the convolution, the frozen BatchNorm, and ReLU with `relu`.

    `weights` are the stock layers' arrays: kernel (k, k, in, out), bias (out,), gamma, beta, moving mean and variance
    (out,), float32. `strides` 1 or 2; `padding` "valid", "same", or "both": one pixel on each side, which for stride 2
    is what every second output of a "same" convolution reads. Never saved: an export gets the stock layers.
    """

    def __init__(
        self, weights: Sequence[np.ndarray], epsilon: float, strides: int, padding: str, relu: bool, **options: Any
    ) -> None:
        super().__init__(**options)
        self._arrays, self._epsilon = list(weights), epsilon
        self.strides, self.padding, self.relu = strides, padding, relu

    def build(self, shape: Any) -> None:
        """Makes the variables; nothing of them depends on the input's shape."""
        kernel, (bias, gamma, beta, mean, variance) = self._arrays[0], np.asarray(self._arrays[1:], np.float64)
        scale = gamma / np.sqrt(variance + self._epsilon)
        shift = beta - mean * scale
        self._arrays = []
        if not self.trainable:  # nothing moves: scaled once instead of in every step
            scaled = np.empty(kernel.shape, np.float32)
            # In float64 piece by piece: whole, a network's kernels would take half a gigabyte.
            kernel = np.multiply(kernel, scale, out=scaled, dtype=np.float64, casting="same_kind")
            bias = bias * scale + shift
        self.kernel = self._variable("kernel", kernel)
        self.bias = self._variable("bias", bias)
        if self.trainable:
            self.scale = self._variable("scale", scale, trainable=False)
            self.shift = self._variable("shift", shift, trainable=False)

    def compute_output_shape(self, shape: Any) -> Any:
        """Told rather than traced: building a network takes half the time."""
        kernel = tuple(self.kernel.shape)
        given = 0 if kernel[0] == 1 or self.padding == "same" else kernel[0] - 1 - 2 * (self.padding == "both")
        sides = [None if side is None else -(-(side - given) // self.strides) for side in shape[1:3]]
        return (shape[0], *sides, kernel[3])

    def _variable(self, name: str, value: np.ndarray, trainable: bool = True) -> Any:
        # The product with the scale is taken at the variables' precision, then cast: one rounding in bfloat16, not two.
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(value.astype(dtype)),
            trainable=trainable,
            name=name,
            autocast=False,
        )

    def pretrain(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Sets the variables of a trained one back to the stock convolution's."""
        self.kernel.assign(kernel)
        self.bias.assign(bias)

    def call(self, x: Any) -> Any:
        """As the class says, at the layer's compute dtype."""
        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        if self.trainable:
            scale = ops.convert_to_tensor(self.scale)
            kernel, bias = kernel * scale, bias * scale + ops.convert_to_tensor(self.shift)
        kernel, bias = ops.cast(kernel, self.compute_dtype), ops.cast(bias, self.compute_dtype)
        if kernel.shape[0] == 1:
            # As a plain matrix product: on a CPU a tenth faster at 7x7 pixels than the convolution's own kernel.
            x = x[:, :: self.strides, :: self.strides] if self.strides > 1 else x
            sides = tuple(ops.shape(x)[:-1])
            # Reshaped, not `kernel[0, 0]`: the gradient of a slice writes the whole kernel once more.
            x = ops.add(ops.matmul(ops.reshape(x, (-1, kernel.shape[2])), ops.reshape(kernel, kernel.shape[2:])), bias)
            return ops.reshape(ops.relu(x) if self.relu else x, (*sides, kernel.shape[3]))
        if self.padding == "both":
            x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = ops.conv(x, kernel, self.strides, "same" if self.padding == "same" else "valid")
        x = ops.add(x, bias)
        return ops.relu(x) if self.relu else x
