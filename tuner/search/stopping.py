"""Asking a search to stop: the first signal waits for the epoch's end, the second one leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_signals(
    stop: threading.Event, signals: Sequence[int], said: Callable[[], None], received: list[int] | None = None
) -> Iterator[None]:
    """Inside, the first of `signals` sets `stop` and calls `said`, the second raises KeyboardInterrupt: what the store
    holds is whole even then. Their numbers are added to `received`. Before and after, signals do what they did.

    Only Python's main thread can mind signals; in another one this does nothing.
    """

    def on_signal(number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        if received is not None:
            received.append(number)
        stop.set()
        said()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
