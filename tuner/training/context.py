"""What a process needs to run trials of a study: features and labels by row, and the compiled networks. Built once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tuner.backbones.architecture import Architecture
from tuner.features import sets
from tuner.features.bank import Features, Picked
from tuner.images.folds import cross_validation
from tuner.images.mapped import Rows as Reader
from tuner.images.views import NONE
from tuner.spec.configuration import Configuration
from tuner.spec.rules import Rules
from tuner.spec.seeds import generator
from tuner.store.ranking import Rule
from tuner.training.batches import Beside, Source
from tuner.training.logistic import Fit
from tuner.training.network import Network, Networks
from tuner.training.schedules import share
from tuner.training.subset import Subset


@dataclass(frozen=True)
class Recipe:
    """What all trials of a study share. `balanced`: each class weighs the same in the training loss. `schedule`,
    `warmup` (epochs) and `epochs`: see `schedules.share`; `ema`: what averaged weights keep of themselves in a step.
    """

    seed: int
    batch_size: int
    rule: Rule
    balanced: bool
    batch_norm: str
    rules: Rules
    schedule: str = "constant"
    warmup: float = 0.0
    epochs: int = 0
    ema: float = 0.0

    def share(self, at: float) -> float:
        """Of the learning rate at a point of the training, in epochs."""
        return share(self.schedule, at=at, epochs=self.epochs, warmup=self.warmup)

    def tutorial(self) -> Recipe:
        """The same without what the tutorial does not have."""
        return replace(self, schedule="constant", warmup=0.0, ema=0.0)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a subset, int64 (k,) each; `held_out`: predicted when the trial has ended."""

    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


NO_ROWS = np.array([], np.int64)


@dataclass
class Context:
    """`labels` int64 (n,), `groups` int64 (n,) with the same number for images that look the same; `train`,
    `validation` and `test` are rows, int64; test images are looked at by the confirmation alone. `checkpoints`: the
    folder that trained weights are written to.
    """

    features: Features
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    networks: Networks
    classes: int
    recipe: Recipe
    architecture: Architecture
    checkpoints: Path
    test: np.ndarray = field(default_factory=lambda: NO_ROWS)
    groups: np.ndarray | None = None
    _folds: dict[Subset, Rows] = field(default_factory=dict, init=False)
    _linear: dict[tuple[Subset, Configuration], Fit] = field(default_factory=dict, init=False)

    def start(self, values: Configuration) -> str:
        """The stored cut that the network of a configuration begins at."""
        cut = self.architecture.cut_for(values.unfrozen_layers, self.recipe.batch_norm)
        return self.architecture.nearest(cut, self.features.cuts(values.augmentation))

    def training_data(self, values: Configuration, configuration: str, epoch: int) -> Source:
        """What a configuration sees in an epoch: the images themselves, or of each a view, picked by name."""
        if values.augmentation == NONE:
            return self.looks(values)[0]
        name, start = values.augmentation, self.start(values)
        views = self.features.augmented[name, start]
        draw = generator(self.recipe.seed, configuration, "view", epoch)
        numbers = draw.choice(views.numbers, len(self.labels))
        means = [Picked(self.features.mean_views(name, cut), numbers) for cut in self._beside(values)]
        return Beside(Picked(views, numbers), means) if means else Picked(views, numbers)

    def looks(self, values: Configuration) -> tuple[Source, ...]:
        """What a prediction of a configuration is averaged over: the images and, where they count, their mirror
        images.
        """
        start, found = self.start(values), list[Source]()
        for view in self.features.views:
            means = [Reader(view.means[cut]) for cut in self._beside(values)]
            found.append(Beside(Reader(view.arrays[start]), means) if means else Reader(view.arrays[start]))
        return tuple(found)

    def head_cuts(self, values: Configuration) -> tuple[str, ...]:
        """The cuts whose means a configuration's head reads."""
        return sets.widest(self.architecture, len(self.labels)) if values.reads_several else ("pooled",)

    def _beside(self, values: Configuration) -> tuple[str, ...]:
        """Those of them that its network reads beside its features."""
        cut = self.architecture.cut_for(values.unfrozen_layers, self.recipe.batch_norm)
        return sets.beside(self.head_cuts(values), cut, self.architecture) if values.reads_several else ()

    def network(self, values: Configuration) -> Network:
        """The compiled network of a configuration; it may hold what was trained last."""
        return self.networks.get(self.start(values), *values.network, cuts=self.head_cuts(values))

    def rows(self, subset: Subset) -> Rows:
        """The rows that a subset names."""
        if subset.name == "split":
            return Rows(self.train, self.validation, NO_ROWS)
        if subset.name == "all":
            return Rows(np.concatenate([self.train, self.validation]), self.validation, NO_ROWS)
        if subset not in self._folds:
            found = cross_validation(
                self.labels,
                self.groups,
                self.train,
                self.validation,
                folds=subset.folds,
                seed=self.recipe.seed,
                repeat=subset.repeat,
            )
            self._folds |= {replace(subset, fold=n): Rows(f.train, f.validation, f.out) for n, f in enumerate(found)}
        return self._folds[subset]

    def linear(self, subset: Subset, values: Configuration, fit: Callable[[], Fit]) -> Fit:
        """Logistic regression on a subset's training images as a configuration asks for it; fitted once."""
        if (subset, values) not in self._linear:
            self._linear[subset, values] = fit()
        return self._linear[subset, values]
