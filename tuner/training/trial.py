"""One trial: a configuration trained for some epochs, exactly as if it had never been interrupted.

`train` is a generator: each finished epoch is handed out when its files are written, and the next one begins when the
caller comes back for it, which is when the epoch is recorded. Nothing here knows the store.
"""

from __future__ import annotations

import errno
import math
import time
import zipfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tuner.artifacts.files import write_atomically
from tuner.backends import backend
from tuner.evidence.metrics import score
from tuner.features import sets
from tuner.images.views import NONE
from tuner.spec.configuration import LOGISTIC, SEVERAL_CUTS, Configuration
from tuner.spec.seeds import generator
from tuner.store.losses import packed
from tuner.store.ranking import Key, best_of, out_of_patience, rank_of
from tuner.store.store import EpochRow, Saved
from tuner.training import logistic, several
from tuner.training.batches import Source, batches, mix
from tuner.training.context import Context, Rows
from tuner.training.network import Network, averaged, log_loss, probabilities
from tuner.training.subset import SPLIT, Subset

SAVE_EVERY = 10.0
"""Seconds of training between checkpoints: a kill costs the epoch in flight, or this much of short epochs."""
EVALUATION_BATCH = 32
OUT_OF_MEMORY = "out of memory; trained again at half the batch with accumulated gradients"


@dataclass(frozen=True)
class TrialSpec:
    """All that a trial depends on besides its study's context, and nothing alive.

    Everything random is named by `configuration`. `state`: the checkpoint it goes on from, `weights`: the one with its
    best epoch's weights before that; `best`: that epoch, the best or the last as the study's rule says. `keep_last`: a
    later rung may go on from the end, but only if the rank is not worse than `last_bar`; `best_bar`: the same for the
    best epoch's weights (None: kept anyway). `fixed`: the number of epochs was fixed before, so the last one counts,
    not the best. `tutorial`: by the tutorial's own recipe, whatever the study's is.
    """

    id: str
    configuration: str
    values: Configuration
    last_epoch: int
    subset: Subset = SPLIT
    state: Saved | None = None
    weights: Saved | None = None
    best: EpochRow | None = None
    keep_last: bool = False
    last_bar: Key | None = None
    best_bar: Key | None = None
    fixed: bool = False
    tutorial: bool = False

    @property
    def start_epoch(self) -> int:
        """Epochs that are trained already."""
        return self.state.epoch if self.state is not None else 0


@dataclass(frozen=True, eq=False)
class EpochFinished:
    """`probabilities` float32 (validation images, classes) when it is the best epoch so far; `saved`: files written;
    `losses`: of each validation image, packed.
    """

    row: EpochRow
    is_best: bool
    probabilities: np.ndarray | None
    saved: tuple[Saved, ...]
    losses: bytes


@dataclass(frozen=True, eq=False)
class TrialResult:
    """`status` is COMPLETED, FAILED or STOPPED on request, its state saved; `reason`: of a failure, or what was odd.
    `held_out`: float32 (rows held out, classes) by the best epoch's weights, None where nothing was. `cuts`: those that
    a regression on several chose.
    """

    status: str
    best: EpochRow | None
    reason: str | None
    seconds: float
    trained_parameters: int | None
    held_out: np.ndarray | None = None
    cuts: tuple[str, ...] = ()


Training = Generator[EpochFinished, None, TrialResult]


class NotFinite(Exception):
    """The loss became NaN or infinite."""


