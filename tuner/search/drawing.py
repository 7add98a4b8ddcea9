"""What a search is going to train, as far as that is known before: which configurations Hyperband draws depends on the
seed alone, not on how the trials end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.search.costs import Outline
from tuner.search.draws import StudyOracle
from tuner.search.space import depths

if TYPE_CHECKING:
    from tuner.search.loop import Search

MOST = 300
"""Configurations still to draw up to which it is worth foreseeing them; of more than that the average tells enough."""


def drawn(oracle: StudyOracle) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """By (iteration, bracket) the values of its configurations in the order they are drawn; uses the oracle up.

    Empty when there are too many to draw. Failed trials leave the draws as they are, unless a small space runs out.
    """
    if sum(b.sizes[0] for b in oracle.plan()) > MOST:
        return {}
    while (asked := oracle.ask()) is not None:
        oracle.tell(asked.trial_id, "COMPLETED", 0.0)
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for trial_id in oracle.start_order:
        iteration, bracket, rung = oracle.bracket_of(trial_id)
        if rung == 0:
            found.setdefault((iteration, bracket), []).append(dict(oracle.trials[trial_id].hyperparameters.values))
    return found


def outline_of(search: Search) -> Outline:
    """The search's plan by the places that its configurations train at."""
    return Outline(
        search.plan,
        len(search.frozen),
        search.spec.search.max_epochs,
        tuple(search.place({"unfrozen_layers": depth}) for depth in depths(search.space)),
        search.place,
        search.spec.confirm if search.confirming else None,
        {at: tuple(search.place(values) for values in each) for at, each in search.drawn.items()},
        len(search.workshop.test),
    )
