"""What is made of a spec before anything is trained: images, backbone, networks, plan and cost model. A search, a plan
and an export share it.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.artifacts.entries import Said, silent
from tuner.artifacts.files import cache_root
from tuner.backbones import weights as backbone_weights
from tuner.backbones.architecture import Architecture, architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.loading import load
from tuner.features import bank, sets
from tuner.images import demo
from tuner.images import views as augmented
from tuner.images.dataset import Dataset, prepare
from tuner.images.folds import cross_validation
from tuner.search import space as spaces
from tuner.search.costs import CostModel
from tuner.search.facts import Facts
from tuner.search.plan import LEAST_BASELINE, Plan, trials_at_full_budget
from tuner.spec.configuration import Configuration
from tuner.spec.rules import Rules
from tuner.spec.spec import Spec
from tuner.store import ids, tables
from tuner.store.folder import StudyFolder
from tuner.store.locate import DRAWN
from tuner.store.ranking import Rule
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.training.context import Context
    from tuner.training.network import Networks


def make_plan(spec: Spec, space: spaces.Space, store: Store, dataset: Dataset, rules: Rules, *, confirm: bool) -> Plan:
    """What the study trains: what earlier sessions fixed, and as much more as the spec now asks for. In a space that is
    wider than before, what was drawn and not begun is drawn anew.
    """
    from tuner.search import draws

    s, before = spec.search, store.brackets()
    brackets = draws.brackets(
        space,
        max_epochs=s.max_epochs,
        factor=s.factor,
        iterations=s.hyperband_iterations,
        planned=before,
        planned_iterations=store.meta("planned_iterations") or max((b.iteration + 1 for b in before), default=0),
    )
    known = store.draws()
    if known and (asked := store.spec()) is not None and asked.space != spec.space:
        known = known[: begun_draws(store)]
    drawn = draws.draw(space, brackets, seed=s.seed, drawn=known, by_trial_count=rules.draws_by_trial_count)
    kept, wanted = store.baseline(), max(LEAST_BASELINE, trials_at_full_budget(brackets))
    further = spaces.frozen_configurations(space, wanted, s.seed) if len(kept) < wanted else []
    frozen = (*kept, *[c for c in further if c not in kept][: max(0, wanted - len(kept))])
    return Plan(
        brackets=brackets,
        draws=drawn,
        frozen=frozen,
        rule=Rule.of(s),
        max_epochs=s.max_epochs,
        confirm=spec.confirm if confirm else None,
        folds=_folds(spec, dataset),
        test=bool(len(dataset.indices("test"))),
        validation=len(dataset.indices("val")),
        several_cuts=not rules.pooled_alone,
        augmentations=("none", *(() if rules.plain_regressions else spaces.augmentations(space))),
    )


def begun_draws(store: Store) -> int:
    """How many configurations were drawn up to the last one of them that was begun."""
    begun = tables.rows(store, tables.Configuration)
    return 1 + max((c.number for c in begun if c.kind == "search"), default=-1)


def _folds(spec: Spec, dataset: Dataset) -> tuple[int, ...]:
    """How many folds each repeat has: as many as asked, or as the smallest class allows."""
    rows, groups = (dataset.indices("train"), dataset.indices("val")), np.array(dataset.groups, np.int64)
    folds, seed = spec.confirm.folds, spec.search.seed
    return tuple(
        len(cross_validation(dataset.labels, groups, *rows, folds=folds, seed=seed, repeat=repeat))
        for repeat in range(spec.confirm.repeats if folds else 0)
    )


def recipe(spec: Spec, rules: Rules) -> Any:
    """What all trials of a study share."""
    from tuner.training.context import Recipe

    s = spec.search
    return Recipe(
        seed=s.seed,
        batch_size=s.batch_size,
        rule=Rule.of(s),
        balanced=s.class_weight == "balanced",
        batch_norm=spec.backbone.batch_norm,
        rules=rules,
        schedule=s.schedule,
        warmup=s.warmup_epochs,
        epochs=s.max_epochs,
        ema=s.ema,
    )


def cost_model(
    spec: Spec, network: Architecture, dataset: Dataset, stored: Any, views: Sequence[str], rate: float | None = None
) -> CostModel:
    """What an epoch of a configuration costs, while nothing was measured; `views`: the cuts that hold drawn views."""
    train, validation, test = (len(dataset.indices(split)) for split in ("train", "val", "test"))
    passes = 1 + spec.search.mirrored
    images = train, passes * validation, passes * test
    return CostModel(network, spec.backbone.batch_norm, stored, *images, rate, views, spec.data.views)


def trained(plan: Plan, known: Facts) -> Iterator[tuple[Configuration, list[float]]]:
    """The seconds of every finished epoch of earlier sessions, by configuration; logistic regression has none."""
    values = {t.configuration: t.values for t in plan.baseline}
    values |= {ids.searched(d.number): d.values for d in plan.draws}
    for name, epochs in known.epochs.items():
        of = values.get(name) or values.get(ids.source_of(name))
        if of is not None and of.learning_rate is not None:
            yield of, [e.seconds for e in epochs]


def wanted_weights(spec: Spec, used: str | None) -> tuple[str, ...]:
    """A study that began with one of the list stays with it, whatever the network allows today."""
    return tuple(w for w in spec.backbone.weights if w == used) or spec.backbone.weights


def images(
    spec: Spec,
    folder: StudyFolder,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    said: Said = silent,
    stop: threading.Event | None = None,
) -> Dataset:
    """The study's images, decoded or from the cache; the demo's are drawn first. `said`, `stop`: as in `prepare`.

    Raises DataError.
    """
    data = spec.data
    if data.path.startswith(DRAWN):
        demo.draw(folder.root / "photos")
        data = replace(data, path="photos")
    moved = f"If the photographs moved: tlstudy search {shlex.quote(str(folder.root))} --data PLACE"
    place, seed = folder.root, spec.search.seed
    return prepare(
        data, place, cache_root(), seed, on_progress, on_hashed=on_progress, if_missing=moved, said=said, stop=stop
    )


def needed_cuts(
    spec: Spec, network: Architecture, space: spaces.Space, images: int
) -> tuple[dict[str, int], tuple[str, ...]]:
    """(the cuts that the space can need and how many depths begin there, those whose features are stored)."""
    needed: dict[str, int] = {"pooled": 1}
    for depth in spaces.depths(space):
        cut = network.cut_for(depth, spec.backbone.batch_norm)
        needed[cut] = needed.get(cut, 0) + 1
    budget = spec.search.feature_budget_gb * 1e9
    images *= 1 + mirrored(spec, spaces.augmentations(space))
    return needed, bank.worth_storing(needed, images, network, budget)


def mirrored(spec: Spec, augmentations: Sequence[str]) -> bool:
    """Whether mirror images are stored beside the images: they are predicted, or trained on."""
    return spec.search.mirrored or augmented.FLIP in augmentations


def read_means(spec: Spec, network: Architecture, images: int, rules: Rules) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cuts whose means the regression on several cuts or a head reads: of the images, and of their views."""
    features, every = spec.space.head_features, sets.read(sets.nested(network, images))
    several = "several" in (features if isinstance(features, tuple) else (features,))
    return (
        every if several or not rules.pooled_alone else (),
        every if several or not rules.plain_regressions else (),
    )