def train(spec: TrialSpec, context: Context, should_stop: Callable[[], bool] = lambda: False) -> Training:
    """Trains the spec's epochs. A loss that is not finite and any exception of a step end it as FAILED with the reason.

    Out of memory, it begins again at half the batch with accumulated gradients, once, and says so as the reason.
    When `should_stop` says so it finishes the epoch, saves its state and returns STOPPED. Raises OSError when a
    checkpoint cannot be written: no fault of the trial.
    """
    if spec.values.learning_rate is None:
        return (yield from _fit(spec, context, should_stop))
    began = time.perf_counter()
    trained: int | None = None
    note: str | None = None
    for parts in (1, 2):
        trainer = _Trainer(spec, context, parts)
        held_out: np.ndarray | None = None
        status, reason = "COMPLETED", note
        try:
            network = context.network(spec.values)
            trained = network.trained_parameters
            trainer.prepare(network)
            epoch = spec.start_epoch
            while not trainer.ends(epoch):
                epoch += 1
                done, leaving = trainer.epoch(network, epoch, should_stop)
                yield done
                if leaving:
                    status, reason = "STOPPED", None
                    break
            else:
                held_out = trainer.predict(network)
        except NotFinite as error:
            status, reason = "FAILED", str(error)
        except OSError:
            raise
        except Exception as error:  # whatever a backend raises: the trial failed, the search goes on
            status, reason = "FAILED", f"{type(error).__name__}: {_telling_line(str(error))}"
            if backend.out_of_memory(error):
                if parts == 1:
                    note = OUT_OF_MEMORY
                    continue
                reason = f"out of memory, at half the batch too; {reason}"
        break
    return TrialResult(status, trainer.best, reason, time.perf_counter() - began, trained, held_out)


