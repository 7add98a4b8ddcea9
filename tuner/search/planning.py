"""What a search is going to do and to take, told before anything is spent: `tlstudy plan`.

The counts are the search's own: the same objects are asked, over a database that is only read or an empty one that is
thrown away. Times come from the cost model that the display uses, fed by a probe of a few seconds on this machine.
Nothing is written but decoded photographs, which the search then finds.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.artifacts.files import cache_root
from tuner.backbones import cuts
from tuner.backbones import weights as backbone_weights
from tuner.backends import backend
from tuner.errors import RunError
from tuner.features.cached import stored
from tuner.images import demo
from tuner.images.dataset import Dataset
from tuner.search import estimating
from tuner.search import space as spaces
from tuner.search.costs import FROZEN, CostModel, Left, outstanding
from tuner.search.estimating import Estimate
from tuner.search.events import PlannedBracket
from tuner.search.session import Session, load_backbone, needed_cuts, photographs
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import DRAWN
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.search.loop import Search

NOT_FETCHED = "not fetched yet"
DOWNLOAD_BYTES = 94_765_736  # ImageNet's weights without the top


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

    bracket: PlannedBracket
    done: tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """Where networks begin: `depths` of the space begin at `cut`, whose features take so many bytes if they are stored.

    `state`: "cached", "missing", or "recomputed" from the stored cut `start` in every epoch because
    search.feature_budget_gb is too small.
    """

    cut: str
    depths: tuple[int, ...]
    bytes: int
    state: str
    start: str


@dataclass(frozen=True)
class Plan:
    """All that `tlstudy plan` shows. `notices` are the sentences that a search would say of the space."""

    photographs: Mapping[str, int]
    kinds: tuple[Kind, ...]
    rungs: tuple[Rungs, ...]
    cuts: tuple[Cut, ...]
    notices: tuple[str, ...]
    begun: bool
    winner_known: bool
    estimate: Estimate

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.estimate.total == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        found = dataclasses.asdict(self)
        found["estimate"]["phases"] = dict(self.estimate.phases)
        found["estimate"]["total"] = self.estimate.total
        return found | {"finished": self.finished}


def plan(
    folder: StudyFolder,
    spec: Spec,
    *,
    confirm: bool = True,
    start: float = 0.0,
    end: float = 0.0,
    doing: Callable[[str], object] = lambda text: None,
) -> Plan:
    """The plan of a study, begun or not, whose folder need not exist.

    `start`: seconds it takes until Keras is imported, `end`: until the result is shown. `doing` is told what goes on.
    Raises what a search would: UsageError for input that cannot be used, StudyError for another question.
    """
    environment = backend.environment()
    cache_root().mkdir(parents=True, exist_ok=True)
    # Beside the cache: a temporary folder of the system may be memory, and small.
    with tempfile.TemporaryDirectory(prefix="tlstudy-plan-", dir=cache_root()) as temporary:
        room = Path(temporary)
        doing("Looking at the photographs")
        dataset = _photographs(folder, spec, room)
        with _database(folder, room) as store:
            session = Session(folder, spec, lambda event: None, _never(), "plan")
            session.check_same(store, dataset, environment)
            weights, notices = _weights(folder, spec, store, dataset)
            if weights.key != NOT_FETCHED:
                session.check_weights(store, weights)
            work = Work(folder, spec, dataset, store, weights, confirm)
            kinds, left = work.kinds(), outstanding(*work.asked())
            if left:
                doing("Trying what this machine takes")
                estimate = _estimate(work, left, room / "probe", start, end)
            else:
                estimate = Estimate((), 0.0, 0.0, 0, 0, 0)
            shrunk = work.search.oracle.shrunk()
            return Plan(
                {split: len(dataset.indices(split)) for split in ("train", "val", "test")},
                kinds,
                work.rungs(),
                work.cuts(),
                (*dataset.warnings, *work.space.notices, *([shrunk] if shrunk else []), *notices),
                store.meta("spec") is not None,
                not _searching(left),
                estimate,
            )


def _searching(left: list[Left]) -> bool:
    """Whether anything but the confirmation is left."""
    return any(part.phase != "confirm" for part in left)


def _estimate(work: Work, left: list[Left], folder: Path, start: float, end: float) -> Estimate:
    try:
        return estimating.estimate(work, left, folder, start, end)
    except Exception as error:
        if not backend.out_of_memory(error):
            raise
        raise RunError(
            f"Memory ran out while this machine was tried ({type(error).__name__}). A search would need as much: use a "
            "smaller data.image_size or search.batch_size, fewer unfrozen layers, or more memory."
        ) from error


def _never() -> Any:
    import threading

    return threading.Event()


def _photographs(folder: StudyFolder, spec: Spec, room: Path) -> Dataset:
    """As a search would find them; the demo's are drawn aside if the search has not drawn them yet."""
    drawn = spec.data.path.startswith(DRAWN) and not demo.complete(folder.root / "photos")
    return photographs(spec, StudyFolder(room) if drawn else folder)


