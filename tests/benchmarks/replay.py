"""What the KerasTuner peers share: their options, KerasTuner's Hyperband, and a Hyperband that replays a given list.

Without --trials a peer searches what its own Hyperband draws. With --trials FILE its oracle hands out exactly the
trials of the list, in its order; everything else stays KerasTuner's: a model built and compiled for each trial,
`Model.fit`, a checkpoint of the best epoch, and for a promoted trial its parent's checkpoint loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
from keras_tuner.src.tuners.hyperband import HyperbandOracle
from measuring import SEARCHED


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("data", "weights", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("image-size", 224), ("max-epochs", 9), ("factor", 3), ("batch-size", 24), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("depths", "0,10,20,32"), ("widths", "0,64,128,256")):
        parser.add_argument(f"--{name}", type=_numbers, default=default)
    parser.add_argument("--trials", type=Path, help="JSON list of the trials to run instead of Hyperband's own")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def asked(o: argparse.Namespace, hp: keras_tuner.HyperParameters) -> tuple[int, float, int]:
    """Depth, learning rate and head width of a trial; the space, when KerasTuner asks for it the first time."""
    depth = hp.Choice("unfrozen_layers", o.depths)
    rate = hp.Float("learning_rate", 1e-5, 1e-2, sampling="log")
    return depth, rate, hp.Choice("head_width", o.widths)


def with_head(image: Any, x: Any, width: int, rate: float, classes: int) -> keras.Model:
    """The head on a convolution's output, and the model compiled."""
    x = keras.layers.GlobalAveragePooling2D()(x)
    if width:
        x = keras.layers.Dense(width, activation="relu")(x)
    one = classes == 2
    x = keras.layers.Dense(1 if one else classes, activation="sigmoid" if one else "softmax")(x)
    model = keras.Model(image, x)
    loss = "binary_crossentropy" if one else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


class ListOracle(HyperbandOracle):
    """KerasTuner's Hyperband, but for what comes next: the list says so."""

    def __init__(self, listed: list[dict[str, Any]], **options: Any) -> None:
        super().__init__(**options)
        self._listed, self._here = listed, dict[str, str]()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if len(self._here) == len(self._listed):
            return {"status": "STOPPED"}
        wanted = self._listed[len(self._here)]
        self._here[wanted["id"]] = trial_id
        values = {name: wanted[name] for name in SEARCHED}
        values |= {"tuner/initial_epoch": wanted["initial_epoch"], "tuner/epochs": wanted["epochs"]}
        values |= {"tuner/bracket": wanted["bracket"], "tuner/round": wanted["rung"]}
        if wanted["parent"] is not None:
            values["tuner/trial_id"] = self._here[wanted["parent"]]
        return {"status": "RUNNING", "values": values}


class Counted(keras_tuner.Hyperband):
    """KerasTuner's Hyperband that also counts the epochs of each trial and the seconds it took."""

    def __init__(self, hypermodel: Any, o: argparse.Namespace) -> None:
        self.epochs: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        budget = {"objective": "val_loss", "max_epochs": o.max_epochs, "factor": o.factor, "seed": o.seed}
        places = {"directory": o.folder, "project_name": "peer"}
        if o.trials is None:
            super().__init__(hypermodel, **budget, **places)
        else:
            listed = json.loads(o.trials.read_text(encoding="utf-8"))
            keras_tuner.Tuner.__init__(self, ListOracle(listed, **budget), hypermodel, **places)

    def on_epoch_end(self, trial: Any, model: Any, epoch: int, logs: Any = None) -> None:
        self.epochs[trial.trial_id] += 1
        super().on_epoch_end(trial, model, epoch, logs)

    def run_trial(self, trial: Any, *arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return super().run_trial(trial, *arguments, **keywords)
        finally:
            self.seconds[trial.trial_id] = time.perf_counter() - began


def search(name: str, hypermodel: Any, o: argparse.Namespace, began: float, *data: Any, **more: Any) -> None:
    """Runs the search and prints one JSON line. `search_s` counts from `began`, as a timer round the search would."""
    tuner = Counted(hypermodel, o)
    tuner.search(*data, **more, verbose=0)
    wall = time.perf_counter() - began
    trials = [
        {
            "id": t.trial_id,
            "status": t.status,
            "score": t.score,
            "trained_epochs": tuner.epochs[t.trial_id],
            "seconds": round(tuner.seconds[t.trial_id], 3),
            **t.hyperparameters.values,
        }
        for t in tuner.oracle.trials.values()
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"peer": name, "search_s": round(wall, 2), "peak_mb": round(peak), "trials": trials}))