@dataclass(frozen=True)
class Views:
    """The views that a space can need to be drawn: of the images of `splits`, those that are trained on. `cuts`: where
    their features are stored, of all views or none: a budget changes what is recomputed, not what is trained on.
    `means`: the cuts whose means are.
    """

    augmentations: tuple[str, ...]
    splits: tuple[str, ...]
    cuts: tuple[str, ...]
    means: tuple[str, ...] = ()

    def named(self, spec: Spec, dataset: Dataset) -> list[augmented.Named]:
        """Every view of every split, drawn or not."""
        of = spec.data, spec.search.seed
        return [v for a in self.augmentations for split in self.splits for v in augmented.named(dataset, split, a, *of)]

    def undrawn(self, spec: Spec, dataset: Dataset, cache: Path) -> list[augmented.Named]:
        """Those whose squares the cache does not hold."""
        found = []
        for name in self.augmentations:
            for split in self.splits:
                of = dataset, split, name, spec.data, spec.search.seed
                found += [] if augmented.kept(*of, cache) else augmented.named(*of)
        return found


def needed_views(
    spec: Spec,
    network: Architecture,
    dataset: Dataset,
    augmentations: Sequence[str],
    needed: Mapping[str, int],
    stored: Sequence[str],
    *,
    means: Sequence[str] = (),
    splits: Sequence[str] | None = None,
) -> Views:
    """The views for `augmentations`, stored at as many of the cuts that are `needed` as the budget allows beside the
    plain images' at `stored`. `means`: the cuts whose means are wanted of them. `splits`: of which images, by default
    those that a search trains on.
    """
    wanted = tuple(a for a in augmentations if a in augmented.POLICIES)
    if not wanted:
        return Views((), (), ())
    # Folds train on validation images, and so does the regression that a test set judges.
    both = spec.confirm.folds > 0 or len(dataset.indices("test")) > 0
    splits = tuple(splits or ("train", "val")[: 1 + both])
    begins: dict[str, int] = {"pooled": 1}
    for cut, times in needed.items():  # a network that begins at views is validated on plain images of the same cut
        start = network.nearest(cut, stored)
        begins[start] = begins.get(start, 0) + times
    found = Views(wanted, splits, (), tuple(means))
    plain = len(dataset.images) * (1 + mirrored(spec, augmentations)) * sum(map(network.bytes, stored))
    images = sum(view.images for view in found.named(spec, dataset))
    left = spec.search.feature_budget_gb * 1e9 - plain
    return replace(found, cuts=bank.worth_storing(begins, images, network, left))


