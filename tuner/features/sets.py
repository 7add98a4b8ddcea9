"""The sets of cuts whose means are read together: by logistic regression, and by the head of a network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tuner.backbones.architecture import Architecture

MANY = 3000
"""Images from which on the widest sets would take minutes: a fit works in the smaller of images and channels."""
SETS = 5
ROWS = 4 * MANY
"""Views of all images together that logistic regression on the pooled features is fitted to; on several cuts `MANY`."""


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


def widest(of: Architecture, images: int) -> tuple[str, ...]:
    """The cuts that a head over several reads in a study of so many images, "pooled" first: all that the regression
    could choose, so that its network does not depend on what it chose.
    """
    return nested(of, images)[-1]


def of_width(of: Architecture, features: int) -> tuple[str, ...]:
    """The cuts of a head that reads so many numbers. Raises ValueError where there is none."""
    for cuts in (("pooled",), widest(of, 0), widest(of, MANY + 1)):
        if sum(of.shape(cut)[-1] for cut in cuts) == features:
            return cuts
    raise ValueError(f"no head over cuts of {of.name} reads {features} features")


def beside(cuts: tuple[str, ...], start: str, of: Architecture) -> tuple[str, ...]:
    """Those of `cuts` that no layer above the cut `start` changes: their means are stored."""
    return tuple(cut for cut in cuts if of.index(cut) <= of.index(start))


def views(numbers: Sequence[int], images: int, *, several: bool) -> dict[int, float]:
    """The views of each image that logistic regression reads, of the `numbers` that epochs pick among, and how much a
    row of each weighs: all of an image together 1. First, of weight 0 where epochs do not see it, the image itself: its
    strength is chosen by that. In a study of many images it reads the first views of each, two at least, so that no fit
    takes minutes.
    """
    most = (MANY if several else ROWS) // max(1, images) - (0 not in numbers)
    seen = tuple(numbers)[: max(2, most)]
    return {number: (number in seen) / len(seen) for number in dict.fromkeys((0, *seen))}


def asked(cuts: str, of: Architecture, images: int) -> tuple[tuple[str, ...], ...]:
    """Those of a configuration's `cuts`: all of them for "several", none for "", the one that was chosen else. Each
    view of an image counts as one.
    """
    if cuts == "several":
        return nested(of, images)
    return (tuple(cuts.split(", ")),) if cuts else ()
