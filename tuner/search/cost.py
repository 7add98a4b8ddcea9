"""What a trial costs, from the multiply-adds of its cut and from what trials have taken so far. For the time left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tuner.backbone import cuts
from tuner.search.events import PlannedBracket
from tuner.study.store import Store

HEAD_MULTIPLY_ADDS = 2_000_000  # a head-only image costs about this much, kernel launches included
Place = tuple[str, int]
"""The stored cut a network begins at, and its canonical depth."""


@dataclass
class CostModel:
    """Seconds an epoch takes by place: measured where it was, else its multiply-adds over the machine's rate.

    `rate` is multiply-adds a second measured on the feature pass, None when the features were all stored: then nothing
    is said about convolutions before one was trained.
    """

    image_size: int
    train_images: int
    validation_images: int
    batch_norm: str
    rate: float | None = None
    _measured: dict[Place, list[float]] = field(default_factory=dict)

    def work(self, place: Place) -> float:
        """Multiply-adds of one epoch."""
        train, validation = cuts.step_cost(*place, self.image_size, self.batch_norm)
        return self.train_images * (train + HEAD_MULTIPLY_ADDS) + self.validation_images * (
            validation + HEAD_MULTIPLY_ADDS
        )

    def observe(self, place: Place, seconds: Iterable[float]) -> None:
        """Seconds of finished epochs, none of a trial that failed in its first one; the first one, which may hold a
        trace, is counted as what it was.
        """
        if times := list(seconds):
            self._measured.setdefault(place, []).extend(times)

    def epoch(self, place: Place) -> float | None:
        """Seconds of one more epoch there, None while nothing tells."""
        if here := self._measured.get(place):
            return sum(here) / len(here)
        if place[0] == "pooled":
            return None
        known = [(self.work(p) * len(times), sum(times)) for p, times in self._measured.items() if p[0] != "pooled"]
        if known:
            return self.work(place) * sum(s for _, s in known) / sum(w for w, _ in known)
        return self.work(place) / self.rate if self.rate else None

    def average(self, places: Sequence[Place]) -> float | None:
        """Mean seconds of an epoch over configurations drawn evenly from `places`."""
        each = [self.epoch(place) for place in places]
        known = [e for e in each if e is not None]
        return sum(known) / len(known) if known and len(known) == len(each) else None


def seconds_left(
    store: Store,
    model: CostModel,
    plan: Sequence[PlannedBracket],
    frozen: int,
    max_epochs: int,
    places: Sequence[Place],
) -> float | None:
    """Epochs not yet trained times what an epoch costs; a configuration not yet drawn counts as the space's average.

    `frozen`: trials of the baseline and the reference. None while some cost is unknown.
    """
    done = {
        (r["iteration"], r["bracket"], r["rung"]): r["n"]
        for r in store.rows(
            "SELECT iteration, bracket, rung, COUNT(*) AS n FROM trials WHERE status <> 'RUNNING' GROUP BY 1, 2, 3"
        )
    }
    head = model.epoch(("pooled", 0))
    left: float = max(0, frozen - done.get((None, None, None), 0)) * max_epochs * (head or 0.0)
    epochs = 0
    for b in plan:
        for rung, size in enumerate(b.sizes):
            each = b.epochs[rung] - (b.epochs[rung - 1] if rung else 0)
            epochs += max(0, size - done.get((b.iteration, b.bracket, rung), 0)) * each
    average = model.average(places)
    if (epochs and average is None) or head is None:
        return None
    return left + epochs * (average or 0.0)
