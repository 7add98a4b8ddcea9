"""A few seconds of a search's own work on made numbers: what this machine takes for it. Nothing of it is kept.

The networks are real and have random weights, the features are drawn; a trial runs as in a search, so that one epoch
here is one epoch there. Everything that has to be written goes to a temporary folder.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tuner.backbones.architecture import Architecture
from tuner.backbones.backbone import Backbone
from tuner.backbones.loading import load
from tuner.backbones.weights import Weights
from tuner.errors import RunError
from tuner.features import bank
from tuner.search import setup
from tuner.search.costs import FROZEN, Place
from tuner.search.schedule import NEVER
from tuner.search.space import Space, head_widths
from tuner.spec.configuration import LOGISTIC, REFERENCE
from tuner.spec.rules import NUMERICS, rules_of
from tuner.spec.spec import Spec
from tuner.store.store import Store, TrialRow
from tuner.training import trial
from tuner.training.context import Context
from tuner.training.network import Networks
from tuner.training.trial import TrialSpec

STEPS = 2
"""Training steps of an epoch of the probe at most, where there are convolutions; a search's epoch is that many times
longer as it has more.
"""
HEAD_STEPS = 50
FITTED = 500  # photographs at most that logistic regression is fitted to here


@dataclass
class Probe:
    """Seconds, by place where the place matters. `epochs`: one more epoch, `networks`: making and tracing the first
    network there, `heads`: another head on it, `loading`: putting a trial's state in, `steps`: the images of an epoch.
    `memory`: the most bytes this process had in use.
    """

    backbone: float = 0.0
    features: float = 0.0
    epochs: dict[Place, float] = field(default_factory=dict)
    networks: dict[Place, float] = field(default_factory=dict)
    heads: dict[Place, float] = field(default_factory=dict)
    per_trial: float = 0.0
    per_fit: float = 0.0
    per_byte: float = 0.0
    per_loaded_byte: float = 0.0
    bytes: dict[Place, int] = field(default_factory=dict)
    memory: int = 0


@dataclass(frozen=True)
class Subject:
    """What is going to be searched: the photographs' numbers, the places, the cuts whose features are wanted, how
    many squares go through the frozen layers for those that are missing, and the cuts whose means are computed with
    them.
    """

    spec: Spec
    space: Space
    network: Architecture
    classes: int
    train: int
    validation: int
    test: int
    places: tuple[Place, ...]
    wanted: tuple[str, ...]
    passes: float
    means: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return self.train + self.validation + self.test


def run(subject: Subject, folder: Path) -> Probe:
    """Measures in the empty folder `folder`. Raises OSError when the disk is full, RunError when a step fails."""
    spec, found = subject.spec, Probe()
    draw = np.random.default_rng(0)

    def images() -> np.ndarray:
        return draw.integers(0, 256, (2, spec.data.image_size, spec.data.image_size, 3), np.uint8)

    began = time.perf_counter()
    backbone = load(subject.network, Weights("random", "probe", None, "probe"), folder, images)
    backbone.parameters()
    found.backbone = time.perf_counter() - began
    if subject.passes:
        found.features = _features(subject, backbone, folder)
    networks = setup.compiled(spec, subject.space, backbone, subject.classes)
    with Store(folder / "probe.db") as store:
        bench = _Bench(subject, networks, folder, store)
        bench.frozen(found)
        for place in _ends(subject):
            bench.place(found, place)
    for place in {FROZEN, *subject.places}:
        found.bytes[place] = subject.network.weight_bytes(place[1], spec.backbone.batch_norm)
    found.memory = most_memory()
    return found


def most_memory() -> int:
    """The most bytes that this process has had in use."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # getrusage(2): bytes there, KiB elsewhere


def _ends(subject: Subject) -> list[Place]:
    """The cheapest and the dearest place that has convolutions."""
    spec = subject.spec
    found = sorted(
        {p for p in subject.places if p != FROZEN},
        key=lambda p: subject.network.step_macs(p[0], p[1], spec.backbone.batch_norm),
    )
    return list(dict.fromkeys([*found[:1], *found[-1:]]))


def _features(subject: Subject, backbone: Backbone, folder: Path) -> float:
    """Seconds to compute and to write the missing features: of two batches here."""
    rows, side = min(subject.images, bank.BATCH + 1), subject.spec.data.image_size
    images = np.random.default_rng(1).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    at = [time.perf_counter()]

    def listen(done: int, total: int) -> None:
        at.append(time.perf_counter())

    bank.ensure(backbone, images, "probe", wanted=subject.wanted, cache=folder, means=subject.means, on_progress=listen)
    at.append(time.perf_counter())
    if rows == subject.images:
        return (at[-1] - at[0]) * subject.passes / rows
    batch = at[2] - at[1]
    return (at[1] - at[0] - batch) + subject.passes * (batch / bank.BATCH + (at[3] - at[2]) / rows)


