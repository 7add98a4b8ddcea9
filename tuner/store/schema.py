"""study.db's tables, and how an older file becomes one of today.

A change of the tables raises FORMAT and adds the statements that bring the format before it up to date; a study folder
of every format that was ever released stands in tests/golden, with the program that made it.
"""

from __future__ import annotations

import json
import sqlite3

FORMAT = 6
APPLICATION = 0x746C7374  # "tlst", SQLite's application_id

SIDES = "'winner', 'baseline', 'other baseline', 'unfrozen'"

CONFIRMATION_2 = """
CREATE TABLE confirmations (
    configuration TEXT PRIMARY KEY REFERENCES configurations, source TEXT NOT NULL REFERENCES configurations,
    side TEXT NOT NULL CHECK (side IN ('winner', 'baseline')), seed INTEGER NOT NULL,
    fold INTEGER NOT NULL, repeat INTEGER NOT NULL) STRICT;
CREATE TABLE openings (
    id INTEGER PRIMARY KEY, opened TEXT NOT NULL, winner TEXT NOT NULL, baseline TEXT NOT NULL,
    seal TEXT NOT NULL) STRICT;
CREATE TABLE held_out (
    configuration TEXT PRIMARY KEY REFERENCES configurations, opening INTEGER REFERENCES openings,
    photographs TEXT NOT NULL, probabilities BLOB NOT NULL) STRICT;
"""

PLAN = """
CREATE TABLE draws (
    number INTEGER PRIMARY KEY, iteration INTEGER NOT NULL, bracket INTEGER NOT NULL, hyperparameters TEXT NOT NULL,
    seed INTEGER NOT NULL) STRICT;
CREATE TABLE environments (id INTEGER PRIMARY KEY, facts TEXT NOT NULL UNIQUE) STRICT;
"""

SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE images (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL, split TEXT NOT NULL, label INTEGER NOT NULL,
    sha256 TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL) STRICT;
CREATE TABLE left_out (path TEXT PRIMARY KEY, reason TEXT NOT NULL) STRICT;
CREATE TABLE configurations (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('search', 'baseline', 'reference', 'logistic', 'seed', 'fold')),
    number INTEGER NOT NULL, hyperparameters TEXT NOT NULL, cut TEXT NOT NULL,
    trained_parameters INTEGER, UNIQUE (kind, number)) STRICT;
CREATE TABLE trials (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL UNIQUE, configuration TEXT NOT NULL REFERENCES configurations,
    iteration INTEGER, bracket INTEGER, rung INTEGER, first_epoch INTEGER NOT NULL, last_epoch INTEGER NOT NULL,
    parent TEXT REFERENCES trials, status TEXT NOT NULL CHECK (status IN ('RUNNING', 'COMPLETED', 'FAILED')),
    attempts INTEGER NOT NULL, score REAL, best_epoch INTEGER, reason TEXT, seconds REAL,
    environment INTEGER REFERENCES environments) STRICT;
CREATE TABLE epochs (
    configuration TEXT NOT NULL REFERENCES configurations, epoch INTEGER NOT NULL,
    trial TEXT NOT NULL REFERENCES trials, loss REAL, accuracy REAL, val_loss REAL, val_accuracy REAL,
    seconds REAL NOT NULL, images INTEGER NOT NULL, score REAL, losses BLOB,
    PRIMARY KEY (configuration, epoch)) STRICT;
CREATE TABLE predictions (
    configuration TEXT PRIMARY KEY REFERENCES configurations, epoch INTEGER NOT NULL,
    probabilities BLOB NOT NULL) STRICT;
CREATE TABLE checkpoints (
    configuration TEXT NOT NULL REFERENCES configurations, role TEXT NOT NULL CHECK (role IN ('last', 'best')),
    epoch INTEGER NOT NULL, file TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (configuration, role)) STRICT;
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, command TEXT NOT NULL,
    environment TEXT NOT NULL, seconds REAL, outcome TEXT, phases TEXT) STRICT;
"""
    + PLAN
    + CONFIRMATION_2.replace("photographs", "images").replace("'winner', 'baseline'", SIDES)
)

MIGRATIONS: dict[int, str] = {
    # SQLite cannot change a CHECK: the table is made anew (https://sqlite.org/lang_altertable.html, section 7).
    1: """
CREATE TABLE wider (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('search', 'baseline', 'reference', 'logistic', 'seed', 'fold')),
    number INTEGER NOT NULL, hyperparameters TEXT NOT NULL, cut TEXT NOT NULL,
    trained_parameters INTEGER, UNIQUE (kind, number)) STRICT;
INSERT INTO wider SELECT id, kind, number, hyperparameters, cut, trained_parameters FROM configurations;
DROP TABLE configurations;
ALTER TABLE wider RENAME TO configurations;
"""
    + CONFIRMATION_2,
    2: PLAN
    + """
ALTER TABLE photographs RENAME TO images;
ALTER TABLE held_out RENAME COLUMN photographs TO images;
ALTER TABLE trials ADD COLUMN environment INTEGER REFERENCES environments;
""",
    3: "ALTER TABLE epochs ADD COLUMN score REAL",
    4: "ALTER TABLE epochs ADD COLUMN losses BLOB",
    5: f"""
CREATE TABLE wider (
    configuration TEXT PRIMARY KEY REFERENCES configurations, source TEXT NOT NULL REFERENCES configurations,
    side TEXT NOT NULL CHECK (side IN ({SIDES})), seed INTEGER NOT NULL,
    fold INTEGER NOT NULL, repeat INTEGER NOT NULL) STRICT;
INSERT INTO wider SELECT configuration, source, side, seed, fold, repeat FROM confirmations;
DROP TABLE confirmations;
ALTER TABLE wider RENAME TO confirmations;
""",
}
"""Statements that turn a format into the next one, by the format they start from."""


def create(database: sqlite3.Connection) -> None:
    """Makes the tables of today. Inside a transaction."""
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {FORMAT}")
    _execute(database, SCHEMA)


def migrate(database: sqlite3.Connection, version: int) -> None:
    """Brings the tables of format `version` to today's, step by step. Inside a transaction: all or nothing; with
    foreign keys not enforced, or dropping a table would empty those that refer to it.
    """
    for step in range(version, FORMAT):
        _execute(database, MIGRATIONS[step])
        if step == 2:
            _draws_of_the_oracle(database)
    database.execute(f"PRAGMA user_version = {FORMAT}")


def _draws_of_the_oracle(database: sqlite3.Connection) -> None:
    """Format 2 kept the whole state of KerasTuner's oracle: what it had drawn, and where its sequence stood, is what
    stays. What it had not drawn yet is drawn by the next search, from there on.
    """
    for (text,) in database.execute("SELECT state FROM oracle").fetchall():
        state = json.loads(text)
        drawn = [values for id in state["start_order"] if not (values := state["trials"][id]["values"])["tuner/round"]]
        database.executemany(
            "INSERT INTO draws VALUES (?, ?, ?, ?, ?)",
            [
                (number, values["tuner/iteration"], values["tuner/bracket"], _plain(values), state["seed_state"])
                for number, values in enumerate(drawn)
            ],
        )
    database.execute("DROP TABLE oracle")


def _plain(values: dict[str, object]) -> str:
    return json.dumps({k: v for k, v in values.items() if not k.startswith("tuner/")}, sort_keys=True)


def migrated_copy(database: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """The same content in today's tables, in memory: who only reads an older file leaves it as it is."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    database.backup(copy)
    database.close()
    migrate(copy, version)
    return copy


def _execute(database: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        if statement.strip():
            database.execute(statement)
