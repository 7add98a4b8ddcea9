"""Asking a search to stop: the first signal waits for the epoch's end, the second one leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tuner.errors import Interrupted


@contextmanager
def on_signals(
    stop: threading.Event, signals: Sequence[int], notice: Callable[[], None], go_on: Callable[[], str]
) -> Iterator[None]:
    """Inside, the first of `signals` sets `stop` and calls `notice`, the second leaves at once: what the store holds is
    whole even then. Raises Interrupted either way, its message ended by `go_on`. Outside, signals do what they did.

    Only Python's main thread can mind signals; in another one only `stop` interrupts.
    """
    received: list[int] = []

    def on_signal(number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        received.append(number)
        stop.set()
        notice()

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, on_signal) for number in signals} if main else {}
    try:
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    except (Interrupted, KeyboardInterrupt) as error:
        message = str(error) or "Left at once; the store holds every finished epoch."
        raise Interrupted(message + go_on(), 143 if signal.SIGTERM in received else 130) from None
