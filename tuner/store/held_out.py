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

from tuner.store.store import Store


def configuration(store: Store, id: str) -> tuple[str, dict[str, Any]]:
    """(kind, hyperparameters)."""
    row = store.rows("SELECT kind, hyperparameters FROM configurations WHERE id = ?", id)[0]
    return str(row["kind"]), json.loads(row["hyperparameters"])


def number(store: Store, id: str, kind: str) -> int:
    """A configuration's number among its kind: its own from an earlier attempt, or the next one."""
    known = store.rows("SELECT number FROM configurations WHERE id = ?", id)
    query = "SELECT COALESCE(MAX(number) + 1, 0) FROM configurations WHERE kind = ?"
    return int((known or store.rows(query, kind))[0][0])


def confirms(store: Store, id: str, source: str, side: str, seed: int, fold: int = -1, repeat: int = -1) -> None:
    """Records what a configuration stands for: another seed or fold of `source`."""
    store.write(
        "INSERT INTO confirmations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (configuration) DO UPDATE SET "
        "side = excluded.side",
        id,
        source,
        side,
        seed,
        fold,
        repeat,
    )


def completed(store: Store, id: str) -> bool:
    return bool(store.rows("SELECT 1 FROM trials WHERE id = ? AND status = 'COMPLETED'", id))


def seeds(store: Store, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The hyperparameters of every fresh seed of these configurations that was trained to its end."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        rows = store.rows(
            "SELECT c.id, c.hyperparameters FROM confirmations s JOIN configurations c ON c.id = s.configuration "
            "JOIN trials t ON t.configuration = c.id WHERE source = ? AND fold < 0 AND t.status = 'COMPLETED' "
            "ORDER BY seed",
            source,
        )
        found |= {str(r["id"]): json.loads(r["hyperparameters"]) for r in rows}
    return found


# ---- held-out predictions ----


def known(store: Store, id: str) -> bool:
    """Whether this configuration's held-out predictions are recorded."""
    return bool(store.rows("SELECT 1 FROM held_out WHERE configuration = ?", id))


def record(store: Store, id: str, opening: int | None, rows: np.ndarray, probabilities: np.ndarray) -> None:
    """Class probabilities float32 (k, classes) for the photographs numbered `rows` (k,)."""
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


def seal(photographs: Sequence[Mapping[str, Any]]) -> str:
    """Hex SHA-256 of the test photographs' own hashes and labels: what is sealed before the search begins."""
    text = json.dumps(sorted((p["sha256"], p["label"]) for p in photographs))
    return hashlib.sha256(text.encode()).hexdigest()


def awaited(store: Store) -> set[str]:
    """Configurations whose weights are still needed: for the test set that is not open yet, or for their fold."""
    test = store.rows("SELECT 1 FROM photographs WHERE split = 'test' LIMIT 1")
    rows = store.rows(
        "SELECT configuration FROM confirmations WHERE configuration NOT IN (SELECT configuration FROM held_out) "
        "AND (fold >= 0 OR ?) AND configuration NOT IN (SELECT configuration FROM trials WHERE status = 'FAILED')",
        bool(test),
    )
    return {str(r[0]) for r in rows}


def drop_checkpoints(store: Store) -> None:
    """Forgets the checkpoints of seeds and folds that nothing needs any more."""
    needed = awaited(store)
    rows = store.rows(
        "SELECT configuration, role FROM checkpoints JOIN configurations ON id = configuration "
        "WHERE kind IN ('seed', 'fold') AND configuration NOT IN (SELECT configuration FROM trials "
        "WHERE status = 'RUNNING')"
    )
    for row in rows:
        if row["configuration"] not in needed:
            store.forget_checkpoints(row["configuration"], [row["role"]])
