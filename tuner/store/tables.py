"""The rows of study.db, typed, and one consistent reading of them all.

Each table's SQL stands here once, made from the fields of its row. Readers get frozen rows and plain mappings; what the
rows mean together is computed from them in `tuner.evidence`. Bytes of probabilities are float32, little-endian, in C
order, (images, classes); a metric that was not finite is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tuner.errors import SpecError, StoreError
from tuner.spec.configuration import renamed
from tuner.store.store import DAMAGED, Store

JSON = {"read": lambda text: None if text is None else json.loads(text)}


@dataclass(frozen=True)
class Image:
    """One image, numbered as in the image array; the label is an index into the study's classes."""

    number: int
    path: str
    split: str
    label: int
    sha256: str


@dataclass(frozen=True)
class LeftOut:
    """A file of the data that is no image of the study."""

    path: str
    reason: str


@dataclass(frozen=True)
class Configuration:
    """A point of the space; `cut`: the stored features its training starts from."""

    id: str
    kind: str  # "search", "baseline", "reference", "logistic", "seed" or "fold"
    number: int
    hyperparameters: Mapping[str, Any] = field(metadata={"read": lambda text: renamed(json.loads(text))})
    cut: str
    trained_parameters: int | None


@dataclass(frozen=True)
class Trial:
    """A configuration's training to one rung, from `first_epoch` (not included) to `last_epoch`."""

    id: str
    position: int
    configuration: str
    iteration: int | None
    bracket: int | None
    rung: int | None
    first_epoch: int
    last_epoch: int
    parent: str | None
    status: str  # "RUNNING", "COMPLETED" or "FAILED"
    attempts: int
    score: float | None
    best_epoch: int | None
    reason: str | None
    seconds: float | None


@dataclass(frozen=True)
class Epoch:
    """A finished epoch of a configuration, counted from 1; `images`: those seen in it, training and validation;
    `losses`: of each validation image, see `tuner.store.losses`, where the configuration was one to choose among.
    """

    configuration: str
    trial: str
    epoch: int
    loss: float | None
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    images: int
    score: float | None = None  # the objective's value, where that is neither loss nor accuracy
    losses: bytes | None = None


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of the validation images after the epoch that counts of a configuration."""

    configuration: str
    epoch: int
    probabilities: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A file in the study's checkpoints folder; `role`: "last" or "best"."""

    configuration: str
    role: str
    epoch: int
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Session:
    """One run of the search; what is missing was not recorded before it ended."""

    id: int
    started: str  # ISO 8601
    host: str
    pid: int
    command: str
    environment: Mapping[str, Any] = field(metadata=JSON)
    seconds: float | None
    outcome: str | None
    phases: Mapping[str, float] | None = field(metadata=JSON)


@dataclass(frozen=True)
class Confirmation:
    """What a configuration stands for: a fresh seed of `source`, or one of its folds (-1: none)."""

    configuration: str
    source: str
    side: str  # "winner", "baseline", "other baseline" or "unfrozen"
    seed: int
    fold: int
    repeat: int


@dataclass(frozen=True)
class HeldOut:
    """Class probabilities of images that were held out, `images` their numbers."""

    configuration: str
    opening: int | None
    images: Sequence[int] = field(metadata=JSON)
    probabilities: bytes


@dataclass(frozen=True)
class Opening:
    """One look at the test set."""

    id: int
    opened: str
    winner: str
    baseline: str
    seal: str


SOURCES: Mapping[type, tuple[str, str]] = {
    Image: ("images", "number"),
    LeftOut: ("left_out", "path"),
    Configuration: ("configurations", "kind, number"),
    Trial: ("trials", "position"),
    Epoch: ("epochs", "configuration, epoch"),
    Prediction: ("predictions", "configuration"),
    Checkpoint: ("checkpoints", "configuration, role"),
    Session: ("sessions", "id"),
    Confirmation: ("confirmations", "side DESC, seed, repeat, fold"),
    HeldOut: ("held_out", "configuration"),
    Opening: ("openings", "id"),
}
"""(table, order of its rows)."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Tables:
    """Every row of a study that a report needs, as of one moment. Mappings are by id or configuration, in order.

    `running`: some process holds the study's lock, which the database cannot know.
    """

    path: Path
    running: bool
    meta: Mapping[str, Any]
    images: Sequence[Image]
    left_out: Sequence[LeftOut]
    configurations: Mapping[str, Configuration]
    trials: Mapping[str, Trial]
    epochs: Sequence[Epoch]
    predictions: Mapping[str, Prediction]
    sessions: Sequence[Session]
    confirmations: Mapping[str, Confirmation]
    held_out: Mapping[str, HeldOut]
    openings: Sequence[Opening]


def read(database: Path, running: bool = False) -> Tables:
    """Reads everything inside one transaction, so that a search that writes meanwhile cannot tear it.

    Raises StoreError when there is no database, or when it is another program's, newer or damaged.
    """
    with Store(database, readonly=True) as store, damage_named(database):
        store.rows("BEGIN")
        return Tables(
            path=database,
            running=running,
            meta={key: json.loads(value) for key, value in store.rows("SELECT key, value FROM meta")},
            images=rows(store, Image),
            left_out=rows(store, LeftOut),
            configurations={row.id: row for row in rows(store, Configuration)},
            trials={row.id: row for row in rows(store, Trial)},
            epochs=rows(store, Epoch),
            predictions={row.configuration: row for row in rows(store, Prediction)},
            sessions=rows(store, Session),
            confirmations={row.configuration: row for row in rows(store, Confirmation)},
            held_out={row.configuration: row for row in rows(store, HeldOut)},
            openings=rows(store, Opening),
        )


def rows(store: Store, kind: type[Row]) -> list[Row]:
    """All rows of a kind, in the order of `SOURCES`."""
    table, order = SOURCES[kind]
    columns = fields(kind)  # type: ignore[arg-type]  # every key of SOURCES is a dataclass
    names = ", ".join(column.metadata.get("column", column.name) for column in columns)
    found = store.rows(f"SELECT {names} FROM {table} ORDER BY {order}")
    readers = [column.metadata.get("read") for column in columns]
    if not any(readers):
        return [kind(*row) for row in found]
    return [kind(*(read(v) if read else v for read, v in zip(readers, row, strict=True))) for row in found]


def holds(store: Store, kind: type) -> bool:
    """Whether there is a row of this kind."""
    return bool(store.rows(f"SELECT 1 FROM {SOURCES[kind][0]} LIMIT 1"))


@contextmanager
def damage_named(database: Path) -> Iterator[None]:
    """What only damaged rows can cause, as StoreError: a file whose bytes were changed can still be a database, SQLite
    has no checksums.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, SpecError) as error:
        raise StoreError(f"{database}: cannot be used as a study's database ({error}). {DAMAGED}") from error
