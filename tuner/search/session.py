"""One `tlstudy search`: from the study file to the last trial, in the order the data flow.

study.toml -> photographs -> weights -> features at the cuts the space can need -> baseline and Hyperband. Whoever calls
it gives a listener and an event that asks it to stop; nothing is printed here.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner import __version__
from tuner.artifacts.files import cache_root
from tuner.backbones import cuts
from tuner.backbones import weights as backbone_weights
from tuner.backbones.resnet import IMAGENET_MEAN_RGB, Backbone
from tuner.backends import backend
from tuner.errors import Interrupted, RunError, StudyError, UsageError
from tuner.features import bank as features
from tuner.images import demo
from tuner.images.dataset import Dataset, prepare
from tuner.search import ahead, moved
from tuner.search import space as spaces
from tuner.search.events import Counted, Listener, Notice, Phase, Progress
from tuner.spec import spec as specs
from tuner.spec.spec import Spec
from tuner.store import held_out
from tuner.store.folder import StudyFolder
from tuner.store.locate import DRAWN
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.training.network import Networks

SAME = ("backend", "keras", "tensorflow", "jax", "devices", "machine", "numerics")
"""Facts of the environment that a resumed study must share: other ones may round differently."""


@dataclass
class Session:
    """What one run of the command knows; `resume_command` is what the user types to go on."""

    folder: StudyFolder
    spec: Spec
    listen: Listener
    stop: threading.Event
    command: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    extend: bool = False  # more of Hyperband's iterations and a wider space are taken, what was done is kept
    confirm: bool = True  # winner and baseline are trained again from fresh seeds when the search has ended
    search: bool = True  # False: only that, of a search that has ended
    fresh: bool = False  # old results are moved aside, once photographs and weights are known to be usable
    phases: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Searches until everything planned has ended.

        Raises Interrupted when asked to stop (all that finished is kept), UsageError for input that cannot be used,
        RunError.
        """
        began = time.perf_counter()
        with self.folder.locked():
            backbone_weights.begin(self.spec.backbone.weights, self.folder.root)
            with self._phase("start", "importing Keras"):
                environment = backend.environment() | {"tlstudy": __version__}
            dataset = self._photographs()
            self._stop_here()
            if self.fresh:
                self._move_aside(dataset)
            with Store(self.folder.database) as store:
                self.check_same(store, dataset, environment)
                session = store.begin_session(
                    datetime.now(UTC).isoformat(timespec="seconds"),
                    socket.gethostname(),
                    os.getpid(),
                    self.command,
                    environment,
                )
                outcome: str | None = "failed"
                try:
                    self._search(store, dataset, environment)
                    self._notice_changes(dataset)
                    outcome = "finished"
                except (Interrupted, KeyboardInterrupt):
                    outcome = "interrupted"
                    raise
                except OSError as error:
                    raise RunError(
                        f"{error.filename or self.folder.root}: {error.strerror or error}. Everything finished so "
                        "far is kept; "
                        "mend this and run the same command again."
                    ) from error
                except Exception as error:
                    if not backend.out_of_memory(error):
                        raise
                    raise RunError(
                        f"{self.folder.root}: memory ran out outside of a trial ({type(error).__name__}). Everything "
                        "finished so far is kept. Use a smaller data.image_size or search.batch_size, fewer unfrozen "
                        "layers, or more memory, and run the same command again."
                    ) from error
                finally:
                    store.update_session(session, time.perf_counter() - began, outcome, self.phases)

    # ---- the stages ----

    def _photographs(self) -> Dataset:
        with self._phase("images", self.spec.data.path):
            dataset = photographs(self.spec, self.folder, self._progress("images"))
        asked, warnings = self.spec.confirm, list(dataset.warnings)
        if self.confirm:
            warnings += dataset.check_folds(folds=asked.folds, repeats=asked.repeats, seed=self.spec.search.seed)
        for warning in warnings:
            self.listen(Notice(warning, warning=True))
        self.listen(Counted(*(len(dataset.indices(split)) for split in ("train", "val", "test"))))
        return dataset

    def _search(self, store: Store, dataset: Dataset, environment: Mapping[str, Any]) -> None:
        # Only now: this module has to import before a backend is chosen, and these import Keras.
        from tuner.search.loop import Search, Stopped
        from tuner.training.trial import Workshop

        if os.environ.get("KERASTUNER_ORACLE_IP"):
            # KerasTuner's own tuners would become clients of that server; this program's oracle asks nobody.
            text = "KERASTUNER_ORACLE_IP is set and ignored: this search runs in this process alone."
            self.listen(Notice(text, warning=True))
        if (sentence := moved.notice(store, environment)) is not None:
            self.listen(Notice(sentence, warning=True))
        space = spaces.build(self.spec)
        for notice in space.notices:
            self.listen(Notice(notice))
        with self._phase("backbone", " or ".join(self.spec.backbone.weights)):
            backbone = self._backbone(store, dataset)
        ahead.imported("sklearn.linear_model", "pandas")
        with self._phase("features", f"{len(dataset.images)} photographs"):
            stored = self._features(backbone, dataset, space)
        self._record(store, dataset, backbone, space)
        networks = compiled(self.spec, space, backbone, len(dataset.classes))
        workshop = Workshop(
            stored,
            dataset.labels,
            dataset.indices("train"),
            dataset.indices("val"),
            networks,
            len(dataset.classes),
            dataset.indices("test"),
            np.array(dataset.groups, np.int64),
        )
        search = Search(
            self.folder, store, self.spec, space, workshop, self.listen, self.stop, stored.rate, self.confirm
        )
        if not self.search and search.unfinished():
            raise UsageError(
                f"{self.folder.root}: {search.unfinished()} of {search.total} trials of the search have not ended; a "
                f"winner is confirmed when all have. Go on with: tlstudy search {self.folder.root}"
            )
        if (sentence := search.oracle.shrunk()) is not None:
            self.listen(Notice(sentence, warning=True))
        with store.transaction():
            search.record_plan()
            store.set_meta(searched=list(space.searched()))
        try:
            with self._phase("training", quiet=True):
                search.run()
        except Stopped:
            raise Interrupted("Stopped as asked; everything finished is kept.") from None

    def _backbone(self, store: Store, dataset: Dataset) -> Backbone:
        used = store.meta("weights_kind")
        wanted = self.spec.backbone.weights
        if used is not None and len(wanted) > 1:
            # A study that began with one of the list stays with it, whatever the network allows today.
            wanted = tuple(w for w in wanted if w == used) or wanted
        weights, reasons = backbone_weights.find(wanted, self.folder.root, self.spec.search.seed, dataset.key)
        for reason in reasons:
            self.listen(Notice(reason, warning=True))
        self.check_weights(store, weights)
        return load_backbone(self.spec, dataset, weights)

    def check_weights(self, store: Store, weights: backbone_weights.Weights) -> None:
        """Raises StudyError when the results are of other weights."""
        known = store.meta("weights_key")
        if known is not None and known != weights.key:
            raise StudyError(
                f"{self.folder.root}: the results here were made with other weights ({store.meta('weights')}), "
                f"now {weights.name} with different numbers. Name the same file, or start again: "
                "tlstudy search --fresh (moves the old results aside)."
            )

    def _features(self, backbone: Backbone, dataset: Dataset, space: spaces.Space) -> features.Features:
        budget = self.spec.search.feature_budget_gb * 1e9
        needed, wanted = needed_cuts(self.spec, space, len(dataset.images))
        left_out = [c for c in needed if c not in wanted and c != "image"]
        if left_out:
            text = f"search.feature_budget_gb is too small for the features at {', '.join(left_out)}: "
            self.listen(Notice(text + "they are recomputed from the stored cut below in every epoch."))
        try:
            return features.ensure(
                backbone,
                dataset.images,
                dataset.key,
                wanted,
                cache_root(),
                self._progress("features"),
                self.stop,
                budget,
            )
        except KeyboardInterrupt:
            raise Interrupted("Stopped while the features were computed; what was whole is kept.") from None

    def _move_aside(self, dataset: Dataset) -> None:
        seed = self.spec.search.seed
        backbone_weights.find(self.spec.backbone.weights, self.folder.root, seed, dataset.key)
        if (aside := self.folder.move_results_aside()) is not None:
            self.listen(Notice(f"The old results are in {os.path.relpath(aside)}."))

    def _notice_changes(self, dataset: Dataset) -> None:
        """What was searched is what was read at the start; that it is no longer there is said, as a resume would."""
        if changed := dataset.changed():
            some = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
            number = f"{len(changed)} photograph{'s' * (len(changed) != 1)}"
            text = (
                f"{number} changed or went away while the search ran: {some}. "
                "The results are of those read at its start; going on and exporting need them as they were."
            )
            self.listen(Notice(text, warning=True))

    # ---- the record, and whether it is still the same question ----

    def _record(self, store: Store, dataset: Dataset, backbone: Backbone, space: spaces.Space) -> None:
        with store.transaction():
            store.set_meta(
                spec=self.spec.to_dict(),
                overrides=dict(self.overrides),
                classes=list(dataset.classes),
                data_path=self.spec.data.path,
                data_key=dataset.key,
                weights=backbone.weights.name,
                weights_kind=backbone.weights.kind,
                weights_key=backbone.weights.key,
                pretrained=backbone.weights.pretrained,
                warnings=[*dataset.warnings, *space.notices],
                val_labels=dataset.labels[dataset.indices("val")].tolist(),
                backbone_parameters=backbone.parameters(),
                environment={k: v for k, v in (backend.environment()).items() if k in SAME},
            )
            if store.meta("test_seal") is None:
                test = [vars(p) for p in dataset.photographs if p.split == "test"]
                store.set_meta(test_seal=held_out.seal(test) if test else "")
            store.record_photographs(
                ((p.path, p.split, p.label, p.sha256, p.width, p.height) for p in dataset.photographs),
                ((x.path, x.reason) for x in dataset.left_out),
            )

    def check_same(self, store: Store, dataset: Dataset, environment: Mapping[str, Any]) -> None:
        """Refuses to mix two questions in one database. Raises StudyError with each difference."""
        if store.meta("spec") is None:
            return
        before_spec = Spec.from_dict(store.meta("spec"))
        lines = specs.differences(before_spec, self.spec)
        can_extend = bool(lines) and not specs.refused_by_extension(before_spec, self.spec)
        if self.extend:
            self._check_extension(store, before_spec)
            lines = specs.refused_by_extension(before_spec, self.spec)
        if not lines and store.meta("data_key") != dataset.key:
            lines.append("the photographs changed: other files, other bytes, or another order")
        if store.meta("classes") != list(dataset.classes):
            lines.append(f"classes: {store.meta('classes')} -> {list(dataset.classes)}")
        before = {"numerics": 1} | store.meta("environment", {})
        lines += [f"{k}: {before.get(k)} -> {environment.get(k)}" for k in SAME if before.get(k) != environment.get(k)]
        if lines:
            raise StudyError(
                f"{self.folder.root}: the results here answer another question:\n  "
                + "\n  ".join(lines)
                + "\nPut it back as it was to go on, "
                + ("go on with the larger one: tlstudy search --extend, " if can_extend and not self.extend else "")
                + "or start again: tlstudy search --fresh (moves the old results aside)."
            )

    def _check_extension(self, store: Store, before: Spec) -> None:
        """Raises UsageError when an extension would have nothing to train."""
        more = self.spec.search.hyperband_iterations > before.search.hyperband_iterations
        left = store.rows("SELECT COUNT(*) FROM trials WHERE iteration IS NOT NULL AND rung = 0")[0][0]
        planned = sum(b["sizes"][0] for b in store.meta("plan", []))
        if planned and left >= planned and not more:
            raise UsageError(
                f"{self.folder.root}: every configuration that Hyperband's {before.search.hyperband_iterations} "
                "iterations draw was drawn; more are tried with more iterations: "
                f"--extend --set search.hyperband_iterations={before.search.hyperband_iterations + 1}"
            )

    # ---- small things ----

    @contextmanager
    def _phase(self, name: str, detail: str = "", quiet: bool = False) -> Iterator[None]:
        if not quiet:
            self.listen(Phase(name, detail))
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - began

    def _progress(self, phase: str) -> Any:
        return lambda done, total: self.listen(Progress(phase, done, total))

    def _stop_here(self) -> None:
        if self.stop.is_set():
            raise Interrupted("Stopped before anything was trained.")


