"""How fast this machine multiplies and adds in the convolutions that the trials train: what the floor is made of.

    python tests/benchmarks/rate.py [--image-size 224] [--batch-size 24] [--seconds 6] [--stages conv5,conv4]

Forward pass and both gradients of the three convolutions of a later block of each stage, straight from the backend's
library, nothing of a network round them. A 1x1 convolution is also tried as a plain matrix product and the faster way
counts. Runs on TensorFlow, or on JAX where TensorFlow is missing or KERAS_BACKEND says so. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WIDTHS = {"conv2": (64, 4), "conv3": (128, 8), "conv4": (256, 16), "conv5": (512, 32)}
"""Stage: width of its 3x3 convolution, pixels of the image for each of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--stages", default="conv5,conv4")
    o = parser.parse_args()
    backend = os.environ.get("KERAS_BACKEND") or ("tensorflow" if importlib.util.find_spec("tensorflow") else "jax")
    shapes = [shape for stage in o.stages.split(",") for shape in block(stage, o.image_size)]
    rows = [timed(shape, o.batch_size, o.seconds / len(shapes), backend) for shape in shapes]
    whole = sum(r["multiply_adds"] for r in rows)
    found = {
        "backend": backend,
        "rate": whole / sum(r["seconds"] for r in rows),
        "best": whole / sum(r["best"] for r in rows),
        "shapes": [{**r, "rate": r["multiply_adds"] / r["seconds"]} for r in rows],
    }
    print(json.dumps(found))


def block(stage: str, image_size: int) -> list[tuple[int, int, int, int]]:
    """(side, kernel, channels in, channels out) of a later block's convolutions."""
    width, pixels = WIDTHS[stage]
    side = -(-image_size // pixels)
    return [(side, 1, 4 * width, width), (side, 3, width, width), (side, 1, width, 4 * width)]


def timed(shape: tuple[int, int, int, int], batch: int, seconds: float, backend: str) -> dict[str, Any]:
    """Multiply-adds of forward and both gradients, median and best seconds of the fastest way to compute them."""
    side, kernel, low, high = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, side, side, low), np.float32)
    w = rng.standard_normal((kernel, kernel, low, high), np.float32) / np.float32(np.sqrt(kernel * kernel * low))
    dy = rng.standard_normal((batch, side, side, high), np.float32)
    forms = ["convolution"] + (["product"] if kernel == 1 else [])
    maker = _tensorflow if backend == "tensorflow" else _jax
    times = {form: _times(maker(form, x, w, dy), seconds / len(forms)) for form in forms}
    form = min(times, key=lambda f: statistics.median(times[f]))
    return {
        "side": side,
        "kernel": kernel,
        "channels": [low, high],
        "form": form,
        "multiply_adds": 3 * batch * side * side * kernel * kernel * low * high,
        "seconds": statistics.median(times[form]),
        "best": min(times[form]),
    }


def _times(call: Callable[[], None], seconds: float) -> list[float]:
    call()
    call()  # the first one is traced, the second may still be warming up
    found: list[float] = []
    while sum(found) < seconds or len(found) < 3:
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def _tensorflow(form: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> Callable[[], None]:
    import tensorflow as tf

    def product(x: Any, w: Any) -> Any:
        return tf.matmul(tf.reshape(x, (-1, x.shape[-1])), w[0, 0])

    def convolution(x: Any, w: Any) -> Any:
        return tf.nn.conv2d(x, w, 1, "SAME")

    use = product if form == "product" else convolution

    @tf.function
    def step(x: Any, w: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = use(x, w)
        return y, *tape.gradient(y, [x, w], tf.reshape(dy, tf.shape(y)))

    given = [tf.constant(a) for a in (x, w, dy)]

    def call() -> None:
        for part in step(*given):
            part.numpy()  # waits for it; on a CPU nothing is copied

    return call


def _jax(form: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> Callable[[], None]:
    import jax

    def use(x: Any, w: Any) -> Any:
        if form == "product":
            return (x.reshape(-1, x.shape[-1]) @ w[0, 0]).reshape(dy.shape)
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    @jax.jit
    def step(x: Any, w: Any, dy: Any) -> Any:
        y, back = jax.vjp(use, x, w)
        return y, *back(dy)

    given = [jax.device_put(a) for a in (x, w, dy)]

    def call() -> None:
        jax.block_until_ready(step(*given))

    return call


if __name__ == "__main__":
    main()
