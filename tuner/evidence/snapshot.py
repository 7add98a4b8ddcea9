"""One consistent reading of study.db, and the facts of the study itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.errors import SpecError, StoreError
from tuner.spec.spec import Spec
from tuner.store.store import Store


@dataclass(frozen=True)
class Bracket:
    """One planned Hyperband bracket: per rung the number of configurations and the last epoch they train to."""

    iteration: int
    bracket: int
    sizes: tuple[int, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """The facts of one study; what was not recorded yet is empty, never invented."""

    state: str  # "finished", "running", "interrupted" or "not started"
    spec: Spec
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]  # split -> photographs of each class
    val_labels: tuple[int, ...]  # of the validation photographs, in the order of the stored predictions
    weights: str
    pretrained: bool
    layout: str
    data_path: str
    backbone_parameters: int | None
    leaked: int  # photographs of the same content as one in another split
    warnings: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]  # (file, reason)
    plan: tuple[Bracket, ...]
    sessions: int
    seconds: float  # of all sessions together
    phases: Mapping[str, float]  # seconds of all sessions together
    started: str  # when the first session began, ISO 8601
    commands: tuple[str, ...]  # one a session, as typed
    environment: Mapping[str, Any]  # versions and devices of the last session

    @property
    def validation(self) -> int:
        """How many validation photographs every accuracy here is counted on."""
        return len(self.val_labels)


@dataclass(frozen=True)
class Snapshot:
    """Every row this package reads, as of one moment."""

    study: Study
    configurations: list[sqlite3.Row]
    trials: list[sqlite3.Row]
    epochs: list[sqlite3.Row]
    predictions: Mapping[str, tuple[int, bytes]]  # configuration -> (epoch, float32 probabilities)
    validation_paths: tuple[str, ...]  # in the order of the stored predictions
    validation_digests: tuple[str, ...]  # SHA-256 of those files
    labels: tuple[int, ...] = ()  # of all photographs, by their number
    splits: tuple[str, ...] = ()
    confirmation: Mapping[str, Any] = field(default_factory=dict)  # what was going to be confirmed, and how often
    confirmations: Sequence[sqlite3.Row] = ()  # with their trial's status
    held_out: Mapping[str, tuple[tuple[int, ...], bytes]] = field(default_factory=dict)  # photographs, probabilities
    openings: int = 0
    first_session: sqlite3.Row | None = None  # its `started`, `host` and `pid` tell this study from every other one


def read(database: Path, running: bool = False) -> Snapshot:
    """Reads everything inside one transaction, so that a search that writes meanwhile cannot tear it.

    `running`: whether some process holds the study's lock, which the database cannot know. Raises StoreError when there
    is no database, or when it is another program's, newer or damaged.
    """
    with Store(database, readonly=True) as store:
        try:
            store.rows("BEGIN")
            return Snapshot(
                study=_study(store, running),
                configurations=store.rows("SELECT * FROM configurations ORDER BY kind, number"),
                trials=store.rows("SELECT * FROM trials ORDER BY position"),
                epochs=store.rows("SELECT * FROM epochs ORDER BY configuration, epoch"),
                predictions={
                    r["configuration"]: (r["epoch"], r["probabilities"])
                    for r in store.rows("SELECT * FROM predictions")
                },
                validation_paths=tuple(r["path"] for r in _validation(store)),
                validation_digests=tuple(r["sha256"] for r in _validation(store)),
                first_session=next(iter(store.rows("SELECT * FROM sessions ORDER BY id LIMIT 1")), None),
                **_confirmation(store),
            )
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError, SpecError) as error:
            # A file whose bytes were changed can still be a database: SQLite has no checksums.
            raise StoreError(
                f"{database}: cannot be read ({error}). It was left as it is; "
                "`tlstudy search --fresh` moves it aside and starts again."
            ) from error


def _confirmation(store: Store) -> dict[str, Any]:
    photographs = store.rows("SELECT split, label FROM photographs ORDER BY number")
    return {
        "labels": tuple(int(r["label"]) for r in photographs),
        "splits": tuple(str(r["split"]) for r in photographs),
        "confirmation": store.meta("confirmation", {}),
        "confirmations": store.rows(
            "SELECT s.*, t.status FROM confirmations s JOIN trials t ON t.configuration = s.configuration "
            "ORDER BY s.side DESC, s.seed, s.repeat, s.fold"
        ),
        "held_out": {
            r["configuration"]: (tuple(json.loads(r["photographs"])), r["probabilities"])
            for r in store.rows("SELECT * FROM held_out")
        },
        "openings": int(store.rows("SELECT COUNT(*) FROM openings")[0][0]),
    }


def _study(store: Store, running: bool) -> Study:
    sessions = store.rows("SELECT * FROM sessions ORDER BY id")
    classes = tuple(str(name) for name in store.meta("classes", []))
    photographs = store.rows("SELECT split, label FROM photographs ORDER BY number")
    leaked = store.rows(
        "SELECT COUNT(*) FROM (SELECT 1 FROM photographs GROUP BY sha256 HAVING COUNT(DISTINCT split) > 1)"
    )
    counts: dict[str, list[int]] = {}
    for split, label in photographs:
        counts.setdefault(split, [0] * max(len(classes), 1 + max(r["label"] for r in photographs)))[label] += 1
    recorded = store.meta("val_labels")
    labels = recorded if recorded is not None else [label for split, label in photographs if split == "val"]
    return Study(
        state=_state(store, sessions, running),
        spec=Spec.from_dict(store.meta("spec", {}), str(store.path)),
        classes=classes,
        counts={split: tuple(counts[split]) for split in sorted(counts, key=_split_order)},
        val_labels=tuple(int(label) for label in labels),
        weights=str(store.meta("weights", "")),
        pretrained=bool(store.meta("pretrained", True)),
        layout=str(store.meta("layout", "")),
        data_path=str(store.meta("data_path", "")),
        backbone_parameters=store.meta("backbone_parameters"),
        leaked=int(leaked[0][0]),
        warnings=tuple(str(w) for w in store.meta("warnings", [])),
        left_out=tuple((r["path"], r["reason"]) for r in store.rows("SELECT path, reason FROM left_out ORDER BY path")),
        plan=tuple(
            Bracket(int(b["iteration"]), int(b["bracket"]), tuple(b["sizes"]), tuple(b["epochs"]))
            for b in store.meta("plan", [])
        ),
        sessions=len(sessions),
        seconds=float(sum(s["seconds"] or 0.0 for s in sessions)),
        phases=_phases(sessions),
        started=str(sessions[0]["started"]) if sessions else "",
        commands=tuple(str(s["command"]) for s in sessions),
        environment=json.loads(sessions[-1]["environment"]) if sessions else {},
    )


def _validation(store: Store) -> list[sqlite3.Row]:
    return store.rows("SELECT path, sha256 FROM photographs WHERE split = 'val' ORDER BY number")


def _state(store: Store, sessions: list[sqlite3.Row], running: bool) -> str:
    if running:
        return "running"
    if sessions and sessions[-1]["outcome"] == "finished":
        return "finished"
    return "interrupted" if sessions or store.rows("SELECT 1 FROM trials LIMIT 1") else "not started"


def _phases(sessions: list[sqlite3.Row]) -> dict[str, float]:
    total: dict[str, float] = {}
    for session in sessions:
        phases: dict[str, Any] = json.loads(session["phases"] or "{}")
        for name, seconds in phases.items():
            total[name] = total.get(name, 0.0) + float(seconds)
    return total


def _split_order(split: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return (known.index(split) if split in known else len(known), split)
