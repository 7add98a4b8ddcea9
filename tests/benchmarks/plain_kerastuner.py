"""The peer of the benchmark: KerasTuner as its guide and Keras's transfer-learning guide say, and nothing more.

Each trial builds the whole ResNet-50, trains it through `Model.fit` from decoded photographs, and KerasTuner
checkpoints and reloads it. Run by against_kerastuner.py; needs TensorFlow. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("data", "weights", "folder", "depths", "widths"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("image-size", "max-epochs", "factor", "batch-size", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    o = parser.parse_args()
    import keras
    import keras_tuner

    keras.utils.set_random_seed(o.seed)
    size, weights = o.image_size, None if o.weights == "random" else o.weights
    loading = {"image_size": (size, size), "batch_size": o.batch_size, "label_mode": "binary", "verbose": False}
    read = keras.utils.image_dataset_from_directory
    train = read(f"{o.data}/train", shuffle=True, seed=o.seed, **loading).cache().prefetch(2)
    val = read(f"{o.data}/val", shuffle=False, **loading).cache().prefetch(2)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        base = keras.applications.ResNet50(weights=weights, include_top=False, input_shape=(size, size, 3))
        depth = hp.Choice("unfrozen_layers", [int(d) for d in o.depths.split(",")])
        rate = hp.Float("learning_rate", 1e-5, 1e-2, sampling="log")
        width = hp.Choice("head_width", [int(w) for w in o.widths.split(",")])
        for i, layer in enumerate(base.layers):
            frozen = i < len(base.layers) - depth or isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not frozen
        image = keras.Input((size, size, 3))
        x = base(keras.applications.resnet50.preprocess_input(image), training=False)
        x = keras.layers.GlobalAveragePooling2D()(x)
        if width:
            x = keras.layers.Dense(width, activation="relu")(x)
        model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(x))
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
        return model

    tuner = keras_tuner.Hyperband(
        build,
        objective="val_loss",
        max_epochs=o.max_epochs,
        factor=o.factor,
        seed=o.seed,
        directory=o.folder,
        project_name="peer",
    )
    tuner.search(train, validation_data=val, verbose=0)
    trials = tuner.oracle.trials.values()
    print(json.dumps({"trials": len(trials), "folder": str(Path(o.folder).resolve())}))


if __name__ == "__main__":
    main()
