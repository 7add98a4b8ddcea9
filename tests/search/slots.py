"""An executor of several slots that ends trials in any order and loses some: what workers elsewhere may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from tuner.search.executors import Ended, Epoch, Event, WorkerLost
from tuner.training.context import Context
from tuner.training.trial import Training, TrialSpec, train

MOST_LOSSES = 2
"""Of one configuration: a third time its trial has failed, as promised elsewhere."""


class Slots:
    """`contexts`: one a slot, as each worker has its own. `losing`: the share of events that are a loss. A worker that
    was lost may be heard once more, too late. `trained` counts the epochs by configuration and number.
    """

    def __init__(self, contexts: list[Context], draw: np.random.Generator, losing: float = 0.0) -> None:
        self.slots = len(contexts)
        self._free = list(contexts)
        self._running: dict[str, tuple[TrialSpec, Context, Training]] = {}
        self._draw, self._losing = draw, losing
        self._late: list[tuple[str, Training]] = []
        self._losses = Counter[str]()
        self._stop = False
        self.trained = Counter[tuple[str, int]]()
        self.lost = 0

    def submit(self, token: str, spec: TrialSpec) -> None:
        context = self._free.pop()
        self._running[token] = spec, context, train(spec, context, lambda: self._stop)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        if self._late and self._draw.random() < 0.5:
            token, training = self._late.pop()
            late = next(training, None)
            if late is not None:
                yield Epoch(token, late)
                return
        token = list(self._running)[int(self._draw.integers(len(self._running)))]
        spec, context, training = self._running[token]
        if self._draw.random() < self._losing and self._losses[spec.configuration] < MOST_LOSSES:
            self._losses[spec.configuration] += 1
            self.lost += 1
            self._give_back(token)
            yield WorkerLost(token)
            return
        try:
            done = next(training)
        except StopIteration as end:
            self._give_back(token)
            yield Ended(token, end.value)
            return
        self.trained[spec.configuration, done.row.epoch] += 1
        yield Epoch(token, done)

    def _give_back(self, token: str) -> None:
        self._free.append(self._running.pop(token)[1])

    def stop(self) -> None:
        self._stop = True

    def close(self) -> None:
        self._running.clear()


Executed = Callable[[Context, Callable[[], bool]], Slots]
