"""study.db: the one truth of a study. SQLite in WAL mode, one writer, any number of readers.

Contract: every method that changes something is one transaction, on disk when it returns (synchronous=FULL); an event
and its record land together. Readers (`Store(path, readonly=True)`, pandas) see whole events only. Checkpoint files are
written first and named here afterwards, so a file that no row names is rubbish and a row's file is whole (its SHA-256
is stored). Metrics are natural-log losses and accuracies in [0, 1]; a non-finite number is stored as NULL.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from tuner.artifacts import own
from tuner.errors import NoResultsError, StoreError
from tuner.spec.configuration import Configuration
from tuner.spec.spec import Spec
from tuner.store import schema

ADVICE = "Name another study folder, or move it away if nothing else needs it."
DAMAGED = (
    "It was left as it is. With a copy of study.db from before in its place, and no study.db-wal beside it, the same "
    "command goes on; without one `tlstudy search --fresh` moves it aside and starts again."
)
NO_RESULTS = "no results yet; run `tlstudy search` first."


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk: `file` is its name in the study's checkpoints folder."""

    role: str
    epoch: int
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class EpochRow:
    """One finished epoch. `epoch` counts from 1; `images`: photographs seen in it, training and validation; `score`:
    the objective's value, where that is neither loss nor accuracy.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    images: int
    score: float | None = None


@dataclass(frozen=True)
class TrialRow:
    """A trial as it is started. `iteration`, `bracket` and `rung` are Hyperband's, None for what it does not draw;
    `parent` is the trial it goes on from.
    """

    id: str
    configuration: str
    iteration: int | None
    bracket: int | None
    rung: int | None
    first_epoch: int
    last_epoch: int
    parent: str | None


@dataclass(frozen=True)
class Bracket:
    """A planned bracket of a Hyperband iteration: per rung the number of configurations and the epoch they train to."""

    iteration: int
    bracket: int
    sizes: tuple[int, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """A configuration that was drawn for a bracket; `seed`: where KerasTuner's sequence of seeds stands after it."""

    number: int
    iteration: int
    bracket: int
    values: Configuration
    seed: int


@dataclass(frozen=True)
class Side:
    """What is trained again: a configuration of the search, and for how many epochs."""

    name: str  # "winner", "baseline", "other baseline" or "unfrozen"
    source: str
    kind: str
    hyperparameters: Mapping[str, Any]
    epochs: int


@dataclass(frozen=True)
class Confirmation:
    """What is trained again and from how many fresh seeds: fixed before the first.

    `epochs`: "chosen": each seed trains for all epochs and chooses the one that counts by the study's rule, as the
    search did, and its weights are kept. "fixed", of studies that were confirmed so before: winner and baseline alone,
    for as many epochs as the search's own run of each took to the one that counted there.
    """

    seeds: int
    sides: tuple[Side, ...]
    epochs: str = "chosen"


@dataclass(frozen=True)
class Confirms:
    """What a configuration that is trained once more stands for; seeds count from 1, a fold of -1 is none."""

    source: str
    side: str
    seed: int
    fold: int = -1
    repeat: int = -1


