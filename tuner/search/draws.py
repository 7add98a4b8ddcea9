"""KerasTuner's Hyperband: what its brackets are, and the configurations that it draws. The only file that imports
KerasTuner's private names.

Which configurations Hyperband draws depends on the seed alone, so all of them are drawn before anything is trained.
Written against KerasTuner 1.4.8 (`keras_tuner/src/engine/oracle.py`, `keras_tuner/src/tuners/hyperband.py`); the
faults of the stock oracle that are left behind here have contract tests in `tests/search/test_draws.py`, so that an
upstream fix is noticed. Hyperband: Li et al., JMLR 18 (2018). A rung is what KerasTuner calls a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.backends.choosing import sparing
from tuner.search.space import NAMES, Space
from tuner.spec.configuration import Configuration
from tuner.spec.seeds import generator
from tuner.store.store import Bracket, Draw

with sparing():
    import keras_tuner


def brackets(
    space: Space,
    *,
    max_epochs: int,
    factor: int,
    iterations: int,
    planned: Sequence[Bracket] = (),
    planned_iterations: int = 0,
) -> tuple[Bracket, ...]:
    """Every bracket of every iteration in the order they run, shrunk to the space; empty brackets are left out.

    `planned`: those of the first `planned_iterations`, as an earlier session of this study fixed them.
    """
    found, left = list(planned), space.size
    if left is not None:
        left = max(0, left - sum(b.sizes[0] for b in found))
    for iteration in range(planned_iterations, iterations):
        for number, stock, epochs in _stock(max_epochs, factor):
            first = stock[0] if left is None else min(stock[0], left)
            if left is not None:
                left -= first
            if first == 0:
                continue
            shrunk = tuple(min(s, max(1, first // factor**r)) for r, s in enumerate(stock))
            found.append(Bracket(iteration, number, shrunk if first < stock[0] else stock, epochs))
    return tuple(found)


def shrunk(space: Space, plan: Sequence[Bracket], *, max_epochs: int, factor: int, iterations: int) -> str | None:
    """A sentence when the space is too small for the brackets as the paper has them, else None."""
    wanted = sum(sizes[0] for _, sizes, _ in _stock(max_epochs, factor)) * iterations
    if space.size is None or sum(b.sizes[0] for b in plan) >= wanted:
        return None
    return (
        f"The space has {space.size} configurations, Hyperband would draw {wanted}: each is tried once "
        f"and the brackets are shrunk to fit ({', '.join('-'.join(map(str, b.sizes)) for b in plan)})."
    )


def draw(
    space: Space, plan: Sequence[Bracket], *, seed: int, drawn: Sequence[Draw] = (), by_trial_count: bool = False
) -> tuple[Draw, ...]:
    """The configurations of every bracket, `drawn` ones first; KerasTuner's sequence goes on where those left it.

    A space that is nearly used up is drawn from until it is empty (KerasTuner gives up after some collisions): by the
    draw's number; `by_trial_count`: as studies did whose numerics are 3, by how many trials one process had started.
    """
    oracle = _Oracle(space, seed=drawn[-1].seed if drawn else seed)
    for before in drawn:
        oracle.took(before.values.to_dict())
    found = list(drawn)
    started = 0
    for bracket in plan:
        here = sum((d.iteration, d.bracket) == (bracket.iteration, bracket.bracket) for d in drawn)
        for place in range(here, bracket.sizes[0]):
            number = len(found)
            values = oracle.next_values(seed, started + place if by_trial_count else number)
            if values is None:
                return tuple(found)
            configuration = Configuration.from_dict(values)
            found.append(Draw(number, bracket.iteration, bracket.bracket, configuration, oracle.stands_at))
        started += sum(bracket.sizes)
    return tuple(found)


def stock_brackets(max_epochs: int, factor: int) -> int:
    """Number of brackets of one Hyperband iteration."""
    return len(_stock(max_epochs, factor))


class _Oracle(keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Asked for values and sizes only: it has no trials, writes nothing and ranks nothing."""

    def __init__(self, space: Space | None, seed: int, **options: Any) -> None:
        super().__init__(
            objective=keras_tuner.Objective("val_loss", "min"),
            hyperparameters=space.hyperparameters() if space is not None else None,
            seed=seed,
            **options,
        )
        self._space, self._fixed = space, space.fixed() if space is not None else {}
        # Oracle.__init__ says `seed or random.randint(...)`: 0 would be a random seed.
        self.seed = self._seed_state = seed

    @property
    def stands_at(self) -> int:
        """The seed of the next value to be drawn."""
        return int(self._seed_state)

    def took(self, values: dict[str, Any]) -> None:
        """These are not drawn again."""
        self._tried_so_far.add(self._compute_values_hash(values))

    def next_values(self, seed: int, number: int) -> dict[str, Any] | None:
        """A configuration that was not drawn before; None when there is none left."""
        values: dict[str, Any] | None = self._random_values()
        if values is None and self._space is not None and self._space.size is not None:
            untried = [v for v in self._space.everything() if not self._duplicate(v)]
            if untried:
                values = dict(untried[int(generator(seed, "untried", number).integers(len(untried)))])
        if values is None:
            return None
        self.took(values)
        return self._fixed | values

    def _compute_values_hash(self, values: dict[str, Any]) -> str:
        every = self._fixed | values
        return str(super()._compute_values_hash({n: every[n] for n in NAMES if n in every}))

    def stock(self) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """(number, sizes, epochs) of each bracket, the most halving one first."""
        return [
            (
                number,
                tuple(int(self._get_size(number, r)) for r in range(self._get_num_rounds(number))),
                tuple(int(self._get_epochs(number, r)) for r in range(self._get_num_rounds(number))),
            )
            for number in reversed(range(self._get_num_brackets()))
        ]


def _stock(max_epochs: int, factor: int) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    return _Oracle(None, 0, max_epochs=max_epochs, factor=factor).stock()
