"""What a search would train and what of it is done, by the search's own plan and facts: for `tlstudy plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tuner.artifacts.files import cache_root
from tuner.backbones.architecture import architecture
from tuner.backbones.weights import Weights
from tuner.features import bank
from tuner.images.dataset import Dataset
from tuner.images.views import Named
from tuner.search import budget, facts, schedule, setup
from tuner.search import space as spaces
from tuner.search.costs import FROZEN, Left, outstanding, planned, winners
from tuner.spec.rules import rules_of
from tuner.spec.spec import Spec
from tuner.store.store import Bracket, Store


@dataclass(frozen=True)
class Kind:
    """Configurations of one kind: how many, the trials and epochs they are trained for, and how much of it is done.

    Of the confirmation at most, while it is not known who wins.
    """

    name: str  # "reference", "baseline", "logistic", "search" or "confirm"
    configurations: int
    trials: int
    epochs: int
    trials_done: int
    epochs_done: int


@dataclass(frozen=True)
class Rungs:
    """A bracket, and how many trials of each rung have ended."""

    bracket: Bracket
    done: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """Where networks begin: `depths` of the space begin at `cut`, whose features, those of mirror images too where they
    are predicted, take so many bytes if they are stored.

    `state`: "cached", "missing", or "recomputed" from the stored cut `start` in every epoch because
    search.feature_budget_gb is too small. `augmentation`: of `views` drawn of each image that is trained on; "none" for
    the images themselves.
    """

    cut: str
    depths: tuple[int, ...]
    bytes: int
    state: str
    start: str
    augmentation: str = "none"
    views: int = 1


def searching(left: list[Left]) -> bool:
    """Whether anything but the confirmation is left."""
    return any(part.phase != "confirm" for part in left)


class Work:
    """What a search would train, by the same plan and facts, and what its parts say."""

    def __init__(
        self,
        spec: Spec,
        dataset: Dataset,
        store: Store,
        weights: Weights,
        numerics: int,
        confirm: bool,
    ) -> None:
        self.spec, self.dataset = spec, dataset
        self.network = architecture(image_size=spec.data.image_size)
        rules = rules_of(numerics)
        self.space = spaces.build(spec, self.network, drifting=rules.drifting_steps)
        backbone = setup.load_backbone(spec, dataset, weights)
        images = len(dataset.images)
        self.needed, self.wanted = setup.needed_cuts(spec, self.network, self.space, images)
        self.means, of_views = setup.read_means(spec, self.network, images, rules)
        seen, names = spaces.augmentations(self.space), bank.names(self.wanted, self.means)
        # Of each view: the names under which features and means are there, and those under which they are not.
        self.stored = tuple(
            bank.stored(backbone, dataset.key, names, cache=cache_root(), view=view)
            for view in bank.views(setup.mirrored(spec, seen))
        )
        self.missing = tuple(tuple(n for n in names if n not in here) for here in self.stored)
        self.views = setup.needed_views(spec, self.network, dataset, seen, self.needed, self.wanted, means=of_views)
        self.named = self.views.named(spec, dataset)
        self.undrawn = self.views.undrawn(spec, dataset, cache_root())
        self.names_of_views = bank.names(self.views.cuts, self.views.means)
        self.stored_views = {
            v.key: bank.stored(backbone, v.key, self.names_of_views, cache=cache_root(), view=v.name)
            for v in self.named
        }
        self.plan = setup.make_plan(spec, self.space, store, dataset, rules, confirm=confirm)
        self.facts = facts.read(store, self.plan.rule)
        if budget.grew(store, spec.search.time_budget):
            self.facts.out_of_time = {}
        self.cost = setup.cost_model(spec, self.network, dataset, ("image", *self.wanted), self.views.cuts)

    def missing_of(self, view: Named) -> tuple[str, ...]:
        """The names under which features of a view are to be computed."""
        return tuple(n for n in self.names_of_views if n not in self.stored_views[view.key])

    def passes(self) -> float:
        """How many squares go through the frozen layers for what is missing; those that begin higher, in part."""
        network, n = self.network, len(self.dataset.images)
        each = [(n, missing, stored) for missing, stored in zip(self.missing, self.stored, strict=True)]
        each += [(v.images, self.missing_of(v), self.stored_views[v.key]) for v in self.named]
        work = sum(images * bank.macs(network, missing, stored) for images, missing, stored in each)
        return work / network.macs("image", self.wanted[-1])

    def to_write(self) -> int:
        """Bytes that the cache will hold more: features, means, and squares of views."""
        each = [(len(self.dataset.images), missing) for missing in self.missing]
        each += [(v.images, self.missing_of(v)) for v in self.named]
        size = sum(images * bank.bytes_of(self.network, name) for images, missing in each for name in missing)
        return size + sum(v.bytes for v in self.undrawn)

    def outstanding(self) -> list[Left]:
        """What has not been trained yet."""
        return outstanding(self.plan, self.facts, self.cost)

    # ---- counts ----

    def kinds(self) -> tuple[Kind, ...]:
        """What there is to train, by kind, and how much of it the database holds."""
        brackets, whole, frozen = self.plan.brackets, self.plan.max_epochs, len(self.plan.frozen)
        each = [b.epochs[r] - (b.epochs[r - 1] if r else 0) for b in brackets for r in range(len(b.sizes))]
        sizes = [size for b in brackets for size in b.sizes]
        regressions = sum(trial.kind == "logistic" for trial in self.plan.baseline)
        counted = {
            "reference": (1, 1, whole),
            "baseline": (frozen, frozen, frozen * whole),
            "logistic": (regressions, regressions, regressions),
            "search": (
                sum(b.sizes[0] for b in brackets),
                sum(sizes),
                sum(s * e for s, e in zip(sizes, each, strict=True)),
            ),
        }
        found = [Kind(name, *counts, *self._done(name)) for name, counts in counted.items()]
        return (*found, self._confirmation()) if self.plan.confirm is not None else tuple(found)

    def _done(self, kind: str) -> tuple[int, int]:
        """Trials of a kind that ended, and epochs that were trained."""
        names = self.facts.numbers.get(kind, {})
        return (
            sum(name in names for name, _ in self.facts.outcomes),
            sum(len(self.facts.epochs.get(name, ())) for name in names),
        )

    def _confirmation(self) -> Kind:
        """Seeds and folds of all sides: at most, or just so many once the search has ended."""
        ended = tuple(self._done("seed")[i] + self._done("fold")[i] for i in (0, 1))
        cost, whole, folds = self.cost, self.plan.max_epochs, sum(self.plan.folds)
        if not searching(self.outstanding()) and (known := planned(self.plan, self.facts, self.cost)):
            every = schedule.confirmation(self.plan, replace(self.facts, confirmation=known))
            trials, epochs = len(every), sum(trial.last_epoch for trial in every)
        else:
            work = (whole * (cost.work(place) + cost.work(FROZEN)) for place in winners(self.plan, cost))
            seeds = max(cost.seeds(self.spec.confirm.seeds, w) for w in work)
            depths = {depth for _, depth in winners(self.plan, cost)}
            frozen_wins = 0 in depths and len(depths) > 1
            regressions = int(self.plan.test)
            trials = seeds * (2 + frozen_wins) + 2 * folds + regressions
            epochs = (trials - regressions) * whole + regressions
        return Kind("confirm", trials, trials, epochs, *ended)

    def rungs(self) -> tuple[Rungs, ...]:
        """Each bracket with the trials that ended."""
        return tuple(Rungs(b, tuple(schedule.ended_in(self.plan, self.facts, b))) for b in self.plan.brackets)

    def cuts(self) -> tuple[Cut, ...]:
        """The cuts that the space needs, the deepest unfreezing last."""
        depths: dict[str, list[int]] = {"pooled": []}
        for depth in spaces.depths(self.space):
            depths.setdefault(self.network.cut_for(depth, self.spec.backbone.batch_norm), []).append(depth)
        found = []
        for cut in sorted(depths, key=self.network.cuts.index, reverse=True):
            here = cut == "image" or all(cut in view for view in self.stored)
            state = "cached" if here else "missing" if cut in self.wanted else "recomputed"
            size = len(self.stored) * len(self.dataset.images) * self.network.bytes(cut)
            found.append(Cut(cut, tuple(depths[cut]), size, state, self.network.nearest(cut, self.wanted)))
        for name in self.views.augmentations:
            found += [self._views(name, cut.cut, cut.depths) for cut in found if cut.augmentation == "none"]
            if "image" not in depths:
                found.append(self._views(name, "image", ()))
        return tuple(found)

    def _views(self, augmentation: str, cut: str, depths: tuple[int, ...]) -> Cut:
        """The same cut for the views of an augmentation; at "image" are their squares."""
        mine, cuts = [v for v in self.named if v.augmentation == augmentation], self.views.cuts
        size = sum(v.bytes if cut == "image" else v.images * self.network.bytes(cut) for v in mine)
        if cut == "image":
            here = not any(v in self.undrawn for v in mine)
        else:
            here = all(cut in self.stored_views[v.key] for v in mine)
        state = "cached" if here else "missing" if cut in ("image", *cuts) else "recomputed"
        views = len({v.number for v in mine})
        return Cut(cut, depths, size, state, self.network.nearest(cut, cuts), augmentation, views)
