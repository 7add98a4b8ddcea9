"""The same disturbance for stock KerasTuner: crash at the N-th of its JSON files, reload, compare. It does not pass.

    python tests/faults/stock.py [--stride 1]

Prints, as JSON, how many crashes left a study that cannot be loaded, that ends with other trials, or that is right.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults.every_write import BROKE, DONE, child  # noqa: E402
from faults.injection import CRASHED  # noqa: E402

from tuner.backends import backend  # noqa: E402

backend.start()
import keras_tuner  # noqa: E402
from keras_tuner.src import utils  # noqa: E402


class Costless(keras_tuner.Tuner):  # type: ignore[misc]
    """Trials that cost nothing: the score follows from the values."""

    def run_trial(self, trial: Any, *args: Any, **options: Any) -> float:
        values = trial.hyperparameters.values
        return abs(values["rate"] - 0.3) + 1.0 / values["tuner/epochs"]


def search(folder: Path) -> None:
    """Begins or reloads a study in `folder` and runs it to its end."""
    space = keras_tuner.HyperParameters()
    space.Float("rate", 0.0, 1.0)
    hyperband = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("score", "min"), max_epochs=9, factor=3, seed=1, hyperparameters=space
    )
    Costless(
        oracle=hyperband, hypermodel=lambda hp: None, directory=str(folder), project_name="study", overwrite=False
    ).search(verbose=0)


def result(folder: Path) -> Any:
    found = []
    for path in sorted((folder / "study").glob("trial_*/trial.json")):
        facts = json.loads(path.read_text())
        found.append((facts["trial_id"], facts["status"], facts["score"], facts["hyperparameters"]["values"]))
    return found


def crash(folder: Path, at: int, partly: bool) -> int:
    """A search that dies at its `at`-th file: before it, or when half of it is written."""
    real, seen = utils.save_json, [0]

    def save_json(path: Any, facts: Any) -> Any:
        seen[0] += 1
        if seen[0] == at:
            if partly:
                text = json.dumps(facts)
                Path(path).write_text(text[: len(text) // 2])
            os._exit(CRASHED)
        return real(path, facts)

    utils.save_json = save_json
    search(folder)
    return DONE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1)
    stride = parser.parse_args().stride
    count = {"crashes": 0, "not loadable": 0, "different": 0, "right": 0}
    scratch = Path(tempfile.mkdtemp(prefix="stock-"))
    try:
        status, said = child(partial(go, scratch / "alone"))
        assert status == DONE, said
        expected = result(scratch / "alone")
        at = 1
        for at in range(1, 10_000, stride):
            for partly in (False, True):
                folder = scratch / f"{at}-{partly}"
                status, _ = child(partial(crash, folder, at, partly))
                if status == DONE:
                    break
                count["crashes"] += 1
                status, _ = child(partial(go, folder))
                outcome = "not loadable" if status == BROKE else "right" if result(folder) == expected else "different"
                count[outcome] += 1
                shutil.rmtree(folder)
            else:
                continue
            break
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(count))


def go(folder: Path) -> int:
    search(folder)
    return DONE


if __name__ == "__main__":
    main()
