"""What may be trained next: pure functions of the plan and of what the store holds.

A promotion depends on a complete rung only, never on the order in which trials end, so one worker and forty give the
same table (synchronous successive halving; Li et al., JMLR 18, 2018). Failed trials rank last and their rung fills with
who is left. A rung that the time budget left some out of is complete when the others have ended, and fewer of them go
on; a promotion that was made stays, also when those left out are trained after all. Three stages follow one another:
the baseline and Hyperband's search may overlap, the confirmation begins when both have ended.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from tuner.evidence import stability
from tuner.search.facts import Facts, Outcome
from tuner.search.plan import Key, Plan, Trial
from tuner.spec.configuration import Configuration
from tuner.store import ids
from tuner.store.ranking import Key as Rank
from tuner.store.ranking import place
from tuner.store.store import Bracket, Confirmation, Confirms, Draw, Side
from tuner.training.subset import ALL, SPLIT, Subset

STAGES = ("baseline", "search", "confirm")

NEVER: Rank = (-math.inf,)
"""No rank is as good."""


def ready(plan: Plan, facts: Facts, running: Collection[Key] = ()) -> list[Trial]:
    """What may start now besides `running`, in the order in which one worker takes it: lost weights, the baseline, the
    first rungs of every bracket and the promotions of complete ones, then the confirmation.
    """
    found = [*repairs(plan, facts), *_waiting(plan.baseline, facts)]
    found += [trial for bracket in plan.brackets for trial in waiting_in(plan, facts, bracket)]
    if not found:
        found = confirming(plan, facts)
    return [trial for trial in found if trial.key not in running]


def stage(plan: Plan, facts: Facts) -> str | None:
    """The first of `STAGES` that has not ended, None when all have. A confirmation that is not fixed has not ended."""
    if repairs(plan, facts) or _waiting(plan.baseline, facts):
        return "baseline"
    if any(waiting_in(plan, facts, bracket) for bracket in plan.brackets):
        return "search"
    if plan.confirm is None or (now := sides(plan, facts)) is None:
        return None
    fixed, asked = facts.confirmation, plan.confirm.seeds
    if fixed is None or fixed.sides != now or (isinstance(asked, int) and asked > fixed.seeds):
        return "confirm"
    return "confirm" if confirming(plan, facts) or unpredicted(plan, facts) else None


def unfinished(plan: Plan, facts: Facts) -> int:
    """Trials of baseline and search that have not ended; of a rung that is not determined yet, as many as planned."""
    left = len(_waiting(plan.baseline, facts))
    for bracket in plan.brackets:
        left += sum(sizes(plan, facts, bracket)) - sum(ended_in(plan, facts, bracket))
    return left


# ---- Hyperband ----


def rungs(plan: Plan, facts: Facts, bracket: Bracket) -> Iterator[list[Draw]]:
    """The configurations of each rung, best of the rung below first, as far up as complete rungs determine them; those
    that are left out not among them.
    """
    members, narrower = _in_time(plan.drawn(bracket), facts, 0)
    for rung, size in enumerate((*bracket.sizes[1:], 0)):
        yield members
        ended = [facts.outcomes.get((ids.searched(d.number), rung)) for d in members]
        if any(outcome is None for outcome in ended):
            return
        if rung + 1 < len(bracket.sizes):
            wanted = promoted_of(bracket, rung, len(members)) if narrower else size
            order = sorted((o.rank, i) for i, o in enumerate(ended) if o is not None and o.status == "COMPLETED")
            ranked = [members[i] for _, i in order]
            best = {draw.number for draw in ranked[:size]}  # the states of others are not kept
            ranked, cut = _in_time(ranked, facts, rung + 1)
            going = {draw.number for draw in ranked if (ids.searched(draw.number), rung + 1) in facts.ids}
            others = [draw.number for draw in ranked if draw.number in best - going]
            going |= {*others[: max(0, wanted - len(going))]}
            members, narrower = [draw for draw in ranked if draw.number in going], narrower or cut


def _in_time(draws: Sequence[Draw], facts: Facts, rung: int) -> tuple[list[Draw], bool]:
    """Those that are not left out of a rung, and whether some are."""
    found = [d for d in draws if facts.out_of_time.get(ids.searched(d.number)) != rung]
    return found, len(found) < len(draws)


def promoted_of(bracket: Bracket, rung: int, trained: int) -> int:
    """How many of `trained` configurations of a rung go on: the share that is planned, at least one."""
    return min(trained, max(1, trained * bracket.sizes[rung + 1] // bracket.sizes[rung]))


def sizes(plan: Plan, facts: Facts, bracket: Bracket) -> list[int]:
    """How many are trained in each rung: those that it is determined for; above, as many as planned, or the same share
    of fewer where some are left out.
    """
    found = [len(members) for members in rungs(plan, facts, bracket)]
    narrower = any(ids.searched(d.number) in facts.out_of_time for d in plan.drawn(bracket))
    for rung in range(len(found), len(bracket.sizes)):
        found.append(promoted_of(bracket, rung - 1, found[-1]) if narrower else bracket.sizes[rung])
    return found


def waiting_in(plan: Plan, facts: Facts, bracket: Bracket) -> list[Trial]:
    """What may start in a bracket: the trials of its highest rung that is determined and that have not ended."""
    *_, (rung, members) = enumerate(rungs(plan, facts, bracket))
    return _waiting([_trial(bracket, rung, draw) for draw in members], facts)


def ended_in(plan: Plan, facts: Facts, bracket: Bracket) -> list[int]:
    """How many trials of each rung have ended."""
    drawn = [ids.searched(d.number) for d in plan.drawn(bracket)]
    return [sum((name, rung) in facts.outcomes for name in drawn) for rung in range(len(bracket.sizes))]


def failed_rung(plan: Plan, facts: Facts, trial: Trial) -> list[str]:
    """The reasons when every configuration of the trial's rung has failed: something is wrong with all of them.

    A later rung of a single configuration, or one that the others were left out of, is no such sign: its failure is its
    own.
    """
    for bracket in plan.brackets:
        if (bracket.iteration, bracket.bracket) == (trial.iteration, trial.bracket) and trial.rung is not None:
            members = list(rungs(plan, facts, bracket))[trial.rung]
            ended = [facts.outcomes.get((ids.searched(d.number), trial.rung)) for d in members]
            if len(members) == 1 and (trial.rung or bracket.sizes[0] > 1):
                return []
            return [str(o.reason) for o in ended if o] if all(o and o.status == "FAILED" for o in ended) else []
    return []


def _trial(bracket: Bracket, rung: int, draw: Draw) -> Trial:
    return Trial(
        kind="search",
        configuration=ids.searched(draw.number),
        number=draw.number,
        values=draw.values,
        last_epoch=bracket.epochs[rung],
        first_epoch=bracket.epochs[rung - 1] if rung else 0,
        iteration=bracket.iteration,
        bracket=bracket.bracket,
        rung=rung,
        next_size=bracket.sizes[rung + 1] if rung + 1 < len(bracket.sizes) else None,
    )


def _waiting(trials: Sequence[Trial], facts: Facts) -> list[Trial]:
    return [trial for trial in trials if trial.key not in facts.outcomes]


def repairs(plan: Plan, facts: Facts) -> list[Trial]:
    """Configurations that ended and are kept, and whose weights are missing or damaged: their last trial again."""
    if not facts.lost:
        return []
    every = [*plan.baseline]
    every += [_trial(b, rung, d) for b in plan.brackets for d in plan.drawn(b) for rung in range(len(b.sizes))]
    last = {t.configuration: t for t in every if t.key in facts.outcomes}
    return [_repaired(t) for name, t in last.items() if name in facts.lost]


def _repaired(trial: Trial) -> Trial:
    return replace(trial, repairs=True, next_size=None)


# ---- who leads ----


def leaders(plan: Plan, facts: Facts, kind: str, full: bool = False) -> list[tuple[Rank, Trial]]:
    """The configurations of a kind that ended a trial and failed none, best first by the study's rule; with `full`,
    only those that reached `max_epochs`.
    """
    found = []
    for trial in _of_kind(plan, kind):
        ended = facts.rungs(trial.configuration)
        if not ended or any(outcome.status == "FAILED" for outcome in ended):
            continue
        epochs = ended[-1].last_epoch
        reached = epochs == plan.max_epochs or kind == "logistic"  # it has no epochs to be trained for
        if reached or not full:
            rank = ended[-1].rank
            trained = facts.trained(trial.configuration, epochs)
            order = place(rank, failed=False, full=reached, epochs=trained, number=trial.number)
            found.append((order, rank, trial))
    return [(rank, trial) for _, rank, trial in sorted(found, key=lambda one: one[0])]


def _of_kind(plan: Plan, kind: str) -> list[Trial]:
    if kind == "search":
        return [_trial(b, 0, d) for b in plan.brackets for d in plan.drawn(b)]
    return [trial for trial in plan.baseline if trial.kind == kind]


def bars(plan: Plan, facts: Facts, trial: Trial) -> tuple[Rank | None, Rank | None]:
    """What a trial must not be worse than for its files to be wanted: (its best epoch's weights, its last epoch's
    state). None: wanted anyway.
    """
    if trial.confirms is not None:
        wanted = trial.kind == "seed" and (plan.test or not trial.fixed)
        return (None if wanted else NEVER), None
    if trial.repairs:
        return None, None
    first = leaders(plan, facts, trial.kind, full=trial.last_epoch == plan.max_epochs)[:1]
    best = first[0][0] if first and first[0][1].configuration != trial.configuration else None
    if trial.next_size is None:
        return best, None
    here = [
        facts.outcomes.get((ids.searched(d.number), trial.rung or 0))
        for b in plan.brackets
        if (b.iteration, b.bracket) == (trial.iteration, trial.bracket)
        for d in plan.drawn(b)
    ]
    ranks = sorted(o.rank for o in here if o is not None and o.status == "COMPLETED")
    return best, ranks[trial.next_size - 1] if len(ranks) >= trial.next_size else None


def needed(plan: Plan, facts: Facts, running: Collection[Key]) -> set[tuple[str, str]]:
    """The checkpoints, by configuration and role, that a running trial, a later rung, the confirmation or an export of
    winner, baseline or reference can need: of fresh seeds that chose their epoch all, since one of them is exported.
    """
    whole = {name for name, _ in running} | _may_be_promoted(plan, facts) | facts.out_of_time.keys()
    found = {(name, role) for name in whole for role in ("last", "best")}
    for kind in ("search", "baseline", "reference", "logistic"):
        found |= {(trial.configuration, "best") for _, trial in leaders(plan, facts, kind)[:1]}
    if plan.confirm is None or facts.confirmation is None or facts.confirmation.epochs == "chosen":
        found |= {(name, "best") for name in facts.numbers.get("seed", {})}
    return found | {(name, "best") for name in unpredicted(plan, facts)}


def _may_be_promoted(plan: Plan, facts: Facts) -> set[str]:
    """Those that can be among the planned number of a next rung, when all that is left out is taken up again too, and
    those that were promoted.
    """
    found = set[str]()
    for bracket in plan.brackets:
        order = [ids.searched(d.number) for d in plan.drawn(bracket)]
        for rung, size in enumerate(bracket.sizes[1:]):
            # Of equals who was better in the rung below is promoted, as `rungs` has it.
            ended = sorted((o.rank, i) for i, n in enumerate(order) if (o := _completed(facts, n, rung)) is not None)
            order = [order[i] for _, i in ended]
            begun = [name for name in order if (name, rung + 1) in facts.ids]
            found |= {name for name in (*order[:size], *begun) if (name, rung + 1) not in facts.outcomes}
    return found


def _completed(facts: Facts, name: str, rung: int) -> Outcome | None:
    outcome = facts.outcomes.get((name, rung))
    return outcome if outcome is not None and outcome.status == "COMPLETED" else None


# ---- the confirmation ----


def sides(plan: Plan, facts: Facts) -> tuple[Side, ...] | None:
    """Winner and baseline by the study's rule, None while either has no full training; then the best of the other kind
    of baseline, where there is one, and of a frozen winner the best configuration with unfrozen layers.
    """
    fixed = facts.confirmation is not None and facts.confirmation.epochs == "fixed"
    winners = leaders(plan, facts, "search", full=True)
    frozen = [one for kind in ("baseline", "logistic") for one in leaders(plan, facts, kind, full=True)[:1]]
    frozen.sort(key=lambda one: (one[0], one[1].configuration))
    if not winners or not frozen:
        return None
    first = winners[0][1]
    found = [("winner", first), *zip(("baseline", "other baseline"), (trial for _, trial in frozen), strict=False)]
    if not first.values.unfrozen_layers:
        found += [("unfrozen", trial) for _, trial in winners if trial.values.unfrozen_layers][:1]
    return tuple(_side(plan, facts, *one, fixed=fixed) for one in found[: 2 if fixed else None])


def _side(plan: Plan, facts: Facts, name: str, trial: Trial, *, fixed: bool) -> Side:
    best = facts.best(trial.configuration)
    epochs = 1 if trial.kind == "logistic" else plan.max_epochs
    if fixed:
        epochs = best.epoch if best else 0
    return Side(name, trial.configuration, trial.kind, trial.values.to_dict(), epochs)


def confirming(plan: Plan, facts: Facts) -> list[Trial]:
    """The trials of the confirmation that is fixed and that have not ended: fresh seeds, then folds, side by side."""
    return [t for t in confirmation(plan, facts) if t.key not in facts.outcomes or t.configuration in facts.lost]


def confirmation(plan: Plan, facts: Facts) -> list[Trial]:
    """All trials of the confirmation that is fixed, as far as they are determined: whether a side is given more seeds
    than the others shows when its first ones have ended. Logistic regression has no seed: for the test images it is
    fitted once to training and validation images, which it needs for nothing else, else itself is what is confirmed.
    """
    fixed = facts.confirmation
    if fixed is None or plan.confirm is None or fixed.sides != sides(plan, facts):
        return []
    found = []
    for side in fixed.sides:
        regression, chosen = side.kind == "logistic", fixed.epochs == "chosen"
        count = int(plan.test and chosen) if regression else seeds(plan, facts, fixed, side)
        for seed in range(1, 1 + count):
            what, subset = Confirms(side.source, side.name, seed), ALL if regression else SPLIT
            again = _again(side, "seed", ids.seed(side.source, seed), what, side.epochs, subset)
            found.append(replace(again, fixed=not chosen))
    for side in fixed.sides[:2]:
        for repeat, folds in enumerate(plan.folds):
            for fold in range(folds):
                what = Confirms(side.source, side.name, 0, fold, repeat)
                subset = Subset("fold", plan.confirm.folds, repeat, fold)
                found.append(_again(side, "fold", ids.fold(side.source, repeat, fold), what, plan.max_epochs, subset))
    return _numbered(found, facts)


def seeds(plan: Plan, facts: Facts, fixed: Confirmation, side: Side) -> int:
    """How many fresh seeds a side is trained from: more where the first ones show that its training is unstable. What
    they show is what they say of the validation images, so the test images have no part in it.
    """
    if plan.confirm is None or plan.confirm.seeds != "auto" or fixed.epochs == "fixed":
        return fixed.seeds
    ended = [facts.outcomes.get((ids.seed(side.source, n), 0)) for n in range(1, 1 + fixed.seeds)]
    if any(o is None for o in ended):
        return fixed.seeds
    accuracies = [o.best.val_accuracy if o and o.best and o.status == "COMPLETED" else None for o in ended]
    return stability.seeds(accuracies, plan.validation)


def itself(side: Side) -> Confirms:
    """What a side without a seed stands for."""
    return Confirms(side.source, side.name, 1)


def _again(side: Side, kind: str, id: str, what: Confirms, epochs: int, subset: Subset) -> Trial:
    values = Configuration.from_dict(side.hyperparameters)
    epochs = 1 if side.kind == "logistic" else epochs
    return Trial(kind, id, 0, values, epochs, subset=subset, confirms=what)


def _numbered(trials: list[Trial], facts: Facts) -> list[Trial]:
    """With the number each has among those of its kind: its own, or in this order the next that nobody has."""
    found = []
    taken = {kind: set(facts.numbers.get(kind, {}).values()) for kind in ("seed", "fold")}
    for trial in trials:
        number = facts.numbers.get(trial.kind, {}).get(trial.configuration)
        if number is None:
            number = next(n for n in itertools.count() if n not in taken[trial.kind])
            taken[trial.kind].add(number)
        found.append(replace(trial, number=number))
    return found


def unpredicted(plan: Plan, facts: Facts) -> list[str]:
    """The sides' trainings whose test images are to be predicted, and are not: those that ended well."""
    fixed = facts.confirmation
    if not plan.test or fixed is None or plan.confirm is None or fixed.sides != sides(plan, facts):
        return []
    names = [t.configuration for t in confirmation(plan, facts) if t.kind == "seed"]
    names += [side.source for side in fixed.sides if side.kind == "logistic" and fixed.epochs == "fixed"]
    return [n for n in names if n not in facts.predicted and _completed(facts, n, 0) is not None]
