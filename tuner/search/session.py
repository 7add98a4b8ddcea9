"""One session of a study's search: from the study file to the last trial, in the order the data flow.

spec -> images -> weights -> features at the cuts the space can need -> plan -> driver. Whoever calls `run` gives a
listener and an event that asks it to stop; nothing is printed here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tuner import __version__
from tuner.artifacts.files import cache_root
from tuner.backbones import weights as backbone_weights
from tuner.backbones.architecture import Architecture, architecture
from tuner.backbones.backbone import Backbone
from tuner.backends import backend
from tuner.errors import Interrupted, RunError, UsageError
from tuner.features import bank
from tuner.images.dataset import Dataset
from tuner.search import deaths, sameness, setup
from tuner.search import space as spaces
from tuner.search.budget import Budget, grew
from tuner.search.checkpoints import Checkpoints
from tuner.search.costs import SEEDS
from tuner.search.events import Counted, Listener, Notice, Phase, Planned, Progress
from tuner.spec.rules import Rules, rules_of
from tuner.spec.spec import Spec
from tuner.store import openings, tables
from tuner.store.folder import StudyFolder
from tuner.store.store import Store


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
            openings.record(store)
            environment |= {"numerics": sameness.numerics(store)}
            sameness.check_same(folder, spec, store, dataset, environment, how.extend)
            if not tables.holds(store, tables.Opening):  # else the test images are not sealed any more
                listen(_counted(spec, dataset))
            session = store.begin_session(
                datetime.now(UTC).isoformat(timespec="seconds"), socket.gethostname(), os.getpid(), command, environment
            )
            outcome: str | None = "failed"
            try:
                budget = Budget(spec.search.time_budget, began=began)
                with deaths.watched(folder, store, listen, search=how.search):
                    _search(folder, spec, store, dataset, environment, phases, stop, dict(overrides or {}), how, budget)
                _notice_changes(dataset, listen)
                outcome = "finished"
            except (Interrupted, KeyboardInterrupt):
                outcome = "interrupted"
                raise
            except OSError as error:
                store.check_place()  # raises: a study that was moved away takes its folders with it
                raise RunError(
                    f"{error.filename or folder.root}: {error.strerror or error}. Everything finished so far is kept; "
                    "mend this and run the same command again."
                ) from error
            except Exception as error:
                if not backend.out_of_memory(error):
                    raise
                raise RunError(
                    f"{folder.root}: memory ran out outside of a trial ({type(error).__name__}). Everything finished "
                    "so far is kept: give it more memory, close what else takes some, and run the same command again. "
                    "A smaller data.image_size or search.batch_size, or fewer unfrozen layers, make another study."
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


def _images(folder: StudyFolder, spec: Spec, phases: Phases, stop: threading.Event, confirm: bool) -> Dataset:
    stopped = Interrupted("Stopped before anything was trained.")
    with phases.phase("images", spec.data.path):
        try:
            dataset = setup.images(spec, folder, on_progress=phases.progress("images"), said=phases.notice, stop=stop)
        except KeyboardInterrupt:
            raise stopped from None
    if stop.is_set():
        raise stopped
    warnings, asked = list(dataset.warnings), spec.confirm
    if confirm:
        warnings += dataset.check_folds(folds=asked.folds, repeats=asked.repeats, seed=spec.search.seed)
    for warning in warnings:
        phases.listen(Notice(warning, warning=True))
    return dataset


def _counted(spec: Spec, dataset: Dataset) -> Counted:
    train, validation, test = (len(dataset.indices(split)) for split in ("train", "val", "test"))
    seeds = spec.confirm.seeds if isinstance(spec.confirm.seeds, int) else SEEDS
    groups = dataset.group_counts().get("test")
    return Counted(train, validation, test, seeds=seeds, margin=spec.confirm.margin, groups=groups)


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
    budget: Budget,
) -> None:
    # Only now: this module has to import before a backend is chosen, and these import Keras.
    from tuner.search import draws, facts, schedule
    from tuner.search.confirming import Confirming
    from tuner.search.driver import Driver, Stopped
    from tuner.search.executors.inline import Inline

    listen, s = phases.listen, spec.search
    if os.environ.get("KERASTUNER_ORACLE_IP"):
        # KerasTuner's own tuners would become clients of that server; this program asks nobody.
        text = "KERASTUNER_ORACLE_IP is set and ignored: this search runs in this process alone."
        listen(Notice(text, warning=True))
    if (sentence := sameness.moved(store, environment)) is not None:
        listen(Notice(sentence, warning=True))
    network = architecture(image_size=spec.data.image_size)
    rules = rules_of(int(environment["numerics"]))
    space = spaces.build(spec, network, drifting=rules.drifting_steps)
    for notice in space.notices:
        listen(Notice(notice))
    with phases.phase("backbone", " or ".join(spec.backbone.weights)):
        backbone = _backbone(folder, spec, store, dataset, listen)
    _import_ahead("sklearn.linear_model", "pandas")
    with phases.phase("features", f"{len(dataset.images)} photographs"):
        stored, views = _features(spec, network, backbone, dataset, space, rules, phases, stop)
    plan = setup.make_plan(spec, space, store, dataset, rules, confirm=how.confirm)
    with store.transaction():  # of a wider space, what was drawn anew stands with it
        sameness.record(spec, store, dataset, backbone, space, environment, overrides)
        store.record_plan(plan.brackets, plan.draws, plan.frozen, s.hyperband_iterations)
        store.set_meta(searched=list(space.searched()), folds=list(plan.folds))
        if grew(store, s.time_budget):
            listen(Notice(f"search.time_budget is {s.time_budget} now: what there was no time for is taken up again."))
            store.leave_out(s.time_budget, {})
    networks = setup.compiled(spec, space, backbone, len(dataset.classes))
    context = setup.context(spec, rules, dataset, networks=networks, stored=stored, checkpoints=folder.checkpoints)
    known = facts.read(store, plan.rule)
    budget.spent = known.seconds
    if not how.search and (unfinished := schedule.unfinished(plan, known)):
        raise UsageError(
            f"{folder.root}: {unfinished} of {plan.total} trials of the search have not ended; a "
            f"winner is confirmed when all have. Go on with: tlstudy search {folder.root}"
        )
    options = {"max_epochs": s.max_epochs, "factor": s.factor, "iterations": s.hyperband_iterations}
    if (sentence := draws.shrunk(space, plan.brackets, **options)) is not None:
        listen(Notice(sentence, warning=True))
    cost = setup.cost_model(spec, network, dataset, stored.arrays, views.cuts, stored.rate)
    for values, seconds in setup.trained(plan, known):
        cost.observe(cost.place(values), seconds)
    checkpoints = Checkpoints(folder.checkpoints)
    confirming, executor = Confirming(store, context, checkpoints, cost), Inline(context, stop.is_set)
    driver = Driver(
        plan=plan,
        facts=known,
        store=store,
        checkpoints=checkpoints,
        executor=executor,
        listen=listen,
        stop=stop,
        confirm=confirming,
        cost=cost,
        environment=environment,
        budget=budget,
    )
    done = plan.total - schedule.unfinished(plan, known)
    listen(Planned(plan.brackets, len(plan.frozen), s.max_epochs, s.objective, done, plan.total))
    if done == plan.total:
        ended = "Everything planned was trained before; nothing is left to compute."
        goes_on = "The search ended before; the confirmation is left."
        listen(Notice(ended if schedule.stage(plan, known) is None else goes_on))
    try:
        with phases.phase("training", quiet=True):
            driver.run()
    except Stopped:
        raise Interrupted("Stopped as asked; everything finished is kept.") from None


def _backbone(folder: StudyFolder, spec: Spec, store: Store, dataset: Dataset, listen: Listener) -> Backbone:
    wanted = setup.wanted_weights(spec, store.meta("weights_kind"))
    weights, reasons = backbone_weights.find(wanted, folder.root, spec.search.seed, dataset.key)
    for reason in reasons:
        listen(Notice(reason, warning=True))
    sameness.check_weights(folder, store, weights)
    return setup.load_backbone(spec, dataset, weights)


def _features(
    spec: Spec,
    network: Architecture,
    backbone: Backbone,
    dataset: Dataset,
    space: spaces.Space,
    rules: Rules,
    phases: Phases,
    stop: threading.Event,
) -> tuple[bank.Features, setup.Views]:
    needed, wanted = setup.needed_cuts(spec, network, space, len(dataset.images))
    seen = spaces.augmentations(space)
    means, of_views = setup.read_means(spec, network, len(dataset.images), rules)
    views = setup.needed_views(spec, network, dataset, seen, needed, wanted, means=of_views)
    left_out = [c for c in needed if c not in wanted and c != "image"]
    if left_out:
        text = f"search.feature_budget_gb is too small for the features at {', '.join(left_out)}: "
        phases.listen(Notice(text + "they are recomputed from the stored cut below in every epoch."))
    not_stored = [c for c in wanted if c not in views.cuts]
    if views.augmentations and not_stored:
        text = f"search.feature_budget_gb is too small for the augmented views at {', '.join(not_stored)}: they are "
        text += "recomputed from the stored cut below in every epoch. Fewer data.views, or more room, would spare that."
        phases.listen(Notice(text))
    try:
        features = bank.ensure(
            backbone,
            dataset.images,
            dataset.key,
            wanted=wanted,
            cache=cache_root(),
            means=means,
            mirrored=setup.mirrored(spec, seen),
            on_progress=phases.progress("features"),
            should_stop=stop,
            said=phases.notice,
        )
        progress, said = phases.progress("features"), phases.notice
        found = setup.with_views(features, spec, backbone, dataset, views, on_progress=progress, said=said, stop=stop)
        return found, views
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


def _import_ahead(*modules: str) -> None:
    """Begins to import what will be needed later, in a thread, while this process waits for something else. One that
    fails fails again, and says why, where it is needed.
    """

    def work() -> None:
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    threading.Thread(target=work, name="imports").start()
