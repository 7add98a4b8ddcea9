"""The first peer: KerasTuner as its guide and Keras's transfer-learning guide say, and nothing more.

    python tests/benchmarks/plain_kerastuner.py --data DIR --weights FILE|imagenet|random --folder EMPTY
        [--image-size 224] [--depths 0,10,20,32] [--widths 0,64,128,256] [--max-epochs 9] [--trials LIST.json]

Each trial builds the whole ResNet-50, trains it through `Model.fit` from decoded photographs, and KerasTuner
checkpoints and reloads it. Run by bench.py with the list of trials that tlstudy ran; alone it draws its own. Needs
TensorFlow. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import replay


def reader(o: argparse.Namespace, **options: Any) -> tuple[Callable[..., Any], int]:
    """What reads a split's folder as a `tf.data.Dataset` of decoded photographs, and the number of classes."""
    classes = len([entry for entry in os.scandir(f"{o.data}/train") if entry.is_dir()])
    mode = "binary" if classes == 2 else "int"
    side = (o.image_size, o.image_size)
    options = {"batch_size": o.batch_size, "image_size": side, "label_mode": mode, "verbose": False} | options
    return partial(keras.utils.image_dataset_from_directory, **options), classes


def builder(o: argparse.Namespace, classes: int) -> Callable[[Any], keras.Model]:
    """What builds a trial's model: the whole ResNet-50, its top layers trainable but for BatchNorm, and a head."""
    weights, shape = None if o.weights == "random" else o.weights, (o.image_size, o.image_size, 3)

    def build(hp: Any) -> keras.Model:
        depth, rate, width = replay.asked(o, hp)
        base = keras.applications.ResNet50(weights=weights, include_top=False, input_shape=shape)
        for i, layer in enumerate(base.layers):
            frozen = i < len(base.layers) - depth or isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not frozen
        image = keras.Input(shape)
        x = base(keras.applications.resnet50.preprocess_input(image), training=False)
        return replay.with_head(image, x, width, rate, classes)

    return build


def main() -> None:
    o = replay.options()
    keras.utils.set_random_seed(o.seed)
    read, classes = reader(o)
    train = read(f"{o.data}/train", shuffle=True, seed=o.seed).cache().prefetch(2)
    val = read(f"{o.data}/val", shuffle=False).cache().prefetch(2)
    replay.search("plain", builder(o, classes), o, time.perf_counter(), train, validation_data=val)


if __name__ == "__main__":
    main()
