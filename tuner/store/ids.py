"""Every id of a study, made here and nowhere else.

A configuration's id says what it is for; a trial's id is its configuration's and, for one that climbs Hyperband's
rungs, the rung. None depends on the order in which trials were started, so that workers give the names that one
process gives. (Trials of formats 1 and 2 keep the numbers that they have.)
"""

from __future__ import annotations

REFERENCE = "ref"


def searched(number: int) -> str:
    """The configuration that was drawn as the `number`-th, from 0."""
    return f"c{number:03d}"


def baseline(number: int) -> str:
    return f"b{number:02d}"


def regression(augmentation: str, *, several: bool) -> str:
    """Logistic regression on the pooled features or on several cuts, of the images or of such views of them."""
    return ("cuts" if several else "log") + (f"_{augmentation}" if augmentation != "none" else "")


def seed(source: str, number: int) -> str:
    """`source` trained again from its `number`-th fresh seed, from 1."""
    return f"{source}-s{number:02d}"


def seed_of(id: str) -> int | None:
    """Which fresh seed it is; None for anything else."""
    _, known, number = id.partition("-s")
    return int(number) if known and number.isdigit() else None


def fold(source: str, repeat: int, number: int) -> str:
    """`source` trained without a fold of a repeat, both from 0."""
    return f"{source}-r{repeat + 1}f{number + 1}"


def source_of(id: str) -> str:
    """The configuration that a fresh seed, a fold or a refit is of."""
    return id.partition("-")[0]


def refit(source: str) -> str:
    """`source` trained again on training and validation images together."""
    return f"{source}-refit"


def trial(configuration: str, rung: int | None) -> str:
    """`rung`: None for a configuration that is trained in one go."""
    return configuration if rung is None else f"{configuration}-rung{rung}"
