"""One trial: a configuration trained from one epoch to another. Plain picklable values in, plain values out.

Nothing here knows the oracle or the store, so the same function can run in another process: `TrialTask` says
everything, `on_epoch` reports each finished epoch, `TrialResult` closes. Checkpoints are written by the trial, named by
the store.
"""

from __future__ import annotations

import errno
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tuner.artifacts.files import write_atomically
from tuner.backends import backend
from tuner.errors import TlstudyError
from tuner.features.bank import Features
from tuner.images.mapped import Rows
from tuner.spec.seeds import generator
from tuner.store.ranking import Key, metric_key
from tuner.store.store import EpochRow, Saved
from tuner.training.network import Network, Networks, log_loss, probabilities

SAVE_EVERY = 10.0
"""Seconds of training between checkpoints: a kill costs the epoch in flight, or this much of short epochs."""
EVALUATION_BATCH = 32
OUT_OF_MEMORY = "out of memory; trained again at half the batch with accumulated gradients"


@dataclass(frozen=True)
class TrialTask:
    """All that a trial depends on. `checkpoint` is the file its state after `start_epoch` epochs lies in."""

    trial: str
    configuration: str
    hyperparameters: Mapping[str, int | float]
    start: str  # the stored cut the network begins at
    first_epoch: int
    start_epoch: int  # where this attempt begins: first_epoch, or later after an interruption
    last_epoch: int
    seed: int
    batch_size: int
    objective: str
    balanced: bool
    checkpoint: str | None
    folder: str
    earlier: tuple[EpochRow, ...] = ()  # the configuration's epochs up to start_epoch
    keep_last: bool = False  # a later rung may go on from the end
    last_bar: Key | None = None  # ... but only if the rank key is below this
    best_bar: Key | None = None  # the best epoch's weights are wanted if the rank key is below this
    fixed: bool = False  # the number of epochs was fixed before: the last one counts, not the best


@dataclass(frozen=True)
class EpochDone:
    """A finished epoch. `probabilities` (validation images, classes) float32 when it is the best so far."""

    row: EpochRow
    is_best: bool
    probabilities: np.ndarray | None
    saved: tuple[Saved, ...]


@dataclass(frozen=True)
class TrialResult:
    """`status` is COMPLETED, FAILED or STOPPED on request, its state saved; `reason`: of a failure, or what was odd."""

    status: str
    best: EpochRow | None
    reason: str | None
    seconds: float
    trained_parameters: int | None


@dataclass
class Workshop:
    """What a process needs to run trials: photographs' features and labels by split, and the compiled networks."""

    features: Features
    labels: np.ndarray  # int64 (n,), all photographs
    train: np.ndarray  # int64, rows of the training photographs
    validation: np.ndarray
    networks: Networks
    classes: int
    test: np.ndarray = field(default_factory=lambda: np.array([], np.int64))  # looked at by the confirmation alone
    groups: np.ndarray | None = None  # int64 (n,): photographs that look the same have the same number
    _linear: Mapping[str, np.ndarray] | None = field(default=None, init=False)

    def linear(self, task: TrialTask) -> Mapping[str, np.ndarray]:
        """The head that logistic regression fits to the training photographs, by variable path; fitted once."""
        from tuner.training import logistic

        if self._linear is None:
            found = logistic.fit_rows(self, task.objective, task.balanced, task.seed)
            self._linear = dict(zip(logistic.NAMES, (found.kernel, found.bias), strict=True))
        return self._linear


class NotFinite(Exception):
    """The loss became NaN or infinite."""


def rank_key(row: EpochRow, objective: str) -> Key:
    """Smaller is better: the objective, then the other metric."""
    return metric_key(objective, row.val_loss, row.val_accuracy)


def best_of(rows: tuple[EpochRow, ...], objective: str) -> EpochRow | None:
    """The best epoch by the objective; the earlier one of equals."""
    return min(rows, key=lambda r: (*rank_key(r, objective), r.epoch), default=None)


