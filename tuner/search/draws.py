"""KerasTuner's HyperbandOracle with its faults mended. The only file that imports KerasTuner's private names.

Written against KerasTuner 1.4.8 (`keras_tuner/src/engine/oracle.py`, `keras_tuner/src/tuners/hyperband.py`); each fault
named here has a contract test against the stock class in `tests/search/test_oracle.py`, so that an upstream fix is
noticed. Hyperband: Li et al., JMLR 18 (2018). A rung is what KerasTuner calls a round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tuner.backends.choosing import sparing

with sparing():
    import keras_tuner
    from keras_tuner.src.engine import trial as trial_module

from tuner.search.events import PlannedBracket
from tuner.search.space import NAMES, Space
from tuner.spec.seeds import generator

RANKED = ("COMPLETED", "FAILED")
Rank = Callable[[str], tuple[float, ...]]


class StudyOracle(keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Hyperband over a `Space`, with no file of its own: its state is `dump()`, which the store keeps.

    `rank(trial id)` gives a sort key, smaller is better; it is asked only about COMPLETED trials. Trials are asked for
    with `ask()` and told with `tell()`; one at a time or several, the same configurations come in the same order,
    because a rung is promoted only when all of it has ended.

    Mended: seed 0 is seed 0; a FAILED trial ranks last and its rung fills; a space smaller than a rung shrinks the
    bracket; `tuner/bracket` of a promoted trial is its own bracket; failures in a row stop nothing; nothing is written
    to disk.
    """

    def __init__(
        self,
        space: Space,
        *,
        objective: str,
        max_epochs: int,
        factor: int,
        hyperband_iterations: int,
        seed: int,
        rank: Rank,
        planned: tuple[PlannedBracket, ...] = (),
        iterations: int = 0,
    ) -> None:
        """`planned`: the brackets of the first `iterations`, as an earlier session of this study fixed them."""
        self._space, self._rank = space, rank
        self._planned, self._iterations = planned, iterations
        self._brackets: list[dict[str, Any]] = []
        super().__init__(
            objective=keras_tuner.Objective(objective, "max" if objective == "val_accuracy" else "min"),
            max_epochs=max_epochs,
            factor=factor,
            hyperband_iterations=hyperband_iterations,
            seed=seed,
            hyperparameters=space.hyperparameters(),
            allow_new_entries=False,
            tune_new_entries=True,
            max_retries_per_trial=0,
        )
        # Oracle.__init__ says `seed or random.randint(...)`: 0 would be a random seed.
        self.seed = self._seed_state = seed
        self.verbose = 0
        self._plan = self._plan_all()

    # ---- the plan ----

    def plan(self) -> tuple[PlannedBracket, ...]:
        """Every bracket of every iteration in the order they run, shrunk to the space; empty brackets are left out."""
        return self._plan

    def _plan_all(self) -> tuple[PlannedBracket, ...]:
        brackets = list(self._planned)
        left = self._space.size
        if left is not None:
            left = max(0, left - sum(b.sizes[0] for b in brackets))
        for iteration in range(self._iterations, int(self.hyperband_iterations)):
            for bracket in reversed(range(self._get_num_brackets())):
                rungs = range(self._get_num_rounds(bracket))
                stock = [self._stock_size(bracket, r) for r in rungs]
                first = stock[0] if left is None else min(stock[0], left)
                if left is not None:
                    left -= first
                if first == 0:
                    continue
                sizes = tuple(
                    min(s, max(1, first // self.factor**r)) if first < stock[0] else s for r, s in enumerate(stock)
                )
                brackets.append(
                    PlannedBracket(iteration, bracket, sizes, tuple(self._get_epochs(bracket, r) for r in rungs))
                )
        return tuple(brackets)

    def shrunk(self) -> str | None:
        """A sentence when the space is too small for the brackets as the paper has them, else None."""
        if self._space.size is None:
            return None
        wanted = sum(self._stock_size(b, 0) for b in range(self._get_num_brackets())) * int(self.hyperband_iterations)
        got = sum(b.sizes[0] for b in self.plan())
        if got >= wanted:
            return None
        return (
            f"The space has {self._space.size} configurations, Hyperband would draw {wanted}: each is tried once "
            "and the brackets are "
            f"shrunk to fit ({', '.join('-'.join(map(str, b.sizes)) for b in self.plan())})."
        )

    def _stock_size(self, bracket: int, rung: int) -> int:
        return int(super()._get_size(bracket, rung))

    # ---- asking and telling ----

    def ask(self, worker: str = "0") -> Any:
        """The next trial to run (a KerasTuner Trial), or None when the search is done or waits for other workers."""
        trial = self.create_trial(worker)
        return trial if trial.status == trial_module.TrialStatus.RUNNING else None

    def tell(self, trial_id: str, status: str, score: float | None, reason: str | None = None) -> None:
        """Ends a trial: COMPLETED with its score, or FAILED with the reason."""
        trial = self.trials[trial_id]
        trial.status, trial.message, trial.score = status, reason, score
        self._run_times[trial_id] += 1
        self.end_order.append(trial_id)
        for worker in [w for w, t in self.ongoing_trials.items() if t.trial_id == trial_id]:
            del self.ongoing_trials[worker]

    def bracket_of(self, trial_id: str) -> tuple[int, int, int]:
        """(iteration, bracket, rung) of a trial."""
        values = self.trials[trial_id].hyperparameters.values
        return int(values["tuner/iteration"]), int(values["tuner/bracket"]), int(values["tuner/round"])

    def keeps(self, trial_id: str) -> bool:
        """False when no later rung can need this ended trial: its checkpoint can go."""
        iteration, bracket, rung = self.bracket_of(trial_id)
        for entry in self._brackets:
            if (entry["iteration"], entry["bracket_num"]) != (iteration, bracket) or rung + 1 >= len(entry["rounds"]):
                continue
            size = self._size(entry, rung + 1)
            better = sum(1 for other in self._survivors(entry, rung) if self._key(other) < self._key(trial_id))
            taken = {info["past_id"] for info in entry["rounds"][rung + 1]}
            return better < size and trial_id not in taken
        return False

    # ---- KerasTuner's hooks ----

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next trial's values; the order of HyperbandOracle.populate_space with failed trials and small spaces
        minded.
        """
        self._remove_completed_brackets()
        for bracket in self._brackets:
            if len(bracket["rounds"][0]) < self._size(bracket, 0):
                return self._random_trial(trial_id, bracket)
            for rung in range(1, len(bracket["rounds"])):
                if (promoted := self._promote(trial_id, bracket, rung)) is not None:
                    return promoted
        last = self._current_bracket == 0 and self._current_iteration + 1 == self.hyperband_iterations
        if not last:
            self._increment_bracket_num()
            self._start_new_bracket()
            return self.populate_space(trial_id)
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def _promote(self, trial_id: str, bracket: dict[str, Any], rung: int) -> dict[str, Any] | None:
        below, here = bracket["rounds"][rung - 1], bracket["rounds"][rung]
        ended = [info for info in below if self.trials[info["id"]].status in RANKED]
        if len(below) < self._size(bracket, rung - 1) or len(ended) < len(below):
            return None
        taken = {info["past_id"] for info in here}
        waiting = sorted((t for t in self._survivors(bracket, rung - 1) if t not in taken), key=self._key)
        if len(here) >= self._size(bracket, rung) or not waiting:
            return None
        past = self.trials[waiting[0]]
        here.append({"past_id": past.trial_id, "id": trial_id})
        values = dict(past.hyperparameters.values)
        values |= {
            "tuner/trial_id": past.trial_id,
            "tuner/round": rung,
            "tuner/bracket": bracket["bracket_num"],
            "tuner/initial_epoch": self._get_epochs(bracket["bracket_num"], rung - 1),
            "tuner/epochs": self._get_epochs(bracket["bracket_num"], rung),
        }
        return {"status": "RUNNING", "values": values}

    def _survivors(self, bracket: dict[str, Any], rung: int) -> list[str]:
        return [i["id"] for i in bracket["rounds"][rung] if self.trials[i["id"]].status == "COMPLETED"]

    def _key(self, trial_id: str) -> tuple[float, ...]:
        return (*self._rank(trial_id), float(trial_id))

    def _size(self, bracket: dict[str, Any], rung: int) -> int:
        """Configurations of a rung: planned, or as many as survived the rung below once that one has ended."""
        planned = next(
            (
                b.sizes[rung]
                for b in self.plan()
                if (b.iteration, b.bracket) == (bracket["iteration"], bracket["bracket_num"])
            ),
            0,
        )
        if rung == 0 or planned == 0:
            return planned
        below = bracket["rounds"][rung - 1]
        if len(below) >= self._size(bracket, rung - 1) and all(self.trials[i["id"]].status in RANKED for i in below):
            return min(planned, len(self._survivors(bracket, rung - 1)))
        return planned

    def _remove_completed_brackets(self) -> None:
        self._brackets = [
            b for b in self._brackets if any(len(r) < self._size(b, i) for i, r in enumerate(b["rounds"]))
        ]

    def _start_new_bracket(self) -> None:
        super()._start_new_bracket()
        self._brackets[-1]["iteration"] = self._current_iteration

    def _random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        values = self._random_values()
        if values is None:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        number = bracket["bracket_num"]
        values |= {
            "tuner/epochs": self._get_epochs(number, 0),
            "tuner/initial_epoch": 0,
            "tuner/bracket": number,
            "tuner/round": 0,
            "tuner/iteration": bracket["iteration"],
        }
        bracket["rounds"][0].append({"past_id": None, "id": trial_id})
        return {"status": "RUNNING", "values": values}

    def _random_values(self) -> dict[str, Any] | None:
        """As in Oracle, but a finite space is drawn from until it is empty (stock gives up after 20 collisions)."""
        values: dict[str, Any] | None = super()._random_values()
        if values is not None or self._space.size is None:
            return values
        untried = [v for v in self._space.everything() if not self._duplicate(v)]
        if not untried:
            return None
        return dict(untried[int(generator(self.seed, "untried", len(self.trials)).integers(len(untried)))])

    def _compute_values_hash(self, values: Mapping[str, Any]) -> str:
        return str(super()._compute_values_hash({n: values[n] for n in NAMES if n in values}))

    def _record_values(self, trial: Any) -> None:
        # `ensure_active_values` and a second hash on promotion would drop the first one; one hash a configuration is
        # enough.
        self._tried_so_far.add(self._compute_values_hash(trial.hyperparameters.values))

    def _check_consecutive_failures(self) -> None:
        """Failures in a row stop nothing here; the loop stops when a first rung has no survivor."""

    def save(self) -> None:
        """Nothing: the store keeps `dump()` in the same transaction as the event."""

    def _save_trial(self, trial: Any) -> None:
        """Nothing, as `save`."""

    # ---- state ----

    def dump(self) -> str:
        """The whole state as JSON, trials included."""
        state = {
            "brackets": self._brackets,
            "current_bracket": self._current_bracket,
            "current_iteration": self._current_iteration,
            "seed_state": self._seed_state,
            "tried": sorted(self._tried_so_far),
            "start_order": self.start_order,
            "end_order": self.end_order,
            "ongoing": {w: t.trial_id for w, t in self.ongoing_trials.items()},
            "trials": {
                i: {"values": t.hyperparameters.values, "status": t.status, "score": t.score, "message": t.message}
                for i, t in self.trials.items()
            },
        }
        return json.dumps(state, sort_keys=True)

    def restore(self, text: str) -> None:
        """Takes the state back that `dump` gave."""
        state = json.loads(text)
        self._brackets = state["brackets"]
        self._current_bracket, self._current_iteration = state["current_bracket"], state["current_iteration"]
        self._seed_state, self._tried_so_far = state["seed_state"], set(state["tried"])
        self.start_order, self.end_order = state["start_order"], state["end_order"]
        self.trials = {}
        for trial_id, facts in state["trials"].items():
            hyperparameters = self.hyperparameters.copy()
            hyperparameters.values = facts["values"]
            trial = trial_module.Trial(
                hyperparameters=hyperparameters, trial_id=trial_id, status=facts["status"], message=facts["message"]
            )
            trial.score = facts["score"]
            self.trials[trial_id] = trial
        self.ongoing_trials = {worker: self.trials[i] for worker, i in state["ongoing"].items()}


def trials_at_full_budget(plan: tuple[PlannedBracket, ...]) -> int:
    """How many configurations a plan trains to the last epoch."""
    return sum(b.sizes[-1] for b in plan)


def epochs_in(plan: tuple[PlannedBracket, ...]) -> int:
    """Epochs of a plan when promoted trials go on from where they stopped."""
    return sum(size * (b.epochs[r] - (b.epochs[r - 1] if r else 0)) for b in plan for r, size in enumerate(b.sizes))


def stock_brackets(max_epochs: int, factor: int) -> int:
    """Number of brackets of one Hyperband iteration."""
    return math.floor(math.log(max_epochs) / math.log(factor) + 1e-9) + 1
