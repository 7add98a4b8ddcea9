"""One session of a study's search: from the study file to the last trial, in the order the data flow.

spec -> images -> weights -> features at the cuts the space can need -> plan -> driver. Whoever calls `run` gives a
listener and an event that asks it to stop; nothing is printed here.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner import __version__
from tuner.artifacts.entries import Said, silent
from tuner.artifacts.files import cache_root
from tuner.backbones import weights as backbone_weights
from tuner.backbones.architecture import Architecture, architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.loading import load
from tuner.backends import backend
from tuner.errors import Interrupted, RunError, StudyError, UsageError
from tuner.features import bank
from tuner.images import demo
from tuner.images.dataset import Dataset, prepare
from tuner.images.folds import cross_validation
from tuner.search import ahead, moved
from tuner.search import space as spaces
from tuner.search.checkpoints import Checkpoints
from tuner.search.costs import CostModel
from tuner.search.events import Counted, Listener, Notice, Phase, Planned, Progress
from tuner.search.facts import Facts
from tuner.search.plan import LEAST_BASELINE, Plan, trials_at_full_budget
from tuner.spec import spec as specs
from tuner.spec.configuration import Configuration
from tuner.spec.rules import NUMERICS, OLDEST, Rules, rules_of
from tuner.spec.spec import Spec
from tuner.store import held_out, ids, tables
from tuner.store.folder import StudyFolder
from tuner.store.locate import DRAWN
from tuner.store.store import Store

if TYPE_CHECKING:
    from tuner.training.network import Networks

SAME = ("backend", "keras", "tensorflow", "jax", "devices", "machine", "numerics")
"""Facts of the environment that a resumed study must share: other ones may round differently."""


@dataclass(frozen=True)
class How:
    """`extend`: more of Hyperband's iterations and a wider space are taken, what was done is kept. `confirm`: winner
    and baseline are trained again from fresh seeds when the search has ended; `search` False: only that, of a search
    that has ended. `fresh`: old results are moved aside, once images and weights are known to be usable.
    """

    extend: bool = False
    confirm: bool = True
    search: bool = True
    fresh: bool = False


def run(
    folder: StudyFolder,
    spec: Spec,
    listen: Listener,
    stop: threading.Event,
    *,
    command: str,
    overrides: Mapping[str, Any] | None = None,
    how: How = How(),  # noqa: B008 - immutable
) -> None:
    """Searches until everything planned has ended.

    Raises Interrupted when asked to stop (all that finished is kept), UsageError for input that cannot be used,
    RunError.
    """
    phases = Phases(listen)
    began = time.perf_counter()
    with folder.locked():
        backbone_weights.begin(spec.backbone.weights, folder.root)
        with phases.phase("start", "importing Keras"):
            environment = backend.environment() | {"tlstudy": __version__}
        dataset = _images(folder, spec, phases, stop, how.confirm)
        if how.fresh:
            _move_aside(folder, spec, dataset, listen)
        with Store(folder.database) as store:
            environment |= {"numerics": numerics(store)}
            check_same(folder, spec, store, dataset, environment, how.extend)
            session = store.begin_session(
                datetime.now(UTC).isoformat(timespec="seconds"), socket.gethostname(), os.getpid(), command, environment
            )
            outcome: str | None = "failed"
            try:
                _search(folder, spec, store, dataset, environment, phases, stop, dict(overrides or {}), how)
                _notice_changes(dataset, listen)
                outcome = "finished"
            except (Interrupted, KeyboardInterrupt):
                outcome = "interrupted"
                raise
            except OSError as error:
                raise RunError(
                    f"{error.filename or folder.root}: {error.strerror or error}. Everything finished so far is kept; "
                    "mend this and run the same command again."
                ) from error
            except Exception as error:
                if not backend.out_of_memory(error):
                    raise
                raise RunError(
                    f"{folder.root}: memory ran out outside of a trial ({type(error).__name__}). Everything finished "
                    "so far is kept. Use a smaller data.image_size or search.batch_size, fewer unfrozen layers, or "
                    "more memory, and run the same command again."
                ) from error
            finally:
                store.update_session(session, time.perf_counter() - began, outcome, phases.seconds)


class Phases:
    """Says where a session is, and adds up what each phase takes."""

    def __init__(self, listen: Listener) -> None:
        self.listen = listen
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, detail: str = "", quiet: bool = False) -> Iterator[None]:
        if not quiet:
            self.listen(Phase(name, detail))
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def notice(self, text: str) -> None:
        self.listen(Notice(text))

    def progress(self, phase: str) -> Callable[[int, int], None]:
        def say(done: int, total: int) -> None:
            self.listen(Progress(phase, done, total))

        return say


# ---- the stages ----


def _images(folder: StudyFolder, spec: Spec, phases: Phases, stop: threading.Event, confirm: bool) -> Dataset:
    stopped = Interrupted("Stopped before anything was trained.")
    with phases.phase("images", spec.data.path):
        try:
            dataset = images(spec, folder, on_progress=phases.progress("images"), said=phases.notice, stop=stop)
        except KeyboardInterrupt:
            raise stopped from None
    if stop.is_set():
        raise stopped
    warnings, asked = list(dataset.warnings), spec.confirm
    if confirm:
        warnings += dataset.check_folds(folds=asked.folds, repeats=asked.repeats, seed=spec.search.seed)
    for warning in warnings:
        phases.listen(Notice(warning, warning=True))
    phases.listen(Counted(*(len(dataset.indices(split)) for split in ("train", "val", "test"))))
    return dataset


def _search(
    folder: StudyFolder,
    spec: Spec,
    store: Store,
    dataset: Dataset,
    environment: Mapping[str, Any],
    phases: Phases,
    stop: threading.Event,
    overrides: Mapping[str, Any],
    how: How,
) -> None:
    # Only now: this module has to import before a backend is chosen, and these import Keras.
    from tuner.search import draws, facts, schedule
    from tuner.search.confirming import Confirming
    from tuner.search.driver import Driver, Stopped
    from tuner.search.executors.inline import Inline
    from tuner.training.context import Context

    listen, s = phases.listen, spec.search
    if os.environ.get("KERASTUNER_ORACLE_IP"):
        # KerasTuner's own tuners would become clients of that server; this program asks nobody.
        text = "KERASTUNER_ORACLE_IP is set and ignored: this search runs in this process alone."
        listen(Notice(text, warning=True))
    if (sentence := moved.notice(store, environment)) is not None:
        listen(Notice(sentence, warning=True))
    network = architecture(image_size=spec.data.image_size)
    rules = rules_of(int(environment["numerics"]))
    space = spaces.build(spec, network, drifting=rules.drifting_steps)
    for notice in space.notices:
        listen(Notice(notice))
    with phases.phase("backbone", " or ".join(spec.backbone.weights)):
        backbone = _backbone(folder, spec, store, dataset, listen)
    ahead.imported("sklearn.linear_model", "pandas")
    with phases.phase("features", f"{len(dataset.images)} photographs"):
        stored = _features(spec, network, backbone, dataset, space, phases, stop)
    plan = make_plan(spec, space, store, dataset, rules, confirm=how.confirm)
    _record(spec, store, dataset, backbone, space, environment, overrides)
    context = Context(
        stored,
        dataset.labels,
        dataset.indices("train"),
        dataset.indices("val"),
        compiled(spec, space, backbone, len(dataset.classes)),
        len(dataset.classes),
        recipe(spec, rules),
        network,
        folder.checkpoints,
        dataset.indices("test"),
        np.array(dataset.groups, np.int64),
    )
    known = facts.read(store, s.objective)
    if not how.search and (unfinished := schedule.unfinished(plan, known)):
        raise UsageError(
            f"{folder.root}: {unfinished} of {plan.total} trials of the search have not ended; a "
            f"winner is confirmed when all have. Go on with: tlstudy search {folder.root}"
        )
    options = {"max_epochs": s.max_epochs, "factor": s.factor, "iterations": s.hyperband_iterations}
    if (sentence := draws.shrunk(space, plan.brackets, **options)) is not None:
        listen(Notice(sentence, warning=True))
    with store.transaction():
        store.record_plan(plan.brackets, plan.draws, plan.frozen, s.hyperband_iterations)
        store.set_meta(searched=list(space.searched()), folds=list(plan.folds))
    cost = cost_model(spec, network, dataset, stored.arrays, stored.rate)
    for values, seconds in trained(plan, known):
        cost.observe(cost.place(values), seconds)
    checkpoints = Checkpoints(folder.checkpoints)
    confirming, executor = Confirming(store, context, checkpoints, cost), Inline(context, stop.is_set)
    driver = Driver(plan, known, store, checkpoints, executor, listen, stop, confirming, cost, environment)
    done = plan.total - schedule.unfinished(plan, known)
    listen(Planned(plan.brackets, len(plan.frozen), s.max_epochs, s.objective, done, plan.total))
    if done == plan.total:
        listen(Notice("Everything planned was trained before; nothing is left to compute."))
    try:
        with phases.phase("training", quiet=True):
            driver.run()
    except Stopped:
        raise Interrupted("Stopped as asked; everything finished is kept.") from None


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
    if known and Spec.from_dict(store.meta("spec")).space != spec.space:
        known = known[: _begun(store)]
    drawn = draws.draw(space, brackets, seed=s.seed, drawn=known, by_trial_count=rules.draws_by_trial_count)
    kept, wanted = store.baseline(), max(LEAST_BASELINE, trials_at_full_budget(brackets))
    further = spaces.frozen_configurations(space, wanted, s.seed) if len(kept) < wanted else []
    frozen = (*kept, *[c for c in further if c not in kept][: max(0, wanted - len(kept))])
    return Plan(
        brackets,
        drawn,
        frozen,
        s.objective,
        s.max_epochs,
        spec.confirm if confirm else None,
        _folds(spec, dataset),
        bool(len(dataset.indices("test"))),
    )


def _begun(store: Store) -> int:
    """How many configurations were drawn up to the last one of them that was begun."""
    return 1 + max((t.number for t in store.trials() if t.kind == "search"), default=-1)


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
    return Recipe(s.seed, s.batch_size, s.objective, s.class_weight == "balanced", spec.backbone.batch_norm, rules)


def cost_model(
    spec: Spec, network: Architecture, dataset: Dataset, stored: Any, rate: float | None = None
) -> CostModel:
    """What an epoch of a configuration costs, while nothing was measured."""
    train, validation, test = (len(dataset.indices(split)) for split in ("train", "val", "test"))
    return CostModel(network, spec.backbone.batch_norm, stored, train, validation, test, rate)


def trained(plan: Plan, known: Facts) -> Iterator[tuple[Configuration, list[float]]]:
    """The seconds of every finished epoch of earlier sessions, by configuration; logistic regression has none."""
    values = {t.configuration: t.values for t in plan.baseline}
    values |= {ids.searched(d.number): d.values for d in plan.draws}
    for name, epochs in known.epochs.items():
        of = values.get(name) or values.get(ids.source_of(name))
        if of is not None and of.learning_rate is not None:
            yield of, [e.seconds for e in epochs]


def _backbone(folder: StudyFolder, spec: Spec, store: Store, dataset: Dataset, listen: Listener) -> Backbone:
    wanted = wanted_weights(spec, store.meta("weights_kind"))
    weights, reasons = backbone_weights.find(wanted, folder.root, spec.search.seed, dataset.key)
    for reason in reasons:
        listen(Notice(reason, warning=True))
    check_weights(folder, store, weights)
    return load_backbone(spec, dataset, weights)


def wanted_weights(spec: Spec, used: str | None) -> tuple[str, ...]:
    """A study that began with one of the list stays with it, whatever the network allows today."""
    return tuple(w for w in spec.backbone.weights if w == used) or spec.backbone.weights


def check_weights(folder: StudyFolder, store: Store, weights: backbone_weights.Weights) -> None:
    """Raises StudyError when the results are of other weights."""
    known = store.meta("weights_key")
    if known is not None and known != weights.key:
        raise StudyError(
            f"{folder.root}: the results here were made with other weights ({store.meta('weights')}), "
            f"now {weights.name} with different numbers. Name the same file, or start again: "
            "tlstudy search --fresh (moves the old results aside)."
        )


def _features(
    spec: Spec,
    network: Architecture,
    backbone: Backbone,
    dataset: Dataset,
    space: spaces.Space,
    phases: Phases,
    stop: threading.Event,
) -> bank.Features:
    budget = spec.search.feature_budget_gb * 1e9
    needed, wanted = needed_cuts(spec, network, space, len(dataset.images))
    left_out = [c for c in needed if c not in wanted and c != "image"]
    if left_out:
        text = f"search.feature_budget_gb is too small for the features at {', '.join(left_out)}: "
        phases.listen(Notice(text + "they are recomputed from the stored cut below in every epoch."))
    try:
        return bank.ensure(
            backbone,
            dataset.images,
            dataset.key,
            wanted,
            cache_root(),
            on_progress=phases.progress("features"),
            should_stop=stop,
            budget=budget,
            said=phases.notice,
        )
    except KeyboardInterrupt:
        raise Interrupted("Stopped while the features were computed; what was whole is kept.") from None


def _move_aside(folder: StudyFolder, spec: Spec, dataset: Dataset, listen: Listener) -> None:
    backbone_weights.find(spec.backbone.weights, folder.root, spec.search.seed, dataset.key)
    if (aside := folder.move_results_aside()) is not None:
        listen(Notice(f"The old results are in {os.path.relpath(aside)}."))


def _notice_changes(dataset: Dataset, listen: Listener) -> None:
    """What was searched is what was read at the start; that it is no longer there is said, as a resume would."""
    if changed := dataset.changed():
        some = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        number = f"{len(changed)} photograph{'s' * (len(changed) != 1)}"
        text = (
            f"{number} changed or went away while the search ran: {some}. "
            "The results are of those read at its start; going on and exporting need them as they were."
        )
        listen(Notice(text, warning=True))


# ---- the record, and whether it is still the same study ----


def _record(
    spec: Spec,
    store: Store,
    dataset: Dataset,
    backbone: Backbone,
    space: spaces.Space,
    environment: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> None:
    with store.transaction():
        store.set_meta(
            spec=spec.to_dict(),
            overrides=dict(overrides),
            classes=list(dataset.classes),
            data_path=spec.data.path,
            data_key=dataset.key,
            weights=backbone.weights.name,
            weights_kind=backbone.weights.kind,
            weights_key=backbone.weights.key,
            pretrained=backbone.weights.pretrained,
            warnings=[*dataset.warnings, *space.notices],
            val_labels=dataset.labels[dataset.indices("val")].tolist(),
            backbone_parameters=backbone.parameters(),
            environment={k: v for k, v in environment.items() if k in SAME},
        )
        if store.meta("test_seal") is None:
            test = [vars(p) for p in dataset.records if p.split == "test"]
            store.set_meta(test_seal=held_out.seal(test) if test else "")
        store.record_images(
            ((p.path, p.split, p.label, p.sha256, p.verdict.width, p.verdict.height) for p in dataset.records),
            ((x.path, x.reason) for x in dataset.left_out),
        )


def numerics(store: Store) -> int:
    """Of a study that began, its own; of a new one today's."""
    if store.meta("spec") is None:
        return NUMERICS
    began = int(store.meta("environment", {}).get("numerics", 1))
    return began if began >= OLDEST else NUMERICS