def run(
    task: TrialTask, workshop: Workshop, on_epoch: Callable[[EpochDone], None], stop: threading.Event
) -> TrialResult:
    """Trains the task's epochs. A loss that is not finite and any exception of a step end it as FAILED with the reason.

    Out of memory, it begins again at half the batch with accumulated gradients, once, and says so as the reason.
    On `stop` it finishes the epoch, saves its state and returns STOPPED.
    """
    began = time.perf_counter()
    hp = task.hyperparameters
    network: Network | None = None
    note: str | None = None

    def ended(status: str, reason: str | None) -> TrialResult:
        trained = network.trained_parameters if network else None
        return TrialResult(status, trainer.best, reason, time.perf_counter() - began, trained)

    for parts in (1, 2):
        trainer = _Trainer(task, parts)
        try:
            network = workshop.networks.get(
                task.start, int(hp["unfrozen_layers"]), int(hp["head_width"]), hp["dropout"] > 0
            )
            trainer.prepare(network, workshop)
            for epoch in range(task.start_epoch + 1, task.last_epoch + 1):
                if trainer.epoch(network, workshop, epoch, on_epoch, stop):
                    return ended("STOPPED", None)
            return ended("COMPLETED", note)
        except NotFinite as error:
            return ended("FAILED", str(error))
        except (OSError, TlstudyError):  # of the disk or the store, which `on_epoch` writes to: no fault of the trial
            raise
        except Exception as error:  # whatever a backend raises: the trial failed, the search goes on
            reason = f"{type(error).__name__}: {_telling_line(str(error))}"
            if not backend.out_of_memory(error):
                return ended("FAILED", reason)
            note = OUT_OF_MEMORY
    return ended("FAILED", f"out of memory, at half the batch too; {reason}")