def photographs(spec: Spec, folder: StudyFolder, on_progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The study's photographs, decoded or from the cache; the demo's are drawn first. Raises DataError."""
    data = spec.data
    if data.path.startswith(DRAWN):
        demo.draw(folder.root / "photos")
        data = replace(data, path="photos")
    moved = f"If the photographs moved: tlstudy search {shlex.quote(str(folder.root))} --data PLACE"
    return prepare(data, folder.root, cache_root(), spec.search.seed, on_progress, if_missing=moved)


def needed_cuts(spec: Spec, space: spaces.Space, images: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """(the cuts that the space can need and how many depths begin there, those whose features are stored)."""
    needed: dict[str, int] = {"pooled": 1}
    for depth in spaces.depths(space):
        cut = cuts.cut_for(depth, spec.backbone.batch_norm)
        needed[cut] = needed.get(cut, 0) + 1
    budget = spec.search.feature_budget_gb * 1e9
    return needed, features.worth_storing(needed, images, spec.data.image_size, budget)


def compiled(spec: Spec, space: spaces.Space, backbone: Backbone, classes: int) -> Networks:
    """The networks that a study's trials train, none made yet."""
    from tuner.training.network import Networks

    return Networks(
        backbone,
        classes,
        spec.backbone.batch_norm,
        spec.search.optimizer,
        spec.search.precision,
        spaces.head_widths(space),
    )


def load_backbone(spec: Spec, dataset: Dataset, weights: backbone_weights.Weights) -> Backbone:
    """The backbone of a study; random weights are calibrated on training photographs spread over the classes."""

    def calibration() -> np.ndarray:
        rows = dataset.indices("train")
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), backbone_weights.CALIBRATION_IMAGES)).astype(int)]
        return np.asarray(dataset.images[some], np.float32) - np.array(IMAGENET_MEAN_RGB, np.float32)

    return Backbone(spec.data.image_size, weights, cache_root(), calibration)
