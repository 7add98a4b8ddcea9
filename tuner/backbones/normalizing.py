"""BatchNorm that is trained, with gradients that come out the same in every run."""

from __future__ import annotations

from typing import Any

from tuner.backends import backend

backend.start()  # Keras reads KERAS_BACKEND once, when it is imported
import keras  # noqa: E402
from keras import ops  # noqa: E402


class TrainedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's layer over the last axis (Ioffe and Szegedy 2015; keras/src/layers/normalization/batch_normalization.py),
    its variables and its inference; in training the same function with every activation read twice at most.

    Keras's reads the input three times. TensorFlow may take the sum of three gradients in the order in which they
    arrive (its memory optimizer does so in networks of 200 MB and more), so numbers would differ from run to run; a sum
    of two is the same in either order. Never saved: an export gets the stock layers.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """(b, h, w, c) to the same shape, at the layer's compute dtype; moments are float32 at least."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean = ops.mean(x, axis=(0, 1, 2))
        centred = x - mean
        variance = ops.mean(ops.square(centred), axis=(0, 1, 2))
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.cast(found, moving.dtype) * (1.0 - self.momentum))
        scale = ops.cast(self.gamma, x.dtype) * ops.rsqrt(variance + self.epsilon)
        return ops.cast(centred * scale + ops.cast(self.beta, x.dtype), self.compute_dtype)
