"""What a search is going to do and to take, told before anything is spent: `tlstudy plan`.

The counts are the search's own: the same objects are asked, over a database that is only read or an empty one that is
thrown away. Times come from the cost model that the display uses, fed by a probe of a few seconds on this machine.
Nothing is written but decoded photographs, which the search then finds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.artifacts import own
from tuner.artifacts.entries import workspace
from tuner.artifacts.files import cache_root
from tuner.backbones import weights as backbone_weights
from tuner.backends import backend
from tuner.errors import RunError
from tuner.images import demo
from tuner.images.dataset import Dataset
from tuner.search import estimating, sameness, setup
from tuner.search.costs import Left
from tuner.search.estimating import Estimate
from tuner.search.work import Cut, Kind, Rungs, Work, searching
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import DRAWN
from tuner.store.store import Store

NOT_FETCHED = "not fetched yet"
DOWNLOAD_BYTES = 94_765_736  # ImageNet's weights without the top


@dataclass(frozen=True)
class Plan:
    """All that `tlstudy plan` shows. `notices` are the sentences that a search would say of the space. What the
    `time_budget` is expected to leave out is in the estimate.
    """

    photographs: Mapping[str, int]
    groups: Mapping[str, int]  # by split too; empty where data.groups names none
    kinds: tuple[Kind, ...]
    rungs: tuple[Rungs, ...]
    cuts: tuple[Cut, ...]
    notices: tuple[str, ...]
    begun: bool
    winner_known: bool
    time_budget: str
    patience: int
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
    from tuner.search import draws  # imports KerasTuner, and so Keras

    environment = backend.environment()
    own.make(cache_root())
    # Beside the cache: a temporary folder of the system may be memory, and small.
    with workspace(cache_root()) as staged:
        room = staged.folder
        doing("Looking at the photographs")
        dataset = _images(folder, spec, room, doing)
        with _database(folder, room) as store:
            environment |= {"numerics": sameness.numerics(store)}
            sameness.check_same(folder, spec, store, dataset, environment)
            weights, notices = _weights(folder, spec, store, dataset)
            if weights.key != NOT_FETCHED:
                sameness.check_weights(folder, store, weights)
            work = Work(spec, dataset, store, weights, int(environment["numerics"]), confirm)
            kinds, left = work.kinds(), work.outstanding()
            if left:
                doing("Trying what this machine takes")
                estimate = _estimate(work, left, room / "probe", start, end)
            else:
                estimate = Estimate((), 0.0, 0.0, 0, 0, 0, work.facts.out_of_time)
            s = spec.search
            options = {"max_epochs": s.max_epochs, "factor": s.factor, "iterations": s.hyperband_iterations}
            shrunk = draws.shrunk(work.space, work.plan.brackets, **options)
            return Plan(
                {split: len(dataset.indices(split)) for split in ("train", "val", "test")},
                dataset.group_counts(),
                kinds,
                work.rungs(),
                work.cuts(),
                (*dataset.warnings, *work.space.notices, *([shrunk] if shrunk else []), *notices),
                store.meta("spec") is not None,
                not searching(left),
                s.time_budget,
                s.patience,
                estimate,
            )


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


def _images(folder: StudyFolder, spec: Spec, room: Path, doing: Callable[[str], object]) -> Dataset:
    """As a search would find them; the demo's are drawn aside if the search has not drawn them yet."""
    drawn = spec.data.path.startswith(DRAWN) and not demo.complete(folder.root / "photos")
    return setup.images(spec, StudyFolder(room) if drawn else folder, said=doing)


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
    wanted = setup.wanted_weights(spec, store.meta("weights_kind"))
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
