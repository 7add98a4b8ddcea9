"""Which hyperparameter mattered, set against luck: among tens of configurations something always stands out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.paired import Floats

Whole = NDArray[np.integer[Any]]

FIRST, FULL = "first rungs", "full budget"
"""What is compared: all that were drawn, at the end of the first rung of each bracket; those trained in full."""

COLUMNS = ("budget", "epochs", "hyperparameter", "share", "share_by_luck", "p", "configurations", "groups")
SHUFFLES = 2000
LEAST_IN_GROUP, LEAST = 3, 8
"""Configurations that a group, and all groups together, must have before anything is said."""


def importance(
    trials: pd.DataFrame, hyperparameters: Sequence[str], most: int, rng: np.random.Generator, smaller: bool = True
) -> pd.DataFrame:
    """What `at_equal_budgets` finds in the first rungs and, where enough got there, at the full budget.

    `trials`: one row a trial of the search that ended, with `configuration`, `rung` and what `at_equal_budgets` takes;
    `most`: the epochs of the full budget. Column `budget` is `FIRST` or `FULL`, `epochs` says after how many, as text.
    In the first rungs stands all that was drawn, but after few epochs. At the full budget brackets are one group: what
    got there is compared whatever its way was; where rungs stopped others these are survivors, in which a
    hyperparameter that decided who survived may vary no more.
    """
    first, full = trials[trials["rung"] == 0], trials[trials["epochs"] >= most].assign(iteration=0, bracket=0)
    budgets = {FULL: full} if set(full["configuration"]) == set(first["configuration"]) else {FIRST: first, FULL: full}
    made = [at_equal_budgets(rows, hyperparameters, rng, smaller).assign(budget=name) for name, rows in budgets.items()]
    return pd.concat([table for table in made if len(table)] or made[:1], ignore_index=True)[list(COLUMNS)]


def at_equal_budgets(
    configurations: pd.DataFrame,
    hyperparameters: Sequence[str],
    rng: np.random.Generator,
    smaller: bool = True,
    shuffles: int = SHUFFLES,
) -> pd.DataFrame:
    """How much of the scores' differences goes with each hyperparameter; a row each, what luck explains least first.

    `configurations`: one row a configuration with `iteration`, `bracket`, `epochs` (those it is compared at), `score`
    at that epoch and the hyperparameters' columns. Only configurations of one iteration and bracket at equal epochs are
    compared. `smaller`: smaller scores are better; a missing one is a failed trial and ranks last. Groups of fewer than
    `LEAST_IN_GROUP` say nothing and are left out.

    Scores become ranks within their group, from -1 to 1. `share` is the part of the ranks' variance that lies between a
    hyperparameter's values, numbers with many values in quantile bins: the correlation ratio (Kruskal and Wallis, JASA
    47, 1952). It is 0 to 1 and never 0 by luck: `share_by_luck` is its mean over scores shuffled within their groups,
    and `p` how often shuffled scores make any of the hyperparameters stand out as much (Westfall and Young, 1993,
    single step), so that looking at several at once claims nothing. It sees each alone: where the configurations mix
    two of them up, both get the credit. A hyperparameter with one value has no row; fewer than `LEAST`
    configurations give an empty table.
    """
    used = configurations.dropna(subset=["iteration", "bracket", "epochs"])
    group = used.groupby(["iteration", "bracket", "epochs"]).ngroup().to_numpy(dtype=np.int64)
    if not len(used):
        return _table([])
    kept = np.bincount(group)[group] >= LEAST_IN_GROUP
    used = used[kept]
    group = group[kept]
    bins = {name: _bins(used[name]) for name in hyperparameters}
    bins = {name: values for name, values in bins.items() if len(np.unique(values)) > 1}
    if len(used) < LEAST or not bins:
        return _table([])
    scores = pd.to_numeric(used["score"], errors="coerce").to_numpy(dtype=np.float64)
    ranks = _ranks(np.where(np.isfinite(scores), scores if smaller else -scores, math.inf), group)
    shuffled = np.stack([ranks, *_shuffles(ranks, group, rng, shuffles)])
    shares = np.stack([_shares(shuffled, values) for values in bins.values()])
    return _table(
        [
            {
                "epochs": ", ".join(str(epochs) for epochs in sorted(used["epochs"].astype(int).unique())),
                "hyperparameter": name,
                "share": shares[row, 0],
                "share_by_luck": shares[row, 1:].mean(),
                "p": p,
                "configurations": len(used),
                "groups": len(np.unique(group)),
            }
            for row, (name, p) in enumerate(zip(bins, _chances(shares), strict=True))
        ]
    )


def _bins(values: pd.Series) -> Whole:
    """A number a value, or a quantile bin where there are more numbers than configurations can tell apart; -1 missing.

    About six configurations a bin, so that luck alone does not explain most of the variance, but three to five bins:
    two would not see that the middle of a range is best.
    """
    most = min(max(len(values) // 6, 3), 5)
    codes, distinct = pd.factorize(values, sort=False)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) or len(distinct) <= most:
        return codes.astype(np.int64)
    numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=math.nan)
    edges = np.unique(np.nanquantile(numbers, np.arange(1, most) / most))
    return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right")).astype(np.int64)


def _ranks(scores: Floats, group: Whole) -> Floats:
    """Ranks within each group, best -1 and worst 1, ties their mean; the mean of a group is 0."""
    found = np.zeros(len(scores))
    for number in np.unique(group):
        here = group == number
        ranks = pd.Series(scores[here]).rank().to_numpy()
        found[here] = (2 * ranks - here.sum() - 1) / (here.sum() - 1)
    return found


def _shuffles(ranks: Floats, group: Whole, rng: np.random.Generator, shuffles: int) -> Iterator[Floats]:
    members = [np.flatnonzero(group == number) for number in np.unique(group)]
    for _ in range(shuffles):
        found = np.empty_like(ranks)
        for here in members:
            found[here] = ranks[rng.permutation(here)]
        yield found


def _shares(ranks: Floats, bins: Whole) -> Floats:
    """The share of variance between bins, for (draws, configurations) ranks; 0 where all scores are equal."""
    _, codes = np.unique(bins, return_inverse=True)
    member = np.eye(codes.max() + 1)[codes]
    between = ((ranks @ member) ** 2 / member.sum(axis=0)).sum(axis=1)
    total = (ranks**2).sum(axis=1)
    return np.asarray(np.where(total > 0, between / np.where(total > 0, total, 1), 0.0))


def _chances(shares: Floats) -> Floats:
    """Each hyperparameter's p for all of them at once, from (hyperparameters, 1 + shuffles) shares, the seen one first.

    Shares with different numbers of bins cannot be compared, their ranks among the shuffles can: the smallest p of each
    shuffle says how far luck gets with as many tries.
    """
    draws = shares.shape[1]
    rounded = np.round(shares, 12)  # the same share, summed in another order, is the same share
    each = np.stack([(draws - np.searchsorted(np.sort(row), row, side="left")) / draws for row in rounded])
    smallest = np.sort(each.min(axis=0))
    return np.asarray(np.searchsorted(smallest, each[:, 0], side="right") / draws)


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=list(COLUMNS[1:]))
    kinds = dict(zip(made, ("object", "object", "float64", "float64", "float64", "Int64", "Int64"), strict=True))
    return made.astype(kinds).sort_values(["p", "share"], ascending=[True, False], ignore_index=True)