def check_same(
    folder: StudyFolder,
    spec: Spec,
    store: Store,
    dataset: Dataset,
    environment: Mapping[str, Any],
    extend: bool = False,
) -> None:
    """Refuses to mix two studies in one database. Raises StudyError with each difference."""
    if store.meta("spec") is None:
        return
    before_spec = Spec.from_dict(store.meta("spec"))
    lines = specs.differences(before_spec, spec)
    can_extend = bool(lines) and not specs.refused_by_extension(before_spec, spec)
    if extend:
        _check_extension(folder, spec, store, before_spec)
        lines = specs.refused_by_extension(before_spec, spec)
    if not lines and not same_images(store, dataset):
        lines.append("the photographs changed: other files, other bytes, or another order, split or class")
    if store.meta("classes") != list(dataset.classes):
        lines.append(f"classes: {store.meta('classes')} -> {list(dataset.classes)}")
    before = {"numerics": 1} | store.meta("environment", {})
    lines += [f"{k}: {before.get(k)} -> {environment.get(k)}" for k in SAME if before.get(k) != environment.get(k)]
    if lines:
        raise StudyError(
            f"{folder.root}: the results here answer another question:\n  "
            + "\n  ".join(lines)
            + "\nPut it back as it was to go on, "
            + ("go on with the larger one: tlstudy search --extend, " if can_extend and not extend else "")
            + "or start again: tlstudy search --fresh (moves the old results aside)."
        )


