"""What training costs, and what is left to train: one model for `tlstudy plan` and for the display's time left.

`outstanding` counts the epochs that nobody has trained yet, by the place they may be trained at; a `CostModel` says
what those take, from epochs that were trained here, or that a probe measured. Plain arithmetic, no Keras.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tuner.backbones.architecture import Architecture
from tuner.features import sets
from tuner.images.views import POLICIES, numbers
from tuner.search import schedule
from tuner.search.facts import Facts
from tuner.search.plan import Plan, Trial
from tuner.spec.configuration import Configuration
from tuner.spec.spec import ConfirmSpec
from tuner.store import ids
from tuner.store.store import Bracket, Confirmation, Side

HEAD_MULTIPLY_ADDS = 2_000_000  # a head-only image costs about this much, kernel launches included
SEEDS, MANY_SEEDS = 5, 10
CHEAP = 3e12
"""Multiply-adds of ten seeds of both sides, up to which ten are trained: about a minute on two cores. Not measured
seconds, because a study that is resumed has to come to the same number.
"""

Place = tuple[str, int]
"""The stored cut a network begins at, and its canonical depth."""
FROZEN: Place = ("pooled", 0)


@dataclass(frozen=True)
class Left:
    """Trials that have not ended, and the epochs still to train in them: at any of `places`, each as likely."""

    phase: str  # "baseline", "search" or "confirm"
    trials: float
    epochs: float
    places: tuple[Place, ...]
    saved: float = 0.0  # how often trained weights are written; a state that goes on is four: two slots, the best epoch
    logistic: int = 0  # fits of logistic regression besides, see `CostModel.fits`


@dataclass
class CostModel:
    """Seconds an epoch takes by place: measured where it was, else by its multiply-adds between those measured. What
    the first one at a place held besides, such as the network's trace, does not count once another is known.

    `rate` is multiply-adds a second measured on the feature pass, None when the features were all stored: then nothing
    is said about convolutions before one was trained. `per_trial`, `per_fit` (of logistic regression), `per_byte` of
    a checkpoint and `per_loaded_byte` of a trial's beginning are seconds beside the epochs, `bytes` by place those
    of the trained weights: 0 while nobody measured them. A mirror image that is predicted too counts as one more of the
    validation or test images.
    """

    architecture: Architecture
    batch_norm: str
    stored: Collection[str]  # cuts whose features are, or will be, stored
    train_images: int
    validation_images: int
    test_images: int = 0
    rate: float | None = None
    views: Collection[str] = ()  # cuts whose features of drawn views are, or will be, stored
    drawn: int = 0  # views of each image, where an augmentation draws some
    per_trial: float = 0.0
    per_fit: float = 0.0
    per_byte: float = 0.0
    per_loaded_byte: float = 0.0
    bytes: Mapping[Place, int] = field(default_factory=dict)
    _measured: dict[Place, list[float]] = field(default_factory=dict)

    def cut(self, values: Configuration) -> str:
        """The cut just below the first variable that a configuration trains."""
        return self.architecture.cut_for(values.unfrozen_layers, self.batch_norm)

    def place(self, values: Configuration) -> Place:
        """Where a configuration trains."""
        depth = self.architecture.canonical(values.unfrozen_layers, self.batch_norm)
        stored = self.views if values.augmentation in POLICIES else self.stored
        return self.architecture.nearest(self.cut(values), stored), depth

    def work(self, place: Place) -> float:
        """Multiply-adds of one epoch."""
        train, validation = self.architecture.step_macs(*place, self.batch_norm)
        return self.train_images * (train + HEAD_MULTIPLY_ADDS) + self.validation_images * (
            validation + HEAD_MULTIPLY_ADDS
        )

    def observe(self, place: Place, seconds: Iterable[float]) -> None:
        """Seconds of finished epochs, in their order; none of a trial that failed in its first one."""
        if times := list(seconds):
            self._measured.setdefault(place, []).extend(times)

    def epoch(self, place: Place) -> float | None:
        """Seconds of one more epoch there, None while nothing tells."""
        here = self._measured.get(place, [])
        if len(here) > 1 or (here and place[0] == "pooled"):
            return usual(here)
        if place[0] == "pooled":
            return None
        others = {p: t for p, t in self._measured.items() if p[0] != "pooled"}
        others = {p: t for p, t in others.items() if len(t) > 1} or others
        if others:
            foretold = between(self.work(place), sorted((self.work(p), usual(t)) for p, t in others.items()))
            return min([foretold, *here])
        return self.work(place) / self.rate if self.rate else None

    def knows(self, place: Place) -> bool:
        """Whether what it says of an epoch there rests on more than a first one with all that it held besides."""
        return any(len(t) > 1 for p, t in self._measured.items() if (p[0] == "pooled") == (place[0] == "pooled"))

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

    def fits(self, values: Configuration) -> int:
        """How many fits to the pooled features of the images a logistic regression takes: one for each set of cuts and
        view.
        """
        images = self.train_images + self.validation_images + self.test_images
        seen = sets.views(numbers(values.augmentation, self.drawn), images, several=bool(values.cuts))
        return len(seen) * (sets.SETS if values.cuts else 1)

    def seeds(self, asked: int | str, work: float) -> int:
        """How many fresh seeds: as asked, else 5, or 10 where both sides are cheap; `work`: multiply-adds of one of
        each.
        """
        return asked if isinstance(asked, int) else MANY_SEEDS if MANY_SEEDS * work <= CHEAP else SEEDS


def usual(seconds: Sequence[float]) -> float:
    """What an epoch takes when nothing comes between: the lower quartile of all but the first; of a single one itself.
    A network is traced in a first epoch, and which further head is a new one is not known here.
    """
    rest = sorted(seconds[1:]) or seconds
    return rest[(len(rest) - 1) // 4]


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


def winners(plan: Plan, model: CostModel) -> dict[Place, float]:
    """Where those train that may win, with the share of each in the configurations that reach the last epoch."""
    found: dict[Place, float] = {}
    whole = sum(b.sizes[-1] for b in plan.brackets)
    for bracket in plan.brackets:
        here = plan.drawn(bracket)
        for draw in here:
            place = model.place(draw.values)
            found[place] = found.get(place, 0.0) + bracket.sizes[-1] / whole / len(here)
    return found


def outstanding(plan: Plan, facts: Facts, model: CostModel) -> list[Left]:
    """Everything that has not been trained yet, in the order it will be."""
    waiting = [t for t in plan.baseline if t.key not in facts.outcomes]
    heads = [t for t in waiting if t.kind != "logistic"]
    fits = sum(model.fits(t.values) for t in waiting if t.kind == "logistic")
    left = [Left("baseline", len(heads), epochs_left(heads, facts), (FROZEN,), logistic=fits)]
    for bracket in plan.brackets:
        left += _bracket(plan, facts, model, bracket)
    left = [part for part in left if part.trials or part.logistic]
    nobody = all(facts.out_of_time.get(ids.searched(draw.number)) == 0 for draw in plan.draws)
    if plan.confirm is None or nobody:
        return left
    if left:
        return left + unknown_sides(plan, model, plan.confirm, winners(plan, model))
    if (known := planned(plan, facts, model)) is None:
        return []
    return _fixed(plan, facts, model, known)


def epochs_left(trials: Sequence[Trial], facts: Facts) -> int:
    """Epochs still to train at most in trials that have not ended: what a resume keeps of running ones is done, and one
    that is promoted when its patience has run out has none.
    """
    left = 0
    for trial in trials:
        if trial.rung and facts.out_of_patience(trial.configuration):
            continue
        saved = facts.checkpoints.get((trial.configuration, "last"))
        done = max(trial.first_epoch, saved.epoch if saved is not None and trial.key in facts.ids else 0)
        left += max(0, trial.last_epoch - done)
    return left


def _bracket(plan: Plan, facts: Facts, model: CostModel, bracket: Bracket) -> list[Left]:
    left, known = [], list(schedule.rungs(plan, facts, bracket))
    ended = schedule.ended_in(plan, facts, bracket)
    for rung, planned in enumerate(schedule.sizes(plan, facts, bracket)):
        # Of a rung that is determined it is known who trains in it; of one above, any of those below may.
        here = known[rung] if rung < len(known) else known[-1]
        size = len(here) if rung < len(known) else min(planned, len(here))
        rest = [d for d in here if (ids.searched(d.number), rung) not in facts.outcomes]
        places = tuple(model.place(d.values) for d in rest or here)
        each = bracket.epochs[rung] - (bracket.epochs[rung - 1] if rung else 0)
        if rung < len(known):
            epochs = epochs_left(schedule.waiting_in(plan, facts, bracket), facts) if rung == len(known) - 1 else 0
        else:
            epochs = size * each
        following = bracket.sizes[rung + 1] if rung + 1 < len(bracket.sizes) else 0
        # A state is written while it is among those that can go on, the last rung's best when it leads.
        saved = sum(min(1.0, max(1, following) / (i + 1)) for i in range(ended[rung], size)) * (4 if following else 1)
        left.append(Left("search", size - ended[rung], epochs, places, saved))
    return left


def planned(plan: Plan, facts: Facts, model: CostModel) -> Confirmation | None:
    """Sides and number of seeds of a search that has ended: as asked, else 5, or 10 where all sides are cheap; None
    while nothing can be confirmed. Seeds are only ever added to those that were asked for before.
    """
    sides = schedule.sides(plan, facts)
    if sides is None or plan.confirm is None:
        return None
    before, asked, epochs = facts.confirmation, plan.confirm.seeds, "chosen"
    if before is not None:
        epochs = before.epochs
        if before.sides[:2] == sides[:2]:
            # What "auto" came to is fixed once, however work is counted by then.
            return Confirmation(before.seeds if asked == "auto" else max(int(asked), before.seeds), sides, epochs)
    return Confirmation(model.seeds(asked, sum(_work(model, side) for side in sides)), sides, epochs)


def _work(model: CostModel, side: Side) -> float:
    values = Configuration.from_dict(side.hyperparameters)
    return 0.0 if side.kind == "logistic" else side.epochs * model.work(model.place(values))


def unknown_sides(plan: Plan, model: CostModel, asked: ConfirmSpec, places: Mapping[Place, float]) -> list[Left]:
    """Fresh seeds and folds of all sides when each of `places` may win, with its share; trained for all epochs. Of the
    baselines one is a head and one a regression; beside a frozen winner any of the others is trained too.
    """
    epochs, left = plan.max_epochs, list[Left]()
    folds, others = sum(plan.folds), [at for at in winners(plan, model) if at[1]]
    for place, share in places.items():
        sides = [(place, share * folds, share), (FROZEN, share * folds, share)]
        sides += [(at, 0.0, share / len(others)) for at in others if not place[1]]
        work = epochs * (model.work(place) + model.work(FROZEN))
        work += epochs * sum(model.work(at) / len(others) for at in others if not place[1])
        seeds = model.seeds(asked.seeds, work)
        for at, more, part in sides:
            trials, further = seeds * part + more, seeds * part * _looks(model)
            left.append(Left("confirm", trials, trials * epochs + further, (at,), trials))
    return left


def _looks(model: CostModel) -> float:
    """Predicting the test images once, in epochs: a training step costs about three predictions."""
    return model.test_images / max(1, 3 * model.train_images + model.validation_images)


def _fixed(plan: Plan, facts: Facts, model: CostModel, known: Confirmation) -> list[Left]:
    """What is left of a confirmation, by the place it trains at."""
    facts = replace(facts, confirmation=known)
    waiting = schedule.confirming(plan, facts)
    fits = sum(model.fits(t.values) for t in waiting if t.values.learning_rate is None)
    found = [Left("confirm", 0, 0, (FROZEN,), logistic=fits)]
    for side in known.sides:
        mine = [t for t in waiting if t.confirms and t.confirms.source == side.source and side.kind != "logistic"]
        looks = sum(t.kind == "seed" for t in mine) * _looks(model)
        place = model.place(Configuration.from_dict(side.hyperparameters))
        found.append(Left("confirm", len(mine), epochs_left(mine, facts) + looks, (place,), len(mine)))
    return [part for part in found if part.trials or part.logistic]


def seconds_left(plan: Plan, facts: Facts, model: CostModel) -> float | None:
    """Seconds of all that is left, 0 when nothing is; None while some cost is unknown."""
    each = [model.seconds(part) for part in outstanding(plan, facts, model)]
    known = [seconds for seconds in each if seconds is not None]
    return float(sum(known)) if len(known) == len(each) else None