def _telling_line(text: str) -> str:
    """The line of a backend's long error that says what went wrong, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return next((line for line in reversed(lines) if "OOM" in line or "Error" in line), lines[-1])[:200]


def _fit(spec: TrialSpec, context: Context, should_stop: Callable[[], bool]) -> Training:
    """Logistic regression as one epoch of one trial, with the same metrics as a trained head."""
    began = time.perf_counter()
    rows, labels = context.rows(spec.subset), context.labels
    try:
        found = linear(context, spec.subset, spec.values, should_stop)
    except logistic.FitStopped:
        return TrialResult("STOPPED", None, None, time.perf_counter() - began, None)
    chosen = found.cuts if isinstance(found, several.Fit) else ()

    def logits(of: np.ndarray) -> np.ndarray:
        return averaged([found.logits(view.joined(chosen or ["pooled"], of)) for view in context.features.views])

    seen = [number for number, weight in _views(context, spec.values).items() if weight]
    on_train = found.logits(_joined(context, spec.values, chosen or ["pooled"], rows.train, seen))
    truth = np.tile(labels[rows.train], len(seen))
    on_validation = logits(rows.validation)
    chances = probabilities(on_validation)
    judged: tuple[float, float, float | None] = (
        log_loss(on_validation, labels[rows.validation]),
        _accuracy(chances, labels[rows.validation]),
        score(context.recipe.rule.objective, chances, labels[rows.validation]),
    )
    images = len(rows.train) + len(rows.validation)
    if spec.subset.name == "all":  # it was fitted to these images: what it says of them is no validation
        judged, images = (math.nan, math.nan, None if judged[2] is None else math.nan), len(rows.train)
    row = EpochRow(
        1,
        log_loss(on_train, truth),
        _accuracy(probabilities(on_train), truth),
        judged[0],
        judged[1],
        time.perf_counter() - began,
        images,
        judged[2],
    )
    saved: tuple[Saved, ...] = ()
    if spec.best_bar is None or rank_of(row, context.recipe.rule) <= spec.best_bar:
        arrays = found.arrays()
        saved = (save_arrays(context.checkpoints, spec.configuration, "best", 1, arrays),)
    yield EpochFinished(row, True, chances, saved, packed(chances, labels[rows.validation]))
    held_out = probabilities(logits(rows.held_out)) if len(rows.held_out) else None
    seconds = time.perf_counter() - began
    return TrialResult("COMPLETED", row, None, seconds, found.kernel.size + found.bias.size, held_out, chosen)


def linear(
    context: Context, subset: Subset, values: Configuration, should_stop: Callable[[], bool] = lambda: False
) -> logistic.Fit:
    """Logistic regression as `values` asks for it, fitted once in a process."""
    fit = fit_cuts if values.cuts else fit_rows
    return context.linear(subset, values, lambda: fit(context, context.rows(subset), values, should_stop))


def fit_rows(
    context: Context, rows: Rows, values: Configuration = LOGISTIC, should_stop: Callable[[], bool] = lambda: False
) -> logistic.Fit:
    """Logistic regression on the pooled features of the training rows, of all views that `values` asks for."""
    views = _views(context, values)
    return logistic.fit(
        _joined(context, values, ["pooled"], rows.train, views), _task(context, rows, views, should_stop)
    )


def fit_cuts(
    context: Context, rows: Rows, values: Configuration, should_stop: Callable[[], bool] = lambda: False
) -> several.Fit:
    """Logistic regression on the means at several cuts of the training rows, those that `values` asks for."""
    views = _views(context, values)
    asked = sets.asked(values.cuts, context.architecture, len(context.labels) * len(views))
    means = {cut: _joined(context, values, [cut], rows.train, views) for cut in ("pooled", *sets.read(asked))}
    return several.fit(means, asked, _task(context, rows, views, should_stop))


def _views(context: Context, values: Configuration) -> dict[int, float]:
    """The views that logistic regression reads, the image itself first, and what a row of each weighs."""
    name = values.augmentation
    numbers = (0,) if name == NONE else context.features.mean_views(name, "pooled").numbers
    return sets.views(numbers, len(context.labels), several=bool(values.cuts))


def _joined(
    context: Context, values: Configuration, cuts: Sequence[str], rows: np.ndarray, views: Iterable[int]
) -> np.ndarray:
    """float32 (views * rows, sum of channels): the means at `cuts`, joined, of one view after another."""
    each = [context.features.joined(cuts, rows, values.augmentation, number) for number in views]
    return np.concatenate(each) if len(each) > 1 else each[0]


def _task(context: Context, rows: Rows, views: Mapping[int, float], should_stop: Callable[[], bool]) -> logistic.Task:
    recipe = context.recipe
    return logistic.Task(
        labels=context.labels[rows.train],
        classes=context.classes,
        objective=recipe.rule.objective,
        balanced=recipe.balanced,
        seed=recipe.seed,
        groups=None if context.groups is None else context.groups[rows.train],
        views=tuple(views.values()),
        rules=recipe.rules,
        should_stop=should_stop,
    )


class _Trainer:
    def __init__(self, spec: TrialSpec, context: Context, parts: int = 1) -> None:
        self.spec, self.context, self.parts = spec, context, parts
        self.recipe = context.recipe.tutorial() if spec.tutorial else context.recipe
        self.rows = context.rows(spec.subset)
        self.looks = context.looks(spec.values)
        self.best = None if spec.fixed else spec.best
        self._best_weights: dict[str, np.ndarray] | None = None
        self._saved_best = 0
        self._saved_at = time.perf_counter()

    def prepare(self, network: Network) -> None:
        spec, values = self.spec, self.spec.values
        if spec.state is None:
            network.reset(self.recipe.seed, spec.configuration)
            # A frozen head that began where logistic regression ends would have nothing left to learn.
            trained = self.context.start(values) != "pooled" or self.recipe.rules.fits_frozen_heads
            if values.head_init == "linear_probe" and trained:
                network.begin_linear(self._probe())
        else:
            network.load(self._read(spec.state))
        network.set_dropout(float(values.dropout))

    def _probe(self) -> dict[str, np.ndarray]:
        """The linear classifier of the frozen features that the head reads, of such views of the images as the trial is
        trained on, no surer than it may be of other images; of cuts that were not chosen zeros.
        """
        context, values, rows = self.context, self.spec.values, self.rows.train
        seen = "none" if self.recipe.rules.plain_regressions else values.augmentation
        asked = replace(SEVERAL_CUTS if values.reads_several else LOGISTIC, augmentation=seen)
        fit = linear(context, self.spec.subset, asked)
        cuts = fit.cuts if isinstance(fit, several.Fit) else ("pooled",)
        sure = 1.0
        if not self.recipe.rules.sharp_probes:
            sure = fit.confidence(context.features.joined(cuts, rows), context.labels[rows])
        width = sum(context.architecture.shape(cut)[-1] for cut in context.head_cuts(values))
        kernel = np.zeros((width, fit.kernel.shape[1]), np.float32)
        kernel[: len(fit.kernel)] = fit.kernel * np.float32(sure)
        return dict(zip(logistic.NAMES, (kernel, fit.bias * np.float32(sure)), strict=True))

    def ends(self, epoch: int) -> bool:
        """Whether nothing is trained after this epoch: it is the last, or the patience ran out. That holds for a
        promoted trial from its beginning too. The tutorial has no patience, nor a fixed number of epochs (no best one).
        """
        if epoch >= self.spec.last_epoch:
            return True
        return not self.spec.tutorial and out_of_patience(self.best, epoch, self.context.recipe.rule)

    def epoch(self, network: Network, epoch: int, should_stop: Callable[[], bool]) -> tuple[EpochFinished, bool]:
        """Trains one epoch. True when the trial is to end here before its last epoch, its state saved."""
        spec, rule = self.spec, self.context.recipe.rule
        began = time.perf_counter()
        loss, accuracy = self._train(network, epoch)
        with network.ema_weights():
            logits = logits_of(network, self.looks, self.rows.validation, self.parts)
        truth = self.context.labels[self.rows.validation]
        chances = probabilities(logits)
        row = EpochRow(
            epoch,
            loss,
            accuracy,
            log_loss(logits, truth),
            _accuracy(chances, truth),
            time.perf_counter() - began,
            len(self.rows.train) + len(self.rows.validation),
            score(rule.objective, chances, truth),
        )
        if not np.isfinite([row.loss, row.val_loss]).all():
            which, value = ("validation", row.val_loss) if np.isfinite(row.loss) else ("training", row.loss)
            raise NotFinite(f"the {which} loss was {value} in epoch {epoch}")
        is_best = self.best is None or best_of((self.best, row), rule) is row
        if spec.fixed:
            is_best = epoch == spec.last_epoch
        if is_best:
            # The last epoch's are written before anything can change them; where the last one counts, no other is.
            last = epoch == spec.last_epoch
            wanted = last or rule.checkpoint == "best"
            self.best, self._best_weights = row, network.weights(copied=not last) if wanted else None
        # Looked at once: a stop that comes after the state was or was not saved ends the next epoch.
        leaving = should_stop() and not self.ends(epoch)
        saved = self._save(network, epoch, leaving)
        return EpochFinished(row, is_best, chances if is_best else None, saved, packed(chances, truth)), leaving

    def _train(self, network: Network, epoch: int) -> tuple[float, float]:
        spec, values, recipe, context = self.spec, self.spec.values, self.recipe, self.context
        rows, data = self.rows.train, context.training_data(values, spec.configuration, epoch)
        order = rows[generator(recipe.seed, spec.configuration, "shuffle", epoch).permutation(len(rows))]
        network.seed_dropout(recipe.seed, spec.configuration, "dropout", epoch)
        targets = smoothed_targets(context.labels, context.classes, float(values.label_smoothing))
        weights = (
            class_weights(context.labels[rows], context.classes)
            if recipe.balanced
            else np.ones(context.classes, np.float32)
        )
        steps = -(-len(order) // recipe.batch_size)
        scales = float(values.backbone_lr_multiplier), float(values.layer_decay)
        set_rate: float | None = None
        alpha = float(values.mixup)
        mixed = generator(recipe.seed, spec.configuration, "mixup", epoch) if alpha else None
        # A batch of another size is another trace, so the last one is filled with rows that weigh nothing; but those
        # would enter the statistics of a BatchNorm that is trained.
        padded = recipe.batch_norm == "frozen" or recipe.rules.padded_batches
        sums = []
        for step, (batch, real) in enumerate(batches(order, recipe.batch_size, padded=padded)):
            weight = weights[context.labels[batch]]
            weight[real:] = 0.0
            inputs, wanted = data.take(batch), targets[batch]
            rate = values.rate * recipe.share((epoch - 1) + (step + 0.5) / steps)
            if rate != set_rate:
                network.set_rate(rate, *scales)
                decays, set_rate = network.decays(float(values.weight_decay) * rate, *scales), rate
            if mixed is not None:
                inputs, wanted, weight = mix(inputs, wanted, weight, real=real, alpha=alpha, draw=mixed)
            keep = recipe.ema if step or epoch > 1 else 0.0
            sums.append(network.stepper.train(inputs, wanted, weight, real, decays, self.parts, keep))
        loss, correct = (sum(float(s[i]) for s in sums) for i in (0, 1))
        return loss / len(order), correct / len(order)

    def predict(self, network: Network) -> np.ndarray | None:
        """Class probabilities of the rows held out, by the best epoch's weights; nothing is trained afterwards."""
        if not len(self.rows.held_out):
            return None
        if self.best is not None and self.best.epoch < self.spec.last_epoch:  # else they are in the network
            if self._best_weights is not None:
                network.load(self._best_weights)
            elif self.spec.weights is not None:
                network.load(self._read(self.spec.weights))
            return probabilities(logits_of(network, self.looks, self.rows.held_out, self.parts))
        with network.ema_weights():
            return probabilities(logits_of(network, self.looks, self.rows.held_out, self.parts))

    def _save(self, network: Network, epoch: int, leaving: bool) -> tuple[Saved, ...]:
        """Writes what a resume, a later rung or the winner can need after this epoch; nothing when nobody can."""
        spec = self.spec
        rank = rank_of(self.best, self.context.recipe.rule)
        if self.ends(epoch):
            last = spec.keep_last and _not_worse(rank, spec.last_bar)
            best = last or _not_worse(rank, spec.best_bar)
        else:
            last = best = leaving or time.perf_counter() - self._saved_at >= SAVE_EVERY
        saved = []
        if last:
            saved.append(self._write("last", epoch, network.state()))
            self._saved_at = time.perf_counter()
        if best and self._best_weights is not None and self.best is not None and self.best.epoch != self._saved_best:
            saved.append(self._write("best", self.best.epoch, self._best_weights))
            self._saved_best = self.best.epoch
            if not len(self.rows.held_out):
                self._best_weights = None
        return tuple(saved)

    def _write(self, role: str, epoch: int, arrays: Mapping[str, np.ndarray]) -> Saved:
        return save_arrays(self.context.checkpoints, self.spec.configuration, role, epoch, arrays)

    def _read(self, saved: Saved) -> dict[str, np.ndarray]:
        with np.load(self.context.checkpoints / saved.file, allow_pickle=False) as arrays:
            return dict(arrays)