class Store:
    """Opens or makes a study's database; `frozen`: its content of now, with no lock kept that a search would wait for.
    Raises StoreError when the file is not this tool's, newer, or damaged."""

    def __init__(self, path: Path, *, readonly: bool = False, frozen: bool = False) -> None:
        self.path, self._opened = path, _place(path)
        if readonly and not path.exists():
            raise NoResultsError(f"{path}: {NO_RESULTS}")
        if kind := own.strange(path) or ("a folder" if path.is_dir() else ""):
            raise StoreError(f"{path}: is {kind}, expected a study's database. {ADVICE}")
        with self._explained():
            version = self._version(thorough=not readonly) if path.exists() else 0
            if readonly and not version:
                raise NoResultsError(f"{path}: {NO_RESULTS}")
            self._db = connect_readonly(path) if readonly else sqlite3.connect(path, isolation_level=None)
            self._opened = _place(path)
            if frozen or readonly and version < schema.FORMAT:
                self._db = schema.migrated_copy(self._db, version)
            self._db.row_factory = sqlite3.Row
            if not readonly:
                self._db.executescript("PRAGMA foreign_keys = OFF; PRAGMA synchronous = FULL")
                if not version:
                    self._create()
                elif version < schema.FORMAT:
                    with self.transaction():
                        schema.migrate(self._db, version)
                self._db.executescript("PRAGMA foreign_keys = ON")

    def _version(self, thorough: bool) -> int:
        """The format of the file, 0 after a crash between making it and its first transaction, when nothing was lost
        yet. Raises StoreError for another program's or a newer one.
        """
        if 0 < self.path.stat().st_size < 512:  # SQLite takes some such files for empty and would write over them
            raise sqlite3.DatabaseError("file is not a database")
        # A connection that may write would tidy up the journal even of a database that is not ours.
        with closing(connect_readonly(self.path)) as db:
            wanted = ("PRAGMA application_id", "PRAGMA user_version", "SELECT COUNT(*) FROM sqlite_master")
            application, version, tables = (int(db.execute(query).fetchone()[0]) for query in wanted)
            if (application, version, tables) == (0, 0, 0):
                return 0
            if application != schema.APPLICATION:
                raise StoreError(f"{self.path}: is another program's database; it was left untouched. {ADVICE}")
            if version < 1:
                raise sqlite3.DatabaseError(f"its format is {version}")
            if version > schema.FORMAT:
                raise StoreError(
                    f"{self.path}: has format {version}, this version reads up to {schema.FORMAT}. "
                    "Update tlstudy; nothing was changed."
                )
            if thorough and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
        return version

    def _create(self) -> None:
        os.chmod(self.path, 0o600)
        self._db.execute("PRAGMA journal_mode = WAL")
        with self.transaction():
            schema.create(self._db)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as StoreError, except those that only a mistake in this program can cause."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.OperationalError as error:
            self.check_place()
            raise StoreError(
                f"{self.path}: cannot be read or written ({error}). What was recorded before is kept: mend this and "
                "run the same command again."
            ) from error
        except (sqlite3.DatabaseError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{self.path}: cannot be used as a study's database ({error}). {DAMAGED}") from error

    def check_place(self) -> None:
        """Raises StoreError when the file that was opened is no longer the one at its path: SQLite would go on writing
        where nobody finds it.
        """
        if _place(self.path) != self._opened:
            raise StoreError(
                f"{self.path}: was moved or removed while a search wrote to it, which stops here. Where it was moved "
                "to it holds all that had finished: go on there, with `tlstudy search` and the study's new folder."
            )

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside lands together or not at all; nests into the outermost."""
        if self._db.in_transaction:
            yield
            return
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def write(self, query: str, *values: Any) -> None:
        """One statement that changes something, in a transaction."""
        with self.transaction():
            self._db.execute(query, values)

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._explained():
            return self._db.execute(query, values).fetchall()

    # ---- the study itself ----

    def set_meta(self, **facts: Any) -> None:
        with self.transaction():
            for key, value in facts.items():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _json(value)))

    def meta(self, key: str, default: Any = None) -> Any:
        found = self.rows("SELECT value FROM meta WHERE key = ?", key)
        with self._explained():
            return json.loads(found[0][0]) if found else default

    def numerics(self) -> int | None:
        """What the study here began under; None where none has."""
        return None if self.meta("spec") is None else int(self.meta("environment", {}).get("numerics", 1))

    def spec(self) -> Spec | None:
        """What is searched here, as the last session recorded it; None where none has begun."""
        began = self.numerics()
        return None if began is None else Spec.from_dict(self.meta("spec"), numerics=began)

    def record_images(
        self, images: Iterable[tuple[str, str, int, str, int, int]], left_out: Iterable[tuple[str, str]]
    ) -> None:
        """Rows of (path, split, label, sha256, width, height) in the order of the image array, and (path, reason)."""
        with self.transaction():
            self._db.execute("DELETE FROM images")
            self._db.execute("DELETE FROM left_out")
            numbered = ((i, _text(path), *rest) for i, (path, *rest) in enumerate(images))
            self._db.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
            texts = ((_text(path), _text(reason)) for path, reason in left_out)
            self._db.executemany("INSERT OR REPLACE INTO left_out VALUES (?, ?)", texts)

    # ---- the plan ----

    def brackets(self) -> tuple[Bracket, ...]:
        """Those that earlier sessions recorded."""
        return tuple(
            Bracket(b["iteration"], b["bracket"], tuple(b["sizes"]), tuple(b["epochs"])) for b in self.meta("plan", [])
        )

    def draws(self) -> tuple[Draw, ...]:
        """Every configuration that was drawn, in the order of drawing."""
        return tuple(
            Draw(r["number"], r["iteration"], r["bracket"], self._configuration(r["hyperparameters"]), r["seed"])
            for r in self.rows("SELECT * FROM draws ORDER BY number")
        )

    def baseline(self) -> tuple[Configuration, ...]:
        """The frozen configurations that earlier sessions planned."""
        return tuple(Configuration.from_dict(values) for values in self.meta("baseline", []))

    def record_plan(
        self, brackets: Iterable[Bracket], draws: Iterable[Draw], baseline: Iterable[Configuration], iterations: int
    ) -> None:
        """Fixes what is going to be trained: a later session, also one with a wider space, keeps it."""
        with self.transaction():
            self.set_meta(
                plan=[asdict(b) for b in brackets],
                planned_iterations=iterations,
                baseline=[values.to_dict() for values in baseline],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO draws VALUES (?, ?, ?, ?, ?)",
                [(d.number, d.iteration, d.bracket, _json(d.values.to_dict()), d.seed) for d in draws],
            )

    def confirmation(self) -> Confirmation | None:
        """What an earlier session fixed."""
        found = self.meta("confirmation")
        if found is None:
            return None
        values = (Configuration.from_dict(side["hyperparameters"]).to_dict() for side in found["sides"])
        sides = (Side(**side | {"hyperparameters": v}) for side, v in zip(found["sides"], values, strict=True))
        return Confirmation(found["seeds"], tuple(sides), found.get("epochs", "fixed"))

    def fix_confirmation(self, confirmation: Confirmation) -> None:
        """Before the first of its trials begins."""
        self.set_meta(confirmation=asdict(confirmation))

    def out_of_time(self) -> tuple[str, dict[str, int]]:
        """(The time budget, configuration -> the rung that there was no time for): who was left out."""
        found = self.meta("out_of_time", {"budget": "none", "trials": {}})
        return found["budget"], found["trials"]

    def leave_out(self, budget: str, trials: Mapping[str, int]) -> None:
        """Replaces what `out_of_time` returns."""
        self.set_meta(out_of_time={"budget": budget, "trials": dict(trials)})

    def _configuration(self, text: str) -> Configuration:
        with self._explained():
            return Configuration.from_dict(json.loads(text))

    # ---- sessions ----

    def begin_session(self, started: str, host: str, pid: int, command: str, environment: Mapping[str, Any]) -> int:
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO sessions (started, host, pid, command, environment) VALUES (?, ?, ?, ?, ?)",
                (started, host, pid, _text(command), _json(environment)),
            )
        return int(cursor.lastrowid or 0)

    def update_session(self, session: int, seconds: float, outcome: str | None, phases: Mapping[str, float]) -> None:
        with self.transaction():
            query = "UPDATE sessions SET seconds = ?, outcome = ?, phases = ? WHERE id = ?"
            self._db.execute(query, (seconds, outcome, json.dumps(phases), session))

    # ---- configurations, trials, epochs ----

    def add_configuration(
        self, id: str, kind: str, number: int, hyperparameters: Mapping[str, Any], cut: str, trained: int | None
    ) -> None:
        with self.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO configurations VALUES (?, ?, ?, ?, ?, ?)",
                (id, kind, number, _json(hyperparameters), cut, trained),
            )

    def begin_trial(self, trial: TrialRow, environment: Mapping[str, Any] | None = None) -> int:
        """Records a trial as running; returns which attempt it is at an epoch of its own, see `blame`. `environment`:
        what its numbers depend on besides the study.
        """
        with self.transaction():
            self._db.execute(
                "INSERT INTO trials (id, configuration, iteration, bracket, rung, first_epoch, last_epoch, parent, "
                "position, status, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, "
                "(SELECT COALESCE(MAX(position), 0) + 1 FROM trials), 'RUNNING', 1) "
                "ON CONFLICT (id) DO UPDATE SET status = 'RUNNING'",
                astuple(trial),
            )
            if environment is not None:
                facts = _json(environment)
                self._db.execute("INSERT OR IGNORE INTO environments (facts) VALUES (?)", (facts,))
                self._db.execute(
                    "UPDATE trials SET environment = (SELECT id FROM environments WHERE facts = ?) WHERE id = ?",
                    (facts, trial.id),
                )
            return int(self.rows("SELECT attempts FROM trials WHERE id = ?", trial.id)[0][0])

    def blame(self, trials: Iterable[str]) -> None:
        """Counts a death that looks like these trials' own against those of them that have not ended."""
        with self.transaction():
            for trial in trials:
                query = "UPDATE trials SET attempts = attempts + 1 WHERE id = ? AND status = 'RUNNING'"
                self._db.execute(query, (trial,))

    def try_again(self, attempts: int, kinds: Iterable[str]) -> list[str]:
        """Once more what failed by so many deaths that `attempts` are used up, of these kinds; the trials."""
        with self.transaction():
            query = (
                "SELECT id FROM trials WHERE status = 'FAILED' AND attempts > ? AND configuration IN "
                "(SELECT id FROM configurations WHERE kind IN (SELECT value FROM json_each(?))) ORDER BY position"
            )
            found = [str(row["id"]) for row in self.rows(query, attempts, _json(list(kinds)))]
            for trial in found:
                self._db.execute("UPDATE trials SET status = 'RUNNING', attempts = ? WHERE id = ?", (attempts, trial))
        return found

    def record_epoch(
        self,
        trial: str,
        configuration: str,
        row: EpochRow,
        probabilities: bytes | None,
        saved: Iterable[Saved],
        losses: bytes | None = None,
    ) -> None:
        """One epoch, with its predictions if it is the one that counts so far, and the checkpoints written for it.

        `probabilities`: float32, little-endian, C order, (validation images, classes); `losses`: see
        `tuner.store.losses`.
        """
        with self.transaction():
            if not self.rows("SELECT 1 FROM epochs WHERE configuration = ? AND epoch = ?", configuration, row.epoch):
                # It came further than any attempt before: what kills the process again and again is not this trial.
                self._db.execute("UPDATE trials SET attempts = 1 WHERE id = ?", (trial,))
            numbers = [_number(v) for v in (row.loss, row.accuracy, row.val_loss, row.val_accuracy)]
            self._db.execute(
                # An epoch that is trained again after a lost checkpoint stays the first trial's.
                "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (configuration, epoch) "
                "DO UPDATE SET loss = excluded.loss, accuracy = excluded.accuracy, val_loss = excluded.val_loss, "
                "val_accuracy = excluded.val_accuracy, seconds = excluded.seconds, score = excluded.score, "
                "losses = excluded.losses",
                (configuration, row.epoch, trial, *numbers, row.seconds, row.images, _number(row.score), losses),
            )
            if probabilities is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)", (configuration, row.epoch, probabilities)
                )
            for point in saved:
                self._db.execute(
                    "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)",
                    (configuration, point.role, point.epoch, point.file, point.bytes, point.sha256),
                )

    def set_hyperparameters(self, configuration: str, hyperparameters: Mapping[str, Any]) -> None:
        """With what was chosen while it was fitted."""
        with self.transaction():
            query = "UPDATE configurations SET hyperparameters = ? WHERE id = ?"
            self._db.execute(query, (_json(hyperparameters), configuration))

    def end_trial(
        self,
        trial: str,
        status: str,
        score: float | None,
        best_epoch: int | None,
        reason: str | None,
        seconds: float,
        trained_parameters: int | None = None,
    ) -> None:
        """The trial's end; the seconds of its attempts add up."""
        with self.transaction():
            self._db.execute(
                "UPDATE trials SET status = ?, score = ?, best_epoch = ?, reason = ?, seconds = "
                "COALESCE(seconds, 0) + ? WHERE id = ?",
                (status, _number(score), best_epoch, reason, seconds, trial),
            )
            self._db.execute(
                "UPDATE configurations SET trained_parameters = COALESCE(?, trained_parameters) "
                "WHERE id = (SELECT configuration FROM trials WHERE id = ?)",
                (trained_parameters, trial),
            )

    # ---- checkpoints ----

    def checkpoints(self) -> dict[tuple[str, str], Saved]:
        """By configuration and role."""
        query = "SELECT configuration, role, epoch, file, bytes, sha256 FROM checkpoints"
        return {(r["configuration"], r["role"]): Saved(*tuple(r)[1:]) for r in self.rows(query)}

    def forget_checkpoints(self, configuration: str, roles: Iterable[str]) -> None:
        """Their files may go."""
        with self.transaction():
            for role in roles:
                self._db.execute("DELETE FROM checkpoints WHERE configuration = ? AND role = ?", (configuration, role))


def begun(path: Path) -> bool:
    """Whether a study's database holds anything, or is damaged and may have; False for one that a crash left between
    making the file and its first transaction, which a search takes for a new one.
    """
    try:
        Store(path, readonly=True).close()
    except NoResultsError:
        return False
    except StoreError:
        return True
    return True


def _place(path: Path) -> tuple[int, int] | None:
    """Which file is there: its device and inode; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that can only read, also while a search writes and in a folder that cannot be written."""
    uri = path.absolute().as_uri()
    try:
        database = sqlite3.connect(uri + "?mode=ro", uri=True)
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
        return database
    except sqlite3.OperationalError:
        # WAL needs a shared-memory file beside it; in a read-only folder without a writer there is nothing to share.
        return sqlite3.connect(uri + "?mode=ro&immutable=1", uri=True)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _text(text: str) -> str:
    """A file name whose bytes are not UTF-8, in which SQLite's texts are, as Python would write it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