def _telling_line(text: str) -> str:
    """The line of a backend's long error that says what went wrong, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return next((line for line in reversed(lines) if "OOM" in line or "Error" in line), lines[-1])[:200]


class _Trainer:
    def __init__(self, task: TrialTask, parts: int = 1) -> None:
        self.task, self.parts = task, parts
        self.best = None if task.fixed else best_of(task.earlier, task.objective)
        self._best_weights: dict[str, np.ndarray] | None = None
        self._saved_at = time.perf_counter()

    def prepare(self, network: Network, workshop: Workshop) -> None:
        task, hp = self.task, self.task.hyperparameters
        if task.checkpoint is None:
            network.reset(task.seed, task.configuration)
            if hp.get("fitted_head"):
                network.set_head(workshop.linear(task))
        else:
            with np.load(task.checkpoint, allow_pickle=False) as arrays:
                network.load(dict(arrays))
        network.set_rates(float(hp["learning_rate"]), float(hp["backbone_rate"]), float(hp["dropout"]))

    def epoch(
        self,
        network: Network,
        workshop: Workshop,
        epoch: int,
        on_epoch: Callable[[EpochDone], None],
        stop: threading.Event,
    ) -> bool:
        """Trains and reports one epoch. True when the trial is to end here before its last epoch, its state saved."""
        task = self.task
        began = time.perf_counter()
        loss, accuracy = self._train(network, workshop, epoch)
        logits = evaluate(network, workshop, task.start, self.parts)
        truth = workshop.labels[workshop.validation]
        chances = probabilities(logits)
        row = EpochRow(
            epoch,
            loss,
            accuracy,
            log_loss(logits, truth),
            float(np.mean(chances.argmax(axis=1) == truth)),
            time.perf_counter() - began,
            len(workshop.train) + len(workshop.validation),
        )
        if not np.isfinite([row.loss, row.val_loss]).all():
            which, value = ("validation", row.val_loss) if np.isfinite(row.loss) else ("training", row.loss)
            raise NotFinite(f"the {which} loss was {value} in epoch {epoch}")
        is_best = self.best is None or rank_key(row, task.objective) < rank_key(self.best, task.objective)
        if task.fixed:
            is_best = epoch == task.last_epoch
        if is_best:
            # The last epoch's are written before anything can change them.
            self.best, self._best_weights = row, network.weights(copied=epoch < task.last_epoch)
        # Looked at once: a stop that comes after the state was or was not saved ends the next epoch.
        leaving = stop.is_set() and epoch < task.last_epoch
        saved = self._save(network, epoch, leaving)
        on_epoch(EpochDone(row, is_best, chances if is_best else None, saved))
        return leaving

    def _train(self, network: Network, workshop: Workshop, epoch: int) -> tuple[float, float]:
        task, hp = self.task, self.task.hyperparameters
        rows, data = workshop.train, Rows(workshop.features.arrays[task.start])
        order = rows[generator(task.seed, task.configuration, "shuffle", epoch).permutation(len(rows))]
        network.seed_dropout(task.seed, task.configuration, "dropout", epoch)
        targets = smoothed_targets(workshop.labels, workshop.classes, float(hp["label_smoothing"]))
        weights = (
            class_weights(workshop.labels[rows], workshop.classes)
            if task.balanced
            else np.ones(workshop.classes, np.float32)
        )
        decay = float(hp["weight_decay"]) * float(hp["learning_rate"])
        decays = network.decays(decay, float(hp["backbone_rate"]))
        size = min(task.batch_size, len(rows))
        sums = []
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            real = len(batch)
            if real < size:
                # A batch of another size would be another trace; the rows added weigh nothing.
                batch = np.concatenate([batch, order[: size - real]])
            weight = weights[workshop.labels[batch]]
            weight[real:] = 0.0
            sums.append(network.stepper.train(data.take(batch), targets[batch], weight, real, decays, self.parts))
        loss, right = (sum(float(s[i]) for s in sums) for i in (0, 1))
        return loss / len(order), right / len(order)

    def _save(self, network: Network, epoch: int, leaving: bool) -> tuple[Saved, ...]:
        """Writes what a resume, a later rung or the winner can need after this epoch; nothing when nobody can."""
        task = self.task
        ending = epoch == task.last_epoch
        key = rank_key(self.best, task.objective) if self.best else ()
        promotable = task.keep_last and (task.last_bar is None or key < task.last_bar)
        if ending:
            last, best = promotable, promotable or task.best_bar is None or key < task.best_bar
        else:
            last = best = leaving or time.perf_counter() - self._saved_at >= SAVE_EVERY
        saved = []
        if last:
            saved.append(self._write("last", epoch, network.state()))
            self._saved_at = time.perf_counter()
        if best and self._best_weights is not None and self.best is not None:
            saved.append(self._write("best", self.best.epoch, self._best_weights))
            self._best_weights = None
        return tuple(saved)

    def _write(self, role: str, epoch: int, arrays: Mapping[str, np.ndarray]) -> Saved:
        return save_arrays(self.task.folder, self.task.configuration, role, epoch, arrays)


def save_arrays(folder: str, configuration: str, role: str, epoch: int, arrays: Mapping[str, np.ndarray]) -> Saved:
    """Writes a checkpoint, whole or not at all. Raises OSError."""
    name = f"{configuration}-{role}-{epoch:05d}.npz"
    path = Path(folder) / name
    try:
        size, digest = write_atomically(path, lambda file: write_arrays(file, arrays))
    except OSError:
        raise
    except Exception as error:
        # zipfile closes its member on the way out and may hide the disk's error behind one of its own; the disk's
        # fault must stop the search, not fail the trial.
        raise _of_the_disk(error, path) from error
    return Saved(role, epoch, name, size, digest)


def evaluate(network: Network, workshop: Workshop, start: str, parts: int = 1) -> np.ndarray:
    """Logits of the validation photographs, float32 (n, 1) or (n, classes); in batches `parts` times smaller."""
    return logits_of(network, workshop.features.arrays[start], workshop.validation, parts)


def logits_of(network: Network, data: np.ndarray, rows: np.ndarray, parts: int = 1) -> np.ndarray:
    """float32 (rows, k) of the photographs numbered `rows` int64 (n,), in batches of one size: one trace."""
    size = -(-len(rows) // -(-len(rows) * parts // EVALUATION_BATCH))
    found, reading = [], Rows(data)
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch))])
        found.append(network.stepper.logits(reading.take(padded))[: len(batch)])
    return np.concatenate(found)


def _of_the_disk(error: BaseException, path: Path) -> OSError:
    """The OSError that another exception came from, else one that says the same."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError):
            return found
        found = found.__cause__ or found.__context__
    return OSError(errno.EIO, f"cannot be written ({type(error).__name__}: {error})", str(path))


def write_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz whose bytes depend on the arrays alone (numpy.savez writes the time of day into it)."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(member, header)
                member.write(array.reshape(-1).view(np.uint8).data)  # numpy's own way copies piece by piece


def smoothed_targets(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """float32 (n, 1) for two classes, (n, classes) for more: one-hot targets, smoothed towards the uniform."""
    if classes == 2:
        return (labels[:, None] * (1.0 - smoothing) + 0.5 * smoothing).astype(np.float32)
    return np.asarray(np.eye(classes)[labels] * (1.0 - smoothing) + smoothing / classes, dtype=np.float32)


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32 (classes,): n / (classes * count), so that each class weighs the same and the mean weight is 1."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.asarray(len(labels) / (classes * counts), dtype=np.float32)
