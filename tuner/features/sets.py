"""The sets of cuts that logistic regression on the means at several of them is tried with."""

from __future__ import annotations

from itertools import groupby

from tuner.backbones.architecture import Architecture

MANY = 3000
"""Images from which on the widest sets would take minutes: a fit works in the smaller of images and channels."""
SETS = 5


def nested(of: Architecture, images: int) -> tuple[tuple[str, ...], ...]:
    """At most `SETS` sets of cuts for a study of so many images, each with all of the one before, the highest cuts
    first: "pooled" alone, then with every further cut of as many channels, with those of the next lower number, and so
    on. With more than `MANY` images "pooled" alone, and with the highest cut that has another number of channels.
    """
    below = [cut for cut in reversed(of.cuts) if cut not in ("image", "pooled")]
    steps = [list(cuts) for _, cuts in groupby(below, key=lambda cut: of.shape(cut)[-1])]
    if images > MANY:
        steps = [cuts[:1] for cuts in steps if of.shape(cuts[0])[-1] != of.width][:1]
    found: list[tuple[str, ...]] = [("pooled",)]
    for cuts in steps[: SETS - 1]:
        found.append((*found[-1], *cuts))
    return tuple(found)


def read(sets: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The cuts below "pooled" that any of these sets reads."""
    return tuple(dict.fromkeys(cut for cuts in sets for cut in cuts if cut != "pooled"))


def asked(cuts: str, of: Architecture, images: int) -> tuple[tuple[str, ...], ...]:
    """Those of a configuration's `cuts`: all of them for "several", none for "", the one that was chosen else."""
    if cuts == "several":
        return nested(of, images)
    return (tuple(cuts.split(", ")),) if cuts else ()
