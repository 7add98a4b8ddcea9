"""What training costs, and what is left to train: one model for `tlstudy plan` and for the display's time left.

`outstanding` counts the epochs that nobody has trained yet, by the place they may be trained at; a `CostModel` says
what those take, from epochs that were trained here, or that a probe measured. Plain arithmetic, no Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.backbones import cuts
from tuner.search.events import PlannedBracket
from tuner.spec.spec import ConfirmSpec
from tuner.store.store import Store

HEAD_MULTIPLY_ADDS = 2_000_000  # a head-only image costs about this much, kernel launches included
SEEDS, MANY_SEEDS = 5, 10
CHEAP = 3e12
"""Multiply-adds of ten seeds of both sides, up to which ten are trained: about a minute on two cores. Not measured
seconds, because a study that is resumed has to come to the same number.
"""

Place = tuple[str, int]
"""The stored cut a network begins at, and its canonical depth."""
Slot = tuple[int | None, int | None, int | None]
"""Iteration, bracket and rung; three times None for what Hyperband does not ask for."""
FROZEN: Place = ("pooled", 0)


@dataclass(frozen=True)
class Left:
    """Trials that have not ended, and the epochs still to train in them: at any of `places`, each as likely."""

    phase: str  # "baseline", "search" or "confirm"
    trials: float
    epochs: float
    places: tuple[Place, ...]
    saved: float = 0.0  # how often trained weights are written; a state that goes on is four: two slots, the best epoch
    logistic: int = 0  # further trials that are fits of logistic regression


@dataclass
class CostModel:
    """Seconds an epoch takes by place: measured where it was, else by its multiply-adds between those measured.

    `rate` is multiply-adds a second measured on the feature pass, None when the features were all stored: then nothing
    is said about convolutions before one was trained. `per_trial`, `per_fit` (of logistic regression), `per_byte` of
    a checkpoint and `per_loaded_byte` of a trial's beginning are seconds beside the epochs, `bytes` by place those
    of the trained weights: 0 while nobody measured them.
    """

    image_size: int
    train_images: int
    validation_images: int
    batch_norm: str
    rate: float | None = None
    per_trial: float = 0.0
    per_fit: float = 0.0
    per_byte: float = 0.0
    per_loaded_byte: float = 0.0
    bytes: Mapping[Place, int] = field(default_factory=dict)
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
        known = sorted((self.work(p), sum(t) / len(t)) for p, t in self._measured.items() if p[0] != "pooled")
        if known:
            return between(self.work(place), known)
        return self.work(place) / self.rate if self.rate else None

    def average(self, places: Sequence[Place]) -> float | None:
        """Mean seconds of an epoch over configurations drawn evenly from `places`."""
        each = [self.epoch(place) for place in places]
        known = [e for e in each if e is not None]
        return sum(known) / len(known) if known and len(known) == len(each) else None

    def seconds(self, left: Left) -> float | None:
        """What is left takes; None while some cost is unknown."""
        epoch = self.average(left.places)
        if epoch is None and left.epochs:
            return None
        state = sum(self.bytes.get(place, 0) for place in left.places) / max(1, len(left.places))
        each = self.per_trial + state * self.per_loaded_byte
        beside = left.trials * each + left.logistic * self.per_fit + left.saved * state * self.per_byte
        return left.epochs * (epoch or 0.0) + beside

    def seeds(self, asked: int | str, work: float) -> int:
        """How many fresh seeds: as asked, else 5, or 10 where both sides are cheap; `work`: multiply-adds of one of
        each.
        """
        return asked if isinstance(asked, int) else MANY_SEEDS if MANY_SEEDS * work <= CHEAP else SEEDS


def between(at: float, known: Sequence[tuple[float, float]]) -> float:
    """The value at `at` on the line through the two known points around it; beyond the ends, in proportion to the
    nearest. `known`: at least one (at, value), ascending, none at 0.
    """
    for (low, first), (high, second) in zip(known, known[1:], strict=False):
        if low <= at <= high and high > low:
            return first + (second - first) * (at - low) / (high - low)
    end, value = known[0] if at < known[0][0] else known[-1]
    return value * at / end


# ---- what is left ----


@dataclass(frozen=True)
class Outline:
    """What a study is going to train. `drawn`: the places of a bracket's configurations in the order they are drawn,
    as far as that is known; any other one may be at each of `places`.
    """

    plan: tuple[PlannedBracket, ...]
    frozen: int  # configurations of the baseline, the reference not counted
    max_epochs: int
    places: tuple[Place, ...]
    place: Callable[[Mapping[str, int | float]], Place]
    confirm: ConfirmSpec | None  # None: winner and baseline are not trained again
    drawn: Mapping[tuple[int, int], tuple[Place, ...]] = field(default_factory=dict)
    test: int = 0  # photographs that every fresh seed is asked about at the end

    def of(self, bracket: PlannedBracket) -> tuple[Place, ...]:
        """Where this bracket's configurations train."""
        return self.drawn.get((bracket.iteration, bracket.bracket)) or self.places

    def winners(self) -> dict[Place, float]:
        """Where those train that may win, with the share of each in the configurations that reach the last epoch."""
        found: dict[Place, float] = {}
        whole = sum(b.sizes[-1] for b in self.plan)
        for bracket in self.plan:
            here = self.of(bracket)
            for place in here:
                found[place] = found.get(place, 0.0) + bracket.sizes[-1] / whole / len(here)
        return found


@dataclass(frozen=True)
class _Done:
    """Of one slot: trials that ended, those that did not fail, and epochs of running ones that a resume keeps."""

    ended: int = 0
    completed: int = 0
    kept: int = 0


