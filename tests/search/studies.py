"""Makes tiny studies on real photographs, runs them, and says what their databases hold."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from image_files import folder as image_folder

from tuner.search.events import Event
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.store import Store


def spec(**changes: Any) -> Spec:
    """The tiny question; dotted keys change it, with a double underscore for the dot."""
    plain = Spec.from_dict(
        {
            "data": {"path": "photos", "image_size": 32},
            "backbone": {"weights": "random"},
            "space": {
                "unfrozen_layers": [0, 4],
                "learning_rate": {"min": 1e-4, "max": 1e-2, "sampling": "log"},
                "head_width": [0, 8],
                "dropout": [0.0, 0.3],
            },
            "search": {"max_epochs": 3, "factor": 3, "batch_size": 4},
            "confirm": {"seeds": 2},
        }
    )
    return plain.override({name.replace("__", "."): value for name, value in changes.items()})


def make(root: Path, classes: tuple[str, ...] = ("cat", "dog"), test: int = 0) -> StudyFolder:
    """A study folder with its photographs: 5 a class to train on, 4 to validate, and `test` of them sealed."""
    image_folder(root / "photos", train=5, val=4, classes=classes, test=test)
    return StudyFolder(root)


def search(
    folder: StudyFolder,
    question: Spec | None = None,
    on: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
    **how: bool,
) -> list[Event]:
    """Runs a session in this process and returns its events; `how`: the fields of `session.How`."""
    from tuner.search import session

    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        on(event)

    stop = stop or threading.Event()
    session.run(folder, question or spec(), listen, stop, command="test", how=session.How(**how))
    return events


def own_cache(place: Path) -> Path:
    """A cache for one test, without images and features; the random weights that other tests calibrated are linked."""

    def link(source: str, target: str) -> None:
        (os.link if source.endswith(".npz") else shutil.copy2)(source, target)

    if (known := Path(os.environ["TLSTUDY_CACHE"]) / "weights").exists():
        hidden = shutil.ignore_patterns(".*")  # what another process is just making
        shutil.copytree(known, place / "weights", copy_function=link, ignore=hidden)
    return place


def facts(folder: StudyFolder) -> dict[str, Any]:
    """Everything in the database that is a result: no times, no attempts."""
    queries = {
        "configurations": "SELECT id, kind, number, hyperparameters, cut, trained_parameters FROM configurations "
        "ORDER BY id",
        "trials": "SELECT id, configuration, iteration, bracket, rung, first_epoch, last_epoch, parent, status, score, "
        "best_epoch, reason FROM trials ORDER BY id",
        "epochs": "SELECT configuration, epoch, trial, loss, accuracy, val_loss, val_accuracy, images, score "
        "FROM epochs ORDER BY configuration, epoch",
        "losses": "SELECT configuration, epoch, losses FROM epochs ORDER BY configuration, epoch",
        "predictions": "SELECT configuration, epoch, probabilities FROM predictions ORDER BY configuration",
        "checkpoints": "SELECT configuration, role, epoch, sha256 FROM checkpoints ORDER BY configuration, role",
        "draws": "SELECT * FROM draws ORDER BY number",
        "confirmations": "SELECT * FROM confirmations ORDER BY configuration",
        "openings": "SELECT id, winner, baseline, seal FROM openings ORDER BY id",
        "held out": "SELECT * FROM held_out ORDER BY configuration",
        "images": "SELECT * FROM images ORDER BY number",
    }
    with Store(folder.database, readonly=True) as store:
        return {name: [tuple(row) for row in store.rows(query)] for name, query in queries.items()}


def count(folder: StudyFolder, table: str) -> int:
    """Rows of a table, 0 while there is no database."""
    if not folder.database.exists():
        return 0
    with Store(folder.database, readonly=True) as store:
        return int(store.rows(f"SELECT COUNT(*) FROM {table}")[0][0])
