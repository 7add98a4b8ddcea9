"""A search in a process that kills itself."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from search.canary import singing
from search.studies import spec

from tuner.search import session
from tuner.store.folder import StudyFolder
from tuner.store.store import Store
from tuner.training import trial


def search(root: str, kind: str, number: int) -> None:
    """Dies by SIGKILL at the `number`-th event of a kind, with a checkpoint in every epoch; its training steps are
    counted in the study's file `canary`."""
    trial.SAVE_EVERY = 0.0
    seen = 0

    def die_at(what: str) -> None:
        nonlocal seen
        seen += what == kind
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    ending = Store.end_trial

    def end_trial(self: Store, *values: Any) -> None:
        ending(self, *values)
        die_at("inside the transaction that ends a trial")

    Store.end_trial = end_trial  # type: ignore[method-assign]
    with singing(Path(root) / "canary"):
        session.run(
            StudyFolder(Path(root)),
            spec(),
            lambda event: die_at(type(event).__name__ + (f" {event.phase}" if hasattr(event, "phase") else "")),
            threading.Event(),
            command="killed",
        )
