"""What a change of this program does to numbers: a study goes on under the rules it began with."""

from __future__ import annotations

from dataclasses import dataclass

NUMERICS = 6
"""Counts the changes of this program after which the same study rounds, or draws, other numbers."""
OLDEST = 3
"""Studies that began under an older one are read and exported, not searched further."""


@dataclass(frozen=True)
class Rules:
    """One flag for each change since `OLDEST`; True is the older way."""

    padded_batches: bool  # the last batch is filled with rows of weight 0 under trained BatchNorm too
    draws_by_trial_count: bool  # what is left of a finite space is drawn by the number of trials, not of draws
    drifting_steps: bool  # the values of a stepped range carry the remainders of float addition
    fits_frozen_heads: bool  # a fitted head is what frozen trials begin from too
    old_logistic: bool  # logistic regression with today's threads and the tolerances of 2025
    pooled_alone: bool  # no regression on several cuts among the baselines
    scaled_together: bool  # its features are scaled by one number, not each by its own spread
    first_valley: bool  # its path of strengths ends where the loss first rises, though nothing may be learnt there
    plain_regressions: bool  # no regression on augmented views among the baselines
    sharp_probes: bool  # a linear probe begins as sure as its fit is of the images that it was fitted to


def rules_of(numerics: int) -> Rules:
    """The rules of a study that began under `numerics`."""
    old = numerics < 4
    return Rules(
        padded_batches=old,
        draws_by_trial_count=old,
        drifting_steps=old,
        fits_frozen_heads=numerics < 5,
        old_logistic=old,
        pooled_alone=numerics < 5,
        scaled_together=numerics < 5,
        first_valley=numerics < 5,
        plain_regressions=numerics < 6,
        sharp_probes=numerics < 6,
    )