class _Bench:
    """Trials on made features, recorded as in a search."""

    def __init__(self, subject: Subject, networks: Networks, folder: Path, store: Store) -> None:
        self.subject, self.networks, self.folder, self.store = subject, networks, folder, store
        self._number = 0
        self._record = 0.0
        widths = head_widths(subject.space)
        self._width, self._other = widths[0], widths[-1]

    def frozen(self, found: Probe) -> None:
        """An epoch of a head, what is written around it, and a fit of logistic regression."""
        context, scale = self._context(FROZEN, HEAD_STEPS)
        cold, _ = self._trial(context, FROZEN, 1)
        short, _ = self._trial(context, FROZEN, 1)
        long, seconds = self._trial(context, FROZEN, 6)
        other, _ = self._trial(context, FROZEN, 1, self._other)
        epoch = max((long - short) / 5, 1e-4)
        self._record = max(0.0, epoch - float(np.median(seconds)))
        found.epochs[FROZEN] = (epoch - self._record) * scale + self._record
        found.per_trial = max(0.0, short - epoch)
        found.networks[FROZEN], found.heads[FROZEN] = max(0.0, cold - short), max(0.0, other - short)
        rows = context.train[:FITTED]
        began = time.perf_counter()
        for _ in trial.train(TrialSpec("probe", "probe", LOGISTIC, 1), replace(context, train=rows)):
            pass
        found.per_fit = (time.perf_counter() - began) * self.subject.train / len(rows)

    def place(self, found: Probe, place: Place) -> None:
        """An epoch with convolutions, its trace, another head's, and a checkpoint."""
        context, scale = self._context(place, STEPS)
        cold, _ = self._trial(context, place, 1)
        long, seconds = self._trial(context, place, 2)
        epoch = min(seconds) * scale
        found.epochs[place] = epoch + self._record
        warm = long - sum(seconds) + float(np.mean(seconds))
        found.networks[place] = max(0.0, cold - warm)
        network = self.networks.get(*place, self._width, False)
        state = network.weights()
        size = sum(v.nbytes for v in state.values())
        found.per_loaded_byte = max(0.0, long - sum(seconds) - found.per_trial) / size
        if not found.per_byte:
            other, _ = self._trial(context, place, 1, self._other)
            found.heads[place] = max(0.0, other - warm)
            began = time.perf_counter()
            trial.save_arrays(self.folder, "probe", "best", 1, state)
            found.per_byte = (time.perf_counter() - began) / size

    def _context(self, place: Place, steps: int) -> tuple[Context, float]:
        """Made photographs for at most so many steps, and how many times longer a search's epoch is."""
        s, batch = self.subject, min(self.subject.spec.search.batch_size, self.subject.train)
        train = min(s.train, steps * batch)
        validation = min(s.validation, max(1, steps // 2) * trial.EVALUATION_BATCH)
        rows = train + validation
        shape = s.network.shape(place[0])
        draw = np.random.default_rng(2)
        # One batch's numbers again and again: a search reads its rows from disk, a batch at a time.
        some = min(rows, max(batch, trial.EVALUATION_BATCH))
        image = place[0] == "image"
        made = draw.integers(0, 256, (some, *shape), np.uint8) if image else draw.random((some, *shape), np.float32)
        labels = np.arange(rows) % s.classes
        context = Context(
            bank.Features(
                {place[0]: made}, (), mirror=bank.Features({place[0]: made}, ()) if s.spec.search.mirrored else None
            ),
            labels[:some],
            np.arange(train) % some,
            np.arange(train, rows) % some,
            self.networks,
            s.classes,
            setup.recipe(s.spec.override({"search.patience": 0}), rules_of(NUMERICS)),
            s.network,
            self.folder,
        )
        each, checked = s.network.step_macs(*place, s.spec.backbone.batch_norm)
        each, checked = max(each, 3), max(checked, 1)  # a head alone: forward and twice that back
        checked *= 1 + s.spec.search.mirrored

        def work(of: int, asked: int) -> int:
            # A last batch that is not full is filled up: it takes as long as another.
            per = -(-asked // -(-asked // trial.EVALUATION_BATCH))
            return -(-of // batch) * batch * each + -(-asked // per) * per * checked

        return context, work(s.train, s.validation) / work(train, validation)

    def _trial(
        self, context: Context, place: Place, epochs: int, width: int | None = None
    ) -> tuple[float, list[float]]:
        """Seconds of a whole recorded trial, and of each of its epochs. Raises RunError when it fails."""
        self._number += 1
        name, seconds = f"p{self._number}", list[float]()
        values = replace(
            REFERENCE,
            unfrozen_layers=place[1],
            head_width=self._width if width is None else width,
            learning_rate=1e-6,
        )
        began = time.perf_counter()
        with self.store.transaction():
            self.store.add_configuration(name, "search", self._number, values.to_dict(), place[0], None)
            self.store.begin_trial(TrialRow(name, name, 0, 0, 0, 0, epochs, None))
        training = trial.train(TrialSpec(name, "probe", values, epochs, best_bar=NEVER), context)
        while True:
            try:
                done = next(training)
            except StopIteration as end:
                result = end.value
                break
            seconds.append(done.row.seconds)
            self.store.record_epoch(name, name, done.row, b"", done.saved)
        with self.store.transaction():
            self.store.end_trial(name, result.status, 0.0, 1, None, result.seconds)
        if result.status != "COMPLETED":
            raise RunError(
                f"Training cannot be tried here ({result.reason}). Use a smaller data.image_size or search.batch_size, "
                "fewer unfrozen layers, or more memory."
            )
        return time.perf_counter() - began, seconds