def _not_worse(rank: Key, bar: Key | None) -> bool:
    return bar is None or rank <= bar


def _accuracy(chances: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(chances.argmax(axis=1) == labels))


def save_arrays(folder: Path, configuration: str, role: str, epoch: int, arrays: Mapping[str, np.ndarray]) -> Saved:
    """Writes a checkpoint into a folder that is there, whole or not at all. Raises OSError."""
    if not folder.is_dir():  # a study that was moved away must not come back as an empty one
        raise FileNotFoundError(errno.ENOENT, "this folder is gone", str(folder))
    name = f"{configuration}-{role}-{epoch:05d}.npz"
    path = folder / name
    try:
        size, digest = write_atomically(path, lambda file: write_arrays(file, arrays))
    except OSError:
        raise
    except Exception as error:
        # zipfile closes its member on the way out and may hide the disk's error behind one of its own; the disk's
        # fault must stop the search, not fail the trial.
        raise _of_the_disk(error, path) from error
    return Saved(role, epoch, name, size, digest)


def predict(values: Configuration, arrays: Mapping[str, np.ndarray], context: Context, rows: np.ndarray) -> np.ndarray:
    """Class probabilities float32 (rows, classes) by weights as a checkpoint holds them."""
    if values.cuts:
        found = several.Fit.of(arrays, context.architecture)
        each = [found.logits(view.joined(found.cuts, rows)) for view in context.features.views]
        return probabilities(averaged(each))
    looks, start = context.looks(values), context.start(values)
    if set(arrays) == set(logistic.NAMES) and start == "pooled" and not values.head_width:
        kernel, bias = (arrays[name] for name in logistic.NAMES)
        return probabilities(averaged([np.asarray(pooled.take(rows) @ kernel + bias, np.float32) for pooled in looks]))
    network = context.network(values)
    network.load(arrays)
    return probabilities(logits_of(network, looks, rows))


def logits_of(network: Network, looks: Sequence[Source], rows: np.ndarray, parts: int = 1) -> np.ndarray:
    """Logits of the images numbered `rows` int64 (n,), `averaged` over `looks`: theirs, and may be their mirror
    images'.
    """
    return averaged([_logits(network, source, rows, parts) for source in looks])


def _logits(network: Network, source: Source, rows: np.ndarray, parts: int) -> np.ndarray:
    """float32 (rows, k), in batches of one size: one trace."""
    size = -(-len(rows) // -(-len(rows) * parts // EVALUATION_BATCH))
    found = []
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch))])
        found.append(network.stepper.logits(source.take(padded))[: len(batch)])
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
