"""Plans whose trials cost nothing: outcomes are numbers drawn by name, so that only the schedule is at work."""

from __future__ import annotations

from collections.abc import Callable

from tuner.search import draws, schedule
from tuner.search.facts import Facts
from tuner.search.plan import Plan, Trial
from tuner.search.space import Space
from tuner.spec.configuration import Configuration
from tuner.spec.seeds import generator
from tuner.spec.spec import ConfirmSpec
from tuner.store.ranking import Rule
from tuner.store.store import Draw, EpochRow, Saved

BEST = Rule()
PAIRS = [(9, 3), (27, 3), (1, 3), (2, 2), (10, 4), (3, 3), (8, 2), (81, 3)]


class Endless(Space):
    """A space of which only the size is asked."""

    size = None  # type: ignore[assignment]


def planning(
    max_epochs: int = 9, factor: int = 3, iterations: int = 1, confirm: ConfirmSpec | None = None, rule: Rule = BEST
) -> Plan:
    """A plan whose configurations are told apart by their learning rate."""
    brackets = draws.brackets(Endless({}, ()), max_epochs=max_epochs, factor=factor, iterations=iterations)
    drawn: list[Draw] = []
    for b in brackets:
        for _ in range(b.sizes[0]):
            values = Configuration(learning_rate=1e-3 * (1 + len(drawn)))
            drawn.append(Draw(len(drawn), b.iteration, b.bracket, values, 0))
    frozen = tuple(Configuration(learning_rate=1e-3, head_width=8 * i) for i in range(3))
    return Plan(brackets, tuple(drawn), frozen, rule, max_epochs, confirm)


def outcome(trial: Trial, epoch: int, salt: int = 0, ties: int = 1000) -> EpochRow:
    """An epoch's metrics, by configuration and epoch; `ties`: how many values a loss has."""
    loss = float(generator(salt, trial.configuration, epoch).integers(ties)) / ties
    return EpochRow(epoch, loss, 0.5, loss, 0.5, 0.1, 9)


def end(plan: Plan, facts: Facts, trial: Trial, failed: bool = False, salt: int = 0, ties: int = 1000) -> None:
    """Takes a trial for trained: its epochs, its files, its end."""
    for epoch in range(trial.first_epoch + 1, trial.last_epoch + 1):
        facts.add_epoch(trial.configuration, outcome(trial, epoch, salt, ties))
    for role in ("last", "best"):
        facts.checkpoints[trial.configuration, role] = Saved(role, trial.last_epoch, "", 0, "")
    facts.ids[trial.key] = trial.row().id
    facts.conclude(trial.key, "FAILED" if failed else "COMPLETED", trial.last_epoch, "made to fail" if failed else None)


def played(
    plan: Plan, fails: Callable[[Trial], bool] = lambda trial: False, salt: int = 0, ties: int = 1000
) -> list[Trial]:
    """The trials of one worker, in the order they end."""
    facts, found = Facts(plan.rule), list[Trial]()
    while ready := schedule.ready(plan, facts):
        found.append(ready[0])
        end(plan, facts, ready[0], fails(ready[0]), salt, ties)
    return found
