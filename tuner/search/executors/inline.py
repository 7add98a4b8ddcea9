"""Trials in the driver's own process, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tuner.search.executors import Ended, Epoch, Event
from tuner.training.context import Context
from tuner.training.trial import Training, TrialSpec, train


class Inline:
    """An executor of one slot. `should_stop` is asked after every epoch."""

    slots = 1

    def __init__(self, context: Context, should_stop: Callable[[], bool]) -> None:
        self._context, self._should_stop = context, should_stop
        self._running: tuple[str, Training] | None = None

    def submit(self, token: str, spec: TrialSpec) -> None:
        self._running = token, train(spec, self._context, self._should_stop)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Trains while it is asked: an epoch for each event, however long that takes."""
        if self._running is None:
            return
        token, training = self._running
        while True:
            try:
                yield Epoch(token, next(training))
            except StopIteration as end:
                self._running = None
                yield Ended(token, end.value)
                return

    def stop(self) -> None:
        """Nothing to tell: the trial asks."""

    def close(self) -> None:
        if self._running is not None:
            self._running[1].close()
            self._running = None
