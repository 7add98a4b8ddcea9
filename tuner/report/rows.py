"""The rows of a study that tables, figures and pages show: by the role they play, and what of the space is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tuner.errors import StudyError
from tuner.evidence.results import Results
from tuner.report.words import Row
from tuner.spec.spec import Range


class NotYet(StudyError):
    """This figure cannot be drawn from what the study has; the message says what is missing."""


class NotAsked(NotYet):
    """The study does not search what this figure shows: nobody misses it."""


def by_role(results: Results, *roles: str) -> dict[str, Row]:
    """The rows of "best", "baseline" and "reference", of all or of those named, as far as there are any."""
    find = {"best": results.winner, "baseline": results.baseline, "reference": results.reference}
    rows = {role: find[role]() for role in roles or find}
    return {role: row.to_dict() for role, row in rows.items() if row is not None}


def best_id(results: Results) -> str | None:
    """The best searched configuration's."""
    winner = results.winner()
    return None if winner is None else str(winner["id"])


def searched(results: Results) -> pd.DataFrame:
    """The searched configurations that have a loss, best first. Raises NotYet when there is none."""
    table = results.ranking()
    table = table[table["val_loss"].notna()]
    if table.empty:
        raise NotYet("no configuration of the search has finished an epoch yet")
    return table


def searched_space(results: Results) -> Mapping[str, Any]:
    """The hyperparameters that are searched, with their choices or Range."""
    return {name: value for name, value in vars(results.study.spec.space).items() if isinstance(value, (tuple, Range))}


def wrong_images(judged: pd.DataFrame, roles: Sequence[str]) -> pd.DataFrame:
    """Of `Results.images` those that one of the roles gets wrong, the surest mistakes first."""
    lowest = judged[[f"{role}_chance" for role in roles]].min(axis=1)
    wrong = ~judged[[f"{role}_right" for role in roles]].all(axis=1)
    return judged.assign(lowest=lowest)[wrong].sort_values("lowest", kind="stable")
