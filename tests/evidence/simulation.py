"""What the sections of `simulate.py` share: the table's rows, and studies that are counted a batch at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from evidence import fake_trainer as fake

from tuner.evidence.paired import Estimate
from tuner.evidence.stability import seeds as seeds_wanted
from tuner.evidence.stability import unstable
from tuner.evidence.verdict import MARGIN

CHUNK = 500
NAMES = ("procedure", "world", "n", "seeds", "true", "holds", "gain", "loss", "same", "figure", "+-")
WIDTHS = (28, 10, 5, 5, 5, 6, 6, 6, 6, 7, 6)


@dataclass
class Counted:
    """Verdicts of a batch of studies, in shares; added up over batches."""

    studies: int = 0
    holds: float = 0.0
    gain: float = 0.0
    loss: float = 0.0
    same: float = 0.0

    def add(self, found: Estimate, truth: float, median: fake.Floats | None = None) -> None:
        """`median`: the median seed's difference, which a gain or loss has to agree with."""
        median = found.difference if median is None else median
        self.count(
            (found.low <= truth + 1e-12) & (truth <= found.high + 1e-12),
            (found.low > 0) & (found.difference >= MARGIN) & (median > 0),
            (found.high < 0) & (found.difference <= -MARGIN) & (median < 0),
            (found.low > -MARGIN) & (found.high < MARGIN),
        )

    def count(self, holds: fake.Right, gain: fake.Right, loss: fake.Right, same: fake.Right) -> None:
        self.studies += len(holds)
        for name, found in zip(("holds", "gain", "loss", "same"), (holds, gain, loss, same), strict=True):
            setattr(self, name, getattr(self, name) + float(found.sum()))

    def cells(self) -> dict[str, str]:
        if not self.studies:
            return {}
        shares = {name: getattr(self, name) / self.studies for name in ("holds", "gain", "loss", "same")}
        error = 1.96 * math.sqrt(shares["holds"] * (1 - shares["holds"]) / self.studies)
        return {name: f"{100 * share:.1f}" for name, share in shares.items()} | {"+-": f"{100 * error:.1f}"}


def say(cells: dict[str, str]) -> None:
    wide = zip(NAMES, WIDTHS, strict=True)
    print(" ".join(f"{cells.get(name, ''):{'<' if i < 2 else '>'}{w}}" for i, (name, w) in enumerate(wide)).rstrip())
    sys.stdout.flush()


def row(procedure: str, world: str, n: int, seeds: int, lead: float | None, cells: dict[str, str]) -> None:
    true = {} if lead is None else {"true": f"{100 * lead:g}"}
    say({"procedure": procedure, "world": world, "n": str(n), "seeds": str(seeds)} | true | cells)


def figure(points: list[float] | fake.Floats) -> dict[str, str]:
    """A mean over studies and its error."""
    return {"figure": f"{np.mean(points):.2f}", "+-": f"{1.96 * np.std(points) / math.sqrt(len(points)):.2f}"}


def share(of: fake.Right) -> dict[str, str]:
    """A share of studies in percent and its error."""
    if not of.size:
        return {}
    return {"figure": f"{100 * of.mean():.1f}", "+-": f"{196 * of.std() / math.sqrt(of.size):.1f}"}


def studies_of(
    rng: np.random.Generator, world: fake.World, studies: int, n: int, seeds: int, winner: float, baseline: float
) -> Iterator[tuple[fake.Right, fake.Right]]:
    for begun in range(0, studies, CHUNK):
        yield fake.pairs(rng, world, min(CHUNK, studies - begun), n, seeds, winner, baseline)


# ---- seeds by the rule ----

FIRST, MOST = 5, 20


def by_rule(
    rng: np.random.Generator, world: fake.World, studies: int, n: int, winner: float, baseline: float
) -> Iterator[tuple[fake.Right, fake.Right, fake.Right, fake.Right]]:
    """Studies of five seeds, and of twenty for a side of which one of the first ones collapsed on n validation images:
    both on n further images, a batch of (studies, seeds, images) for each pair of seed counts, which of its studies had
    a seed that guessed among the winner's, and in which of them collapsed ones are named.
    """
    for begun in range(0, studies, CHUNK):
        many = min(CHUNK, studies - begun)
        steady = replace(world, collapse=0.0)
        higher = fake.before_collapse(winner, world.collapse)
        sides = fake.margins(rng, steady, many, 2 * n, MOST, higher, baseline)
        sides[0], guessed = fake.collapse(rng, sides[0], world.collapse)
        right = [side > 0 for side in sides]
        wanted = np.array(
            [[seeds_wanted(one[:FIRST].mean(axis=-1).tolist(), n) for one in side[..., :n]] for side in right]
        )
        for counts in sorted({tuple(pair) for pair in wanted.T.tolist()}):
            at = (wanted == np.array(counts)[:, None]).all(axis=0)
            rows = [side[at, :count, n:] for side, count in zip(right, counts, strict=True)]
            seen = [side[at, :count, :n] for side, count in zip(right, counts, strict=True)]
            named = np.array([[bool(unstable(one, n)) for one in part.mean(axis=-1)] for part in (*rows, *seen)])
            yield rows[0], rows[1], guessed[at, : counts[0]].any(axis=1), named.any(axis=0)