@contextmanager
def _database(folder: StudyFolder, room: Path) -> Iterator[Store]:
    """The study's database to read, as of one moment whatever a search writes meanwhile, or an empty one elsewhere."""
    begun = folder.has_results
    with Store(folder.database, readonly=True, frozen=True) if begun else Store(room / "study.db") as store:
        yield store


def _weights(
    folder: StudyFolder, spec: Spec, store: Store, dataset: Dataset
) -> tuple[backbone_weights.Weights, list[str]]:
    """The weights a search would take, without fetching any, and what there is to say about that."""
    used = store.meta("weights_kind")
    wanted = tuple(w for w in spec.backbone.weights if w == used) or spec.backbone.weights
    absent = "imagenet" in wanted and not (backbone_weights.keras_cache() / backbone_weights.NOTOP).is_file()
    here = tuple(w for w in wanted if w != "imagenet" or not absent)
    notices = []
    if absent:
        text = (
            f"ImageNet's weights are not in Keras's cache: a search fetches them first ({DOWNLOAD_BYTES / 1e6:.0f} MB)"
        )
        notices.append(text + (f"; where it cannot, it takes {' or '.join(here)}." if here else "."))
    if not here:
        return backbone_weights.Weights("imagenet", "imagenet", None, NOT_FETCHED), notices
    found, reasons = backbone_weights.find(here, folder.root, spec.search.seed, dataset.key)
    return found, [*notices, *reasons]