def same_images(store: Store, dataset: Dataset) -> bool:
    """Whether they are those of the study, in its order, each in the split and the class it had: the key says nothing
    of these two.
    """
    before = [(image.split, image.label, image.sha256) for image in tables.rows(store, tables.Image)]
    now = [(image.split, image.label, image.sha256) for image in dataset.records]
    return store.meta("data_key") == dataset.key and before == now


def _check_extension(folder: StudyFolder, spec: Spec, store: Store, before: Spec) -> None:
    """Raises UsageError when an extension would have nothing to train."""
    more = spec.search.hyperband_iterations > before.search.hyperband_iterations
    if not more and (begun := _begun(store)) and begun >= sum(b.sizes[0] for b in store.brackets()):
        raise UsageError(
            f"{folder.root}: every configuration that Hyperband's {before.search.hyperband_iterations} "
            "iterations draw was drawn; more are tried with more iterations: "
            f"--extend --set search.hyperband_iterations={before.search.hyperband_iterations + 1}"
        )


# ---- parts that a plan and an export share ----


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
    return prepare(data, place, cache_root(), seed, on_progress, if_missing=moved, said=said, stop=stop)


def needed_cuts(
    spec: Spec, network: Architecture, space: spaces.Space, images: int
) -> tuple[dict[str, int], tuple[str, ...]]:
    """(the cuts that the space can need and how many depths begin there, those whose features are stored)."""
    needed: dict[str, int] = {"pooled": 1}
    for depth in spaces.depths(space):
        cut = network.cut_for(depth, spec.backbone.batch_norm)
        needed[cut] = needed.get(cut, 0) + 1
    budget = spec.search.feature_budget_gb * 1e9
    return needed, bank.worth_storing(needed, images, network, budget)


def compiled(spec: Spec, space: spaces.Space, backbone: Backbone, classes: int) -> Networks:
    """The networks that a study's trials train, none made yet."""
    from tuner.training.network import Networks

    s, widths = spec.search, spaces.head_widths(space)
    return Networks(backbone, classes, spec.backbone.batch_norm, s.optimizer, s.precision, widths)


def load_backbone(spec: Spec, dataset: Dataset, weights: backbone_weights.Weights) -> Backbone:
    """The backbone of a study; random weights are calibrated on training images spread over the classes."""

    def calibration() -> np.ndarray:
        rows = dataset.indices("train")
        some = np.linspace(0, len(rows) - 1, min(len(rows), backbone_weights.CALIBRATION_IMAGES)).astype(int)
        return np.asarray(dataset.images[rows[some]])

    return load(architecture(image_size=spec.data.image_size), weights, cache_root(), calibration)
