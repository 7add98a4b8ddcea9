"""What a study is going to train, as data: every configuration is drawn before the first trial begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tuner.spec.configuration import AUGMENTATIONS, LOGISTIC, REFERENCE, SEVERAL_CUTS, Configuration
from tuner.spec.spec import ConfirmSpec
from tuner.store import ids
from tuner.store.ranking import Rule
from tuner.store.store import Bracket, Confirms, Draw, TrialRow
from tuner.training.subset import SPLIT, Subset

LEAST_BASELINE = 8
"""Frozen configurations of the baseline at least: as many fully trained ones as Hyperband has, if those are more."""

Key = tuple[str, int]
"""A trial: its configuration and its rung, 0 for what is trained in one go."""


@dataclass(frozen=True)
class Trial:
    """A trial that is planned. `next_size`: how many the next rung of its bracket takes, None when there is none.

    `confirms`: what it stands for when it is one more training of winner or baseline. `fixed`: its last epoch counts,
    not its best one. `repairs`: it ended before, only its weights are wanted again.
    """

    kind: str
    configuration: str
    number: int
    values: Configuration
    last_epoch: int
    first_epoch: int = 0
    iteration: int | None = None
    bracket: int | None = None
    rung: int | None = None
    next_size: int | None = None
    subset: Subset = SPLIT
    confirms: Confirms | None = None
    fixed: bool = False
    repairs: bool = False

    @property
    def key(self) -> Key:
        return self.configuration, self.rung or 0

    def row(self, id: str | None = None, parent: str | None = None) -> TrialRow:
        """As the store records it; `id` and `parent` where an older format gave them."""
        return TrialRow(
            id or ids.trial(self.configuration, self.rung),
            self.configuration,
            self.iteration,
            self.bracket,
            self.rung,
            self.first_epoch,
            self.last_epoch,
            parent,
        )


@dataclass(frozen=True)
class Plan:
    """All that decides what is trained. `confirm` None: no confirmation; `folds`: how many each of its repeats has, as
    many as the smallest class allows; `test`: whether there are test images; `validation`: how many validation images;
    `several_cuts`: whether regression on several cuts is among the baselines; `augmentations`: what regressions see,
    "none" being the images themselves.
    """

    brackets: tuple[Bracket, ...]
    draws: tuple[Draw, ...]
    frozen: tuple[Configuration, ...]
    rule: Rule
    max_epochs: int
    confirm: ConfirmSpec | None = None
    folds: tuple[int, ...] = ()
    test: bool = False
    validation: int = 0
    several_cuts: bool = False
    augmentations: tuple[str, ...] = ("none",)

    @cached_property
    def baseline(self) -> list[Trial]:
        """The reference, the baseline's configurations and logistic regression, on the pooled features and on several
        cuts, of the images and of the views that heads see, each one trial over all its epochs.
        """
        return [
            Trial("reference", ids.REFERENCE, 0, REFERENCE, self.max_epochs),
            *(Trial("baseline", ids.baseline(i), i, v, self.max_epochs) for i, v in enumerate(self.frozen)),
            *self._regressions(),
        ]

    def _regressions(self) -> Iterator[Trial]:
        """Their numbers do not depend on what else a space has: it may be widened."""
        for place, augmentation in enumerate(AUGMENTATIONS):
            for several in range((1 + self.several_cuts) * (augmentation in self.augmentations)):
                id = ids.regression(augmentation, several=bool(several))
                values = replace(SEVERAL_CUTS if several else LOGISTIC, augmentation=augmentation)
                yield Trial("logistic", id, 2 * place + several, values, 1)

    def drawn(self, bracket: Bracket) -> list[Draw]:
        """The configurations of a bracket, in the order of drawing."""
        return self._drawn.get((bracket.iteration, bracket.bracket), [])

    @cached_property
    def _drawn(self) -> dict[tuple[int, int], list[Draw]]:
        found: dict[tuple[int, int], list[Draw]] = {}
        for draw in self.draws:
            found.setdefault((draw.iteration, draw.bracket), []).append(draw)
        return found

    @property
    def total(self) -> int:
        """Trials of baseline, reference, logistic regression and Hyperband; the confirmation's are not counted."""
        return len(self.baseline) + sum(sum(b.sizes) for b in self.brackets)


def trials_at_full_budget(brackets: Sequence[Bracket]) -> int:
    """How many configurations a plan trains to the last epoch."""
    return sum(b.sizes[-1] for b in brackets)


def epochs_in(brackets: Sequence[Bracket]) -> int:
    """Epochs of a plan when promoted trials go on from where they stopped."""
    return sum(size * (b.epochs[r] - (b.epochs[r - 1] if r else 0)) for b in brackets for r, size in enumerate(b.sizes))
