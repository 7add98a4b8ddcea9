"""What the best configuration and the baseline said of each validation photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.snapshot import Snapshot


def by_photograph(snapshot: Snapshot, said: dict[str, NDArray[np.float32] | None]) -> pd.DataFrame:
    """One row a validation photograph, in the study's order: `photograph` (path in the data), `class`, and for each
    name in `said` (class probabilities, (photographs, classes)) `NAME` the class it chose, `NAME_right`, and
    `NAME_chance`, the probability it gave the true class.
    """
    study = snapshot.study
    columns: dict[str, Any] = {
        "photograph": list(snapshot.validation_paths),
        "class": [study.classes[label] for label in study.val_labels],
    }
    truth = np.array(study.val_labels, dtype=np.int64)
    for name, chances in said.items():
        if chances is None or len(chances) != len(truth):
            continue
        chosen = chances.argmax(axis=1)
        columns[name] = [study.classes[i] for i in chosen]
        columns[f"{name}_right"] = chosen == truth
        columns[f"{name}_chance"] = chances[np.arange(len(truth)), truth].astype(float)
    return pd.DataFrame(columns)