class Work:
    """The search as it would be made, over hollow features, and what its parts say."""

    def __init__(
        self,
        folder: StudyFolder,
        spec: Spec,
        dataset: Dataset,
        store: Store,
        weights: backbone_weights.Weights,
        confirm: bool,
    ) -> None:
        from tuner.features.bank import Features
        from tuner.search.loop import Search
        from tuner.search.session import compiled
        from tuner.training.trial import Workshop

        self.spec, self.dataset, self.store = spec, dataset, store
        self.space = spaces.build(spec)
        backbone = load_backbone(spec, dataset, weights)
        images = len(dataset.images)
        self.needed, self.wanted = needed_cuts(spec, self.space, images)
        self.stored = stored(backbone, dataset.key, images, self.wanted, cache_root())
        self.missing = tuple(c for c in self.wanted if c not in self.stored)
        hollow = {cut: np.empty(0, np.float32) for cut in ("image", *self.wanted)}
        workshop = Workshop(
            Features(hollow, ()),
            dataset.labels,
            dataset.indices("train"),
            dataset.indices("val"),
            compiled(spec, self.space, backbone, len(dataset.classes)),
            len(dataset.classes),
            dataset.indices("test"),
        )
        self.search: Search = Search(
            folder, store, spec, self.space, workshop, lambda event: None, _never(), confirming=confirm
        )

    def asked(self) -> tuple[Any, CostModel, Store, Callable[[], Mapping[str, Any] | None]]:
        """What `outstanding` takes."""
        from tuner.search import confirm

        return self.search.outline, self.search.cost, self.store, lambda: confirm.fixed(self.search)

    # ---- counts ----

    def kinds(self) -> tuple[Kind, ...]:
        """What there is to train, by kind, and how much of it the database holds."""
        query = (
            "SELECT kind, COUNT(DISTINCT c.id) AS configurations, SUM(status <> 'RUNNING') AS trials, "
            "(SELECT COUNT(*) FROM epochs e JOIN configurations d ON d.id = e.configuration WHERE d.kind = c.kind) "
            "AS epochs FROM configurations c JOIN trials t ON t.configuration = c.id GROUP BY kind"
        )
        done = {r["kind"]: (int(r["trials"]), int(r["epochs"])) for r in self.store.rows(query)}
        plan, whole, frozen = self.search.plan, self.spec.search.max_epochs, len(self.search.frozen)
        each = [b.epochs[r] - (b.epochs[r - 1] if r else 0) for b in plan for r in range(len(b.sizes))]
        sizes = [size for b in plan for size in b.sizes]
        counted = {
            "reference": (1, 1, whole),
            "baseline": (frozen, frozen, frozen * whole),
            "logistic": (1, 1, 1),
            "search": (
                sum(b.sizes[0] for b in plan),
                sum(sizes),
                sum(s * e for s, e in zip(sizes, each, strict=True)),
            ),
        }
        found = [Kind(name, *counts, *done.get(name, (0, 0))) for name, counts in counted.items()]
        return (*found, self._confirmation(done)) if self.search.confirming else tuple(found)

    def _confirmation(self, done: Mapping[str, tuple[int, int]]) -> Kind:
        """Seeds and folds of both sides: at most, or just so many once the search has ended."""
        ended = tuple(done.get("seed", (0, 0))[i] + done.get("fold", (0, 0))[i] for i in (0, 1))
        asked, cost, whole = self.spec.confirm, self.search.cost, self.spec.search.max_epochs
        _, _, _, fixed = self.asked()
        folds = asked.folds * asked.repeats if asked.folds else 0
        if not _searching(outstanding(*self.asked())) and (known := fixed()):
            sides = known["sides"]
            seeds = [0 if side["kind"] == "logistic" else known["seeds"] for side in sides]
            trials = sum(seeds) + folds * len(sides)
            epochs = sum(n * side["epochs"] for n, side in zip(seeds, sides, strict=True))
            epochs += sum(folds * (1 if side["kind"] == "logistic" else whole) for side in sides)
        else:
            work = (whole * (cost.work(place) + cost.work(FROZEN)) for place in self.search.outline.winners())
            trials = 2 * (max(cost.seeds(asked.seeds, w) for w in work) + folds)
            epochs = trials * whole
        return Kind("confirm", trials, trials, epochs, *ended)

    def rungs(self) -> tuple[Rungs, ...]:
        """Each bracket with the trials that ended."""
        query = (
            "SELECT iteration, bracket, rung, COUNT(*) AS n FROM trials WHERE status <> 'RUNNING' AND rung IS NOT NULL "
            "GROUP BY 1, 2, 3"
        )
        done = {(r["iteration"], r["bracket"], r["rung"]): int(r["n"]) for r in self.store.rows(query)}
        return tuple(
            Rungs(b, tuple(done.get((b.iteration, b.bracket, rung), 0) for rung in range(len(b.sizes))))
            for b in self.search.plan
        )

    def cuts(self) -> tuple[Cut, ...]:
        """The cuts that the space needs, the deepest unfreezing last."""
        depths: dict[str, list[int]] = {"pooled": []}
        for depth in spaces.depths(self.space):
            depths.setdefault(cuts.cut_for(depth, self.spec.backbone.batch_norm), []).append(depth)
        images, side = len(self.dataset.images), self.spec.data.image_size
        found = []
        for cut in sorted(depths, key=cuts.CUTS.index, reverse=True):
            here = cut in ("image", *self.stored)
            state = "cached" if here else "missing" if cut in self.wanted else "recomputed"
            start = self.search.workshop.features.start_for(cut)
            size = images * cuts.feature_bytes(cut, side)
            found.append(Cut(cut, tuple(depths[cut]), size, state, start))
        return tuple(found)
