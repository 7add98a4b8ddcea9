"""The second, stronger peer: KerasTuner as an informed user writes it, with the frozen part's activations kept.

    python tests/benchmarks/informed_kerastuner.py --data DIR --weights FILE|imagenet|random --folder EMPTY
        [--image-size 224] [--depths 0,10,20,32] [--widths 0,64,128,256] [--max-epochs 9] [--trials LIST.json]

One pass over the photographs keeps, in memory, the residual blocks' outputs that the search can need; each trial
builds, compiles and fits only the layers above. What it leaves to KerasTuner: a fresh model for each trial,
`Model.fit`, checkpoints and reloads. Run by bench.py as plain_kerastuner.py is. Needs TensorFlow. Prints one JSON line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import replay

Arrays = tuple[np.ndarray, np.ndarray]
IMAGE = None
"""Stands for the cut below everything: the photographs themselves."""


class Parts:
    """The whole network, and copies of what lies above a block's output."""

    def __init__(self, weights: str | None, side: int) -> None:
        self.whole = keras.applications.ResNet50(weights=weights, include_top=False, input_shape=(side, side, 3))
        self.names = [layer.name for layer in self.whole.layers]
        self.top = self.names[-1]

    def cut(self, depth: int) -> str | None:
        """The highest block output (or the stem's) with all of the top `depth` layers above it."""
        frozen = self.names[: len(self.names) - depth]
        return next((n for n in reversed(frozen) if n.endswith("_out") or n == "pool1_pool"), IMAGE)

    def activations(self, cuts: Sequence[str], images: np.ndarray) -> list[np.ndarray]:
        """The outputs at each cut, one pass over the images."""
        tap = keras.Model(self.whole.input, [self.whole.get_layer(cut).output for cut in cuts])
        found = tap.predict(images, batch_size=24, verbose=0)
        return found if isinstance(found, list) else [found]

    def above(self, cut: str | None, depth: int) -> keras.Model:
        """New layers from `cut` to the top with the pretrained weights, the top `depth` trainable but for BatchNorm."""
        below = cut or self.names[0]
        start = keras.Input(self.whole.get_layer(below).output.shape[1:])
        reached, first = {below: start}, len(self.names) - depth
        for at in range(self.names.index(below) + 1, len(self.names)):
            layer = self.whole.layers[at]
            copy = type(layer).from_config(layer.get_config())
            copy.trainable = at >= first and not isinstance(layer, keras.layers.BatchNormalization)
            inputs = [reached[node.operation.name] for node in layer._inbound_nodes[0].parent_nodes]
            reached[layer.name] = copy(inputs if len(inputs) > 1 else inputs[0])
            copy.set_weights(layer.get_weights())
        return keras.Model(start, reached[self.top])


class Informed(keras_tuner.HyperModel):
    """Builds the layers above a trial's cut and fits them on what was kept there."""

    def __init__(self, o: Any, parts: Parts, train: Arrays, val: Arrays, classes: int) -> None:
        super().__init__()
        self.o, self.parts, self.classes = o, parts, classes
        self.labels = train[1], val[1]
        cuts = sorted({c for c in map(parts.cut, o.depths) if c is not IMAGE}, key=parts.names.index)
        kept = [parts.activations(cuts, images) if cuts else [] for images, _ in (train, val)]
        self.kept: dict[str | None, Arrays] = {IMAGE: (train[0], val[0])}
        self.kept.update(zip(cuts, zip(*kept, strict=True), strict=True))

    def build(self, hp: Any) -> keras.Model:
        depth, rate, width = replay.asked(self.o, hp)
        cut = self.parts.cut(depth)
        image = keras.Input(self.kept[cut][0].shape[1:])
        x = image if cut == self.parts.top else self.parts.above(cut, depth)(image, training=False)
        return replay.with_head(image, x, width, rate, self.classes)

    def fit(self, hp: Any, model: keras.Model, *arguments: Any, **keywords: Any) -> Any:
        train, val = self.kept[self.parts.cut(hp.get("unfrozen_layers"))]
        pairs = {"validation_data": (val, self.labels[1]), "batch_size": self.o.batch_size}
        return model.fit(train, self.labels[0], *arguments, **pairs, **keywords)


def photographs(folder: str, side: int) -> Arrays:
    """All photographs of a split, preprocessed float32 (n, side, side, 3), and their labels."""
    batches = keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=64, label_mode="int", shuffle=False, verbose=False
    )
    images, labels = zip(*[(x.numpy(), y.numpy()) for x, y in batches], strict=True)
    return keras.applications.resnet50.preprocess_input(np.concatenate(images)), np.concatenate(labels)


def main() -> None:
    o = replay.options()
    keras.utils.set_random_seed(o.seed)
    classes = len([entry for entry in os.scandir(f"{o.data}/train") if entry.is_dir()])
    parts = Parts(None if o.weights == "random" else o.weights, o.image_size)
    began = time.perf_counter()
    train, val = (photographs(f"{o.data}/{split}", o.image_size) for split in ("train", "val"))
    replay.search("informed", Informed(o, parts, train, val, classes), o, began)


if __name__ == "__main__":
    main()