def with_views(
    features: bank.Features,
    spec: Spec,
    backbone: Backbone,
    dataset: Dataset,
    views: Views,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    said: Said = silent,
    stop: threading.Event | None = None,
) -> bank.Features:
    """`features` with those of all `views`, drawn and computed where the cache has not got them. The mirror images,
    where there are any, are views too. When all of them are in use the cache is pruned to its budget.

    Raises what `augmented.drawn` and `bank.ensure` raise.
    """
    cache, report = cache_root(), on_progress or (lambda done, total: None)
    drawn = [
        view
        for name in views.augmentations
        for split in views.splits
        for view in augmented.drawn(
            dataset, split, name, spec.data, spec.search.seed, cache, report, said=said, stop=stop
        )
    ]
    return bank.with_views(
        features,
        backbone,
        drawn,
        wanted=views.cuts,
        cache=cache,
        means=views.means,
        on_progress=on_progress,
        should_stop=stop,
        budget=spec.search.feature_budget_gb * 1e9,
        said=said,
    )


def compiled(spec: Spec, space: spaces.Space, backbone: Backbone, classes: int) -> Networks:
    """The networks that a study's trials train, none made yet."""
    from tuner.training.network import Networks

    s = spec.search
    return Networks(
        backbone,
        classes,
        spec.backbone.batch_norm,
        s.optimizer,
        s.precision,
        spaces.head_widths(space),
        layered=space.choices("layer_decay") != (1.0,),
        averaged=s.ema > 0,
    )


def context(
    spec: Spec, rules: Rules, dataset: Dataset, *, networks: Networks, stored: bank.Features, checkpoints: Path
) -> Context:
    """What the trials of a spec need, made of the dataset, its stored features and the networks; `checkpoints`: the
    folder that trained weights are written to. Mirror images stay only where predictions look at them.
    """
    from tuner.training.context import Context

    return Context(
        features=stored if spec.search.mirrored else replace(stored, mirror=None),
        labels=dataset.labels,
        train=dataset.indices("train"),
        validation=dataset.indices("val"),
        networks=networks,
        classes=len(dataset.classes),
        recipe=recipe(spec, rules),
        architecture=networks.backbone.architecture,
        checkpoints=checkpoints,
        test=dataset.indices("test"),
        groups=np.array(dataset.groups, np.int64),
    )


def load_backbone(spec: Spec, dataset: Dataset, weights: backbone_weights.Weights) -> Backbone:
    """The backbone of a study; random weights are calibrated on training images spread over the classes."""

    def calibration() -> np.ndarray:
        rows = dataset.indices("train")
        some = np.linspace(0, len(rows) - 1, min(len(rows), backbone_weights.CALIBRATION_IMAGES)).astype(int)
        return np.asarray(dataset.images[rows[some]])

    return load(architecture(image_size=spec.data.image_size), weights, cache_root(), calibration)
