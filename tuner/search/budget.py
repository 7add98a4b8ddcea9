"""`search.time_budget`: which trials there is time for, and what time is kept back for what follows them.

A trial of the search begins only when all that it commits to is expected to end in time: itself, the later rungs of
every bracket that was begun (of its own with one more trial in this rung), and the confirmation of its configuration or
of the one that leads, whichever is dearer. So a bracket that the time does not do for becomes a narrower one and
still comes to its end. The baseline, and the confirmation of what the search found, are trained whatever they take. A
trial of a kind that was never measured begins if it alone fits as far as anything tells: its epochs say what others
take.

The clock is asked once for each trial: who is left out is recorded, and from then on what runs next follows from what
is recorded alone, on any machine, until the budget is made larger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tuner.search import schedule
from tuner.search.costs import FROZEN, CostModel, Left, Place, epochs_left, unknown_sides
from tuner.search.facts import Facts, Outcome
from tuner.search.plan import Plan, Trial
from tuner.spec.values import seconds_of
from tuner.store import ids
from tuner.store.store import Bracket, Store


@dataclass
class Budget:
    """A study's budget as one of its sessions sees it. `text`: as study.toml has it. `spent`: the seconds of all epochs
    that earlier sessions recorded. Of this session all of the time counts that has passed on `clock` since `began`:
    imports, images and features too.
    """

    text: str = "none"
    spent: float = 0.0
    began: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    def left(self) -> float:
        """Seconds, infinite without a budget."""
        return seconds_of(self.text) - self.spent - (self.clock() - self.began)


def grew(store: Store, text: str) -> bool:
    """Whether there is more time now than when trials were left out: all of them are taken up again."""
    before, trials = store.out_of_time()
    return bool(trials) and seconds_of(text) > seconds_of(before)


def too_late(
    plan: Plan, facts: Facts, model: CostModel, ready: Sequence[Trial], *, free: int, left: float, slots: int = 1
) -> list[tuple[Trial, float]]:
    """Of the `ready` trials that would begin on `free` slots, those for which `left` seconds are not enough, with the
    seconds that each would take with all that it commits to.
    """
    found = list[tuple[Trial, float]]()
    if left == math.inf:
        return found
    ahead = _Ahead(plan, facts, model, slots, left)
    for trial in ready:
        if not free:
            break
        if trial.kind == "search" and not trial.repairs and (takes := ahead.takes(trial)) > left:
            found.append((trial, takes))
        else:
            free -= 1
            ahead.begins(trial)
    return found


def foreseen(plan: Plan, facts: Facts, model: CostModel, left: float) -> Facts:
    """The facts with those left out whom a search by one worker is expected to leave out. Who is promoted nobody knows:
    it is played with those drawn first.
    """
    played = replace(facts, outcomes={**facts.outcomes}, ids={**facts.ids}, out_of_time={**facts.out_of_time})
    while left < math.inf:
        ready = [t for t in schedule.ready(plan, played) if t.confirms is None]
        if late := too_late(plan, played, model, ready, free=1, left=left):
            played.out_of_time |= {t.configuration: t.rung or 0 for t, _ in late}
            continue
        if not ready:
            break
        trial = ready[0]
        left -= _seconds(model, _own(model, trial, facts))
        played.ids[trial.key] = ""
        played.outcomes[trial.key] = Outcome("COMPLETED", trial.last_epoch, None, None, (math.inf,))
    return replace(facts, out_of_time=played.out_of_time)


@dataclass
class _Standing:
    """A bracket's highest rung that is determined: where its configurations train, and which of them were begun."""

    rung: int
    places: tuple[Place, ...]
    begun: set[str]


@dataclass
class _Ahead:
    """What lies ahead in a search as it stands."""

    plan: Plan
    facts: Facts
    model: CostModel
    slots: int
    left: float
    _standings: dict[Bracket, _Standing] = field(default_factory=dict)
    _confirming: dict[Place, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for bracket in self.plan.brackets:
            *_, (rung, members) = enumerate(schedule.rungs(self.plan, self.facts, bracket))
            names = {ids.searched(draw.number) for draw in members}
            places = tuple(self.model.place(draw.values) for draw in members)
            begun = {name for name in names if (name, rung) in self.facts.ids}
            self._standings[bracket] = _Standing(rung, places, begun)
        self._leader = self._likely_winner()

    def takes(self, trial: Trial) -> float:
        """Seconds until everything has ended that this trial commits to, if it begins now; the trial's own, as far as
        anything tells, while such an epoch was not measured.
        """
        place, own = self.model.place(trial.values), _seconds(self.model, _own(self.model, trial, self.facts))
        if not self.model.knows(place):
            return own
        rest = sum(self._rest(bracket, trial) for bracket in self.plan.brackets)
        confirming = max(self._confirmation(at) for at in (place, *self._leader))
        return own + (rest + confirming) / self.slots

    def begins(self, trial: Trial) -> None:
        """Takes a trial for begun."""
        for bracket in self.plan.brackets:
            if _is_of(trial, bracket):
                self._standings[bracket].begun.add(trial.configuration)

    def _likely_winner(self) -> list[Place]:
        """Where the one trains that leads, of those that can still be trained to the end and confirmed in time."""
        for _, trial in schedule.leaders(self.plan, self.facts, "search"):
            place, name = self.model.place(trial.values), trial.configuration
            epochs = self.plan.max_epochs - self.facts.rungs(name)[-1].last_epoch
            further = 0 if self.facts.out_of_patience(name) else epochs
            way = _seconds(self.model, Left("search", 1, further, (place,)))
            if not epochs or (name not in self.facts.out_of_time and way + self._confirmation(place) <= self.left):
                return [place]
        return []

    def _rest(self, bracket: Bracket, trial: Trial) -> float:
        """Seconds of the rungs above the one that a bracket has come to, when nobody begins in it any more but `trial`:
        of any of those that are in it.
        """
        standing = self._standings[bracket]
        begun = len(standing.begun | ({trial.configuration} if _is_of(trial, bracket) else set()))
        seconds = 0.0
        for rung in range(standing.rung + 1, len(bracket.sizes)) if begun else ():
            begun = schedule.promoted_of(bracket, rung - 1, begun)
            epochs = begun * (bracket.epochs[rung] - bracket.epochs[rung - 1])
            seconds += _seconds(self.model, Left("search", begun, epochs, standing.places))
        return seconds

    def _confirmation(self, place: Place) -> float:
        """Seconds of the confirmation when a configuration at this place wins."""
        if self.plan.confirm is None:
            return 0.0
        if place not in self._confirming:
            parts = unknown_sides(self.plan, self.model, self.plan.confirm, {place: 1.0})
            self._confirming[place] = sum(_seconds(self.model, part) for part in parts)
        return self._confirming[place]


def _is_of(trial: Trial, bracket: Bracket) -> bool:
    return (trial.iteration, trial.bracket) == (bracket.iteration, bracket.bracket)


def _own(model: CostModel, trial: Trial, facts: Facts) -> Left:
    """What is left of one trial."""
    if trial.kind == "logistic":
        return Left("search", 0, 0, (FROZEN,), logistic=model.fits(trial.values))
    return Left("search", 1, epochs_left([trial], facts), (model.place(trial.values),))


def _seconds(model: CostModel, left: Left) -> float:
    """0 while nothing tells."""
    return model.seconds(left) or 0.0