def outstanding(
    outline: Outline, model: CostModel, store: Store, fixed: Callable[[], Mapping[str, Any] | None]
) -> list[Left]:
    """Everything that has not been trained yet, in the order it will be. `fixed` tells seeds and sides of the
    confirmation; it is asked when the search has ended.
    """
    done = _ended(store)
    frozen = done.get(("frozen", None, None, None), _Done())
    logistic = done.get(("logistic", None, None, None), _Done())
    rest = max(0, outline.frozen + 1 - frozen.ended)
    epochs = max(0, rest * outline.max_epochs - frozen.kept)
    left = [Left("baseline", rest, epochs, (FROZEN,), logistic=1 - min(1, logistic.ended))]
    for bracket in outline.plan:
        left += _bracket(outline, bracket, done)
    left = [part for part in left if part.trials or part.logistic]
    if outline.confirm is None or not outline.plan:
        return left
    if left:
        return left + unknown_sides(outline, model, outline.confirm, outline.winners())
    sides = [(side, int(known["seeds"])) for side in known["sides"]] if (known := fixed()) else []
    left = [_side(outline, model, outline.confirm, store, *side) for side in sides]
    return [part for part in left if part.trials or part.logistic]


def _ended(store: Store) -> dict[tuple[str, int | None, int | None, int | None], _Done]:
    """By kind ("frozen": baseline and reference) and slot."""
    query = (
        "SELECT CASE WHEN kind IN ('baseline', 'reference') THEN 'frozen' ELSE kind END AS sort, iteration, bracket, "
        "rung, SUM(status <> 'RUNNING') AS ended, SUM(status = 'COMPLETED') AS completed, "
        "SUM(CASE WHEN status = 'RUNNING' THEN MAX(0, COALESCE((SELECT epoch FROM checkpoints p WHERE p.configuration "
        "= t.configuration AND role = 'last'), 0) - first_epoch) ELSE 0 END) AS kept "
        "FROM trials t JOIN configurations c ON c.id = t.configuration GROUP BY 1, 2, 3, 4"
    )
    return {
        (r["sort"], r["iteration"], r["bracket"], r["rung"]): _Done(r["ended"], r["completed"], r["kept"])
        for r in store.rows(query)
    }


def _bracket(
    outline: Outline, bracket: PlannedBracket, done: Mapping[tuple[str, int | None, int | None, int | None], _Done]
) -> list[Left]:
    left, places, below = [], outline.of(bracket), _Done()
    for rung, planned in enumerate(bracket.sizes):
        here = done.get(("search", bracket.iteration, bracket.bracket, rung), _Done())
        size = planned
        if rung and below.ended >= bracket.sizes[rung - 1]:
            size = min(planned, below.completed)  # a rung takes no more than survived the one below
        each = bracket.epochs[rung] - (bracket.epochs[rung - 1] if rung else 0)
        rest = max(0, size - here.ended)
        # In the first rung it is known which are the rest; of those above any may be promoted.
        which = places[here.ended :] if rung == 0 and len(places) == planned else places
        following = bracket.sizes[rung + 1] if rung + 1 < len(bracket.sizes) else 0
        # A state is written while it is among those that can go on, the last rung's best when it leads.
        saved = sum(min(1.0, max(1, following) / (i + 1)) for i in range(here.ended, size)) * (4 if following else 1)
        left.append(Left("search", rest, max(0, rest * each - here.kept), which or places, saved))
        below = here
    return left


def unknown_sides(outline: Outline, model: CostModel, asked: ConfirmSpec, winners: Mapping[Place, float]) -> list[Left]:
    """Fresh seeds and folds of both sides when each of `winners` may win, with its share; trained for all epochs."""
    epochs, left = outline.max_epochs, list[Left]()
    folds = asked.folds * asked.repeats if asked.folds else 0
    for place, share in winners.items():
        seeds = model.seeds(asked.seeds, epochs * (model.work(place) + model.work(FROZEN)))
        trials = (seeds + folds) * share
        further = seeds * share * _looks(outline, model)
        left += [Left("confirm", trials, trials * epochs + further, (at,), trials) for at in (place, FROZEN)]
    return left


def _looks(outline: Outline, model: CostModel) -> float:
    """Predicting the test photographs once, in epochs: a training step costs about three predictions."""
    return outline.test / max(1, 3 * model.train_images + model.validation_images)


def _side(
    outline: Outline, model: CostModel, asked: ConfirmSpec, store: Store, side: Mapping[str, Any], seeds: int
) -> Left:
    """What is left of a side that is fixed: how often, at which place and for how many epochs."""
    query = (
        "SELECT SUM(fold < 0) AS seeds, SUM(fold >= 0) AS folds FROM confirmations s JOIN trials t "
        "ON t.configuration = s.configuration WHERE s.source = ? AND status <> 'RUNNING'"
    )
    ended = store.rows(query, side["source"])[0]
    folds = max(0, asked.folds * asked.repeats - int(ended["folds"] or 0)) if asked.folds else 0
    if side["kind"] == "logistic":
        return Left("confirm", 0, 0, (FROZEN,), logistic=folds)
    rest = max(0, seeds - int(ended["seeds"] or 0))
    epochs = rest * (side["epochs"] + _looks(outline, model)) + folds * outline.max_epochs
    return Left("confirm", rest + folds, epochs, (outline.place(side["hyperparameters"]),), rest + folds)


def seconds_left(
    outline: Outline, model: CostModel, store: Store, fixed: Callable[[], Mapping[str, Any] | None]
) -> float | None:
    """Seconds of all that is left, 0 when nothing is; None while some cost is unknown."""
    each = [model.seconds(part) for part in outstanding(outline, model, store, fixed)]
    known = [seconds for seconds in each if seconds is not None]
    return float(sum(known)) if len(known) == len(each) else None
