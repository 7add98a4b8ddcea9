"""What will be needed later is made ready while this process waits for something else."""

from __future__ import annotations

import contextlib
import importlib
import threading


def imported(*modules: str) -> None:
    """Begins to import modules in a thread. One that fails fails again, and says why, where it is needed."""

    def work() -> None:
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    threading.Thread(target=work, name="imports").start()
