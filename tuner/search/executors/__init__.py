"""Where trials run: the seam between the driver and whatever trains.

An executor has four verbs and a number of slots. It trains what it is given and says what happened; it writes neither
the store nor the verdict. A trial is named by the attempt's token, so that a late message of a lost worker is known for
what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tuner.training.trial import EpochFinished, TrialResult, TrialSpec


@dataclass(frozen=True, eq=False)
class Epoch:
    """An epoch of a running attempt; its files are written. The next one may have begun."""

    token: str
    done: EpochFinished


@dataclass(frozen=True, eq=False)
class Ended:
    """An attempt that ended, well, failed or stopped on request."""

    token: str
    result: TrialResult


@dataclass(frozen=True)
class WorkerLost:
    """Whatever ran this attempt is gone; what it had saved is in the store."""

    token: str


Event = Epoch | Ended | WorkerLost


class Executor(Protocol):
    """Runs trials.

    slots: how many attempts run at once. submit: begins one; never more than `slots` are given. events: what happened
    since, in the order of each attempt, waiting up to `timeout` seconds (None: as long as it takes) for the first; each
    event is recorded before the next one is asked for. stop: every running attempt ends after its epoch, its state
    saved. close: nothing runs afterwards; files of attempts that did not end may lie about.
    """

    @property
    def slots(self) -> int: ...

    def submit(self, token: str, spec: TrialSpec) -> None: ...

    def events(self, timeout: float | None = None) -> Iterator[Event]: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...
