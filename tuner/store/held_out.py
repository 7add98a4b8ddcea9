"""What the store knows of the confirmation: which training stands for what, held-out predictions, openings of the test
set.

Contract as the store's: each function that changes something is one transaction. A test image's prediction and the
opening it belongs to land together; who reads one can always read the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tuner.store.store import Confirms, Store


def confirms(store: Store, id: str, what: Confirms) -> None:
    """Records what a configuration stands for."""
    store.write(
        "INSERT INTO confirmations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (configuration) DO UPDATE SET "
        "side = excluded.side",
        id,
        *vars(what).values(),
    )


def predicted(store: Store) -> set[str]:
    """Configurations whose held-out predictions are recorded."""
    return {str(r[0]) for r in store.rows("SELECT configuration FROM held_out")}


def record(store: Store, id: str, opening: int | None, rows: np.ndarray, probabilities: np.ndarray) -> None:
    """Class probabilities float32 (k, classes) for the images numbered `rows` (k,)."""
    store.write(
        "INSERT OR REPLACE INTO held_out VALUES (?, ?, ?, ?)",
        id,
        opening,
        json.dumps([int(r) for r in rows]),
        np.ascontiguousarray(probabilities, dtype="<f4").tobytes(),
    )


def open_test(store: Store, when: str, winner: str, baseline: str) -> int:
    """Counts an opening of the test set and returns its number."""
    store.write(
        "INSERT INTO openings (opened, winner, baseline, seal) VALUES (?, ?, ?, ?)",
        when,
        winner,
        baseline,
        str(store.meta("test_seal", "")),
    )
    return int(store.rows("SELECT MAX(id) FROM openings")[0][0])


def seal(images: Sequence[Mapping[str, Any]]) -> str:
    """Hex SHA-256 of the test images' own hashes and labels: what is sealed before the search begins."""
    text = json.dumps(sorted((i["sha256"], i["label"]) for i in images))
    return hashlib.sha256(text.encode()).hexdigest()
