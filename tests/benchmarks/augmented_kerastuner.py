"""The third peer: KerasTuner with augmentation as a hyperparameter, by a careful user of `tf.data` and `keras.layers`.

    python tests/benchmarks/augmented_kerastuner.py --data DIR --weights FILE|imagenet|random --folder EMPTY
        [--image-size 224] [--depths 0,10,20,32] [--widths 0,64,128,256] [--max-epochs 9] [--trials LIST.json]

plain_kerastuner.py's question, and whether training images are augmented. They are decoded once and kept in memory,
shuffled image by image, augmented anew in every epoch beside the training steps, and prefetched; so the whole network
sees every one of them, as it does there. Run by bench.py with the list of trials that tlstudy ran; alone it draws its
own. Needs TensorFlow. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import keras
import keras_tuner
import plain_kerastuner
import replay
from measuring import AUGMENTATIONS


class Augmented(keras_tuner.HyperModel):
    """The plain peer's models, each fitted on the training images that its `augmentation` asks for."""

    def __init__(self, o: argparse.Namespace) -> None:
        super().__init__()
        read, classes = plain_kerastuner.reader(o, batch_size=None)
        self.plain = plain_kerastuner.builder(o, classes)
        train, policy = read(f"{o.data}/train", shuffle=False).cache(), light(o.seed)
        train = train.shuffle(len(train), seed=o.seed).batch(o.batch_size)
        # -1: as many at a time as TensorFlow finds best, AUTOTUNE by its other name.
        augmented = train.map(lambda x, y: (policy(x, training=True), y), num_parallel_calls=-1)
        self.train = {"none": train.prefetch(-1), "light": augmented.prefetch(-1)}
        self.val = read(f"{o.data}/val", shuffle=False).batch(o.batch_size).cache().prefetch(-1)

    def build(self, hp: Any) -> keras.Model:
        hp.Choice("augmentation", AUGMENTATIONS)
        return self.plain(hp)

    def fit(self, hp: Any, model: keras.Model, *arguments: Any, **keywords: Any) -> Any:
        train = self.train[hp.get("augmentation")]
        return model.fit(train, *arguments, validation_data=self.val, **keywords)


def light(seed: int) -> keras.Sequential:
    """What is nearest to tlstudy's "light": 60 to 100 % of the area, half mirrored, brightness and contrast varied by
    a tenth.
    """
    closer = (0.6**0.5 - 1, 0.0)
    return keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal", seed=seed),
            keras.layers.RandomZoom(closer, closer, seed=seed),
            keras.layers.RandomTranslation(0.1, 0.1, seed=seed),
            keras.layers.RandomBrightness(0.1, seed=seed),
            keras.layers.RandomContrast(0.1, seed=seed),
        ]
    )


def main() -> None:
    o = replay.options()
    keras.utils.set_random_seed(o.seed)
    began = time.perf_counter()
    replay.search("augmented", Augmented(o), o, began)


if __name__ == "__main__":
    main()
