"""After the search: winner and baseline trained again from fresh seeds, folds if asked for, the test set opened once.

What is trained, for how many epochs and with how many seeds is fixed in the store before the first of them begins;
each is a trial like any other, so it resumes as one. The test images are looked at when all of that has ended, in one
transaction that records the opening too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import RunError
from tuner.images.folds import cross_validation
from tuner.search.candidates import Candidate, Confirms, Fit
from tuner.search.costs import MANY_SEEDS, SEEDS, CostModel
from tuner.search.events import Notice, Phase
from tuner.store import held_out
from tuner.store.store import TrialRow
from tuner.training import logistic
from tuner.training import trial as trials
from tuner.training.network import probabilities
from tuner.training.trial import Workshop, best_of

if TYPE_CHECKING:
    from tuner.search.loop import Search


@dataclass(frozen=True)
class Side:
    """What is confirmed: a configuration of the search and the fixed number of epochs, its best one by validation."""

    name: str  # "winner" or "baseline"
    source: str
    kind: str
    hyperparameters: Mapping[str, int | float]
    epochs: int


def run(search: Search) -> None:
    """Confirms the search's winner against its baseline. Says why when there is nothing to confirm."""
    sides = chosen(search)
    if sides is None:
        text = "Nothing to confirm: no configuration reached max_epochs."
        search.listen(Notice(text, warning=True))
        return
    seeds = _seeds(search, sides)
    folds = search.spec.confirm.folds
    text = " against ".join(
        f"{side.source} ({side.epochs} epochs)" if side.epochs > 1 else side.source for side in sides
    )
    more = f", {folds} folds {search.spec.confirm.repeats} times" if folds else ""
    search.listen(Phase("confirm", f"{text}, {seeds} fresh seeds{more}"))
    for side in sides:
        for seed in range(1, (1 if side.kind == "logistic" else seeds) + 1):
            _seed(search, side, seed)
    for side in sides if folds else ():
        for repeat in range(search.spec.confirm.repeats):
            _folds(search, side, repeat)
    _open_test(search, sides)
    held_out.drop_checkpoints(search.store)


def chosen(search: Search) -> tuple[Side, Side] | None:
    """Winner and baseline by the study's rule; None while either has no full training."""
    found = []
    for name, kinds in (("winner", ("search",)), ("baseline", ("baseline", "logistic"))):
        leaders = [leader for kind in kinds for leader in search.standing.leaders(kind, full=True)[:1]]
        if not leaders:
            return None
        _, source = min(leaders)
        kind, hyperparameters = held_out.configuration(search.store, source)
        best = best_of(search.standing.epochs(source), search.spec.search.objective)
        found.append(Side(name, source, kind, hyperparameters, best.epoch if best else 0))
    return found[0], found[1]


def fixed(search: Search) -> dict[str, Any] | None:
    """Number of seeds and sides of the confirmation of a search that has ended; None when nothing can be confirmed."""
    sides = chosen(search)
    return _plan(search, sides) if sides else None


# ---- fresh seeds ----


def _plan(search: Search, sides: tuple[Side, Side]) -> dict[str, Any]:
    asked, plain = search.spec.confirm.seeds, json.loads(json.dumps([asdict(side) for side in sides]))
    before = search.store.meta("confirmation") or {}
    if asked == "auto" and before.get("sides") == plain and before["seeds"] in (SEEDS, MANY_SEEDS):
        return {"seeds": before["seeds"], "sides": plain}  # fixed once, however work is counted by then
    work = sum(_work(search.cost, search, side) for side in sides)
    return {"seeds": search.cost.seeds(asked, work), "sides": plain}


def _seeds(search: Search, sides: tuple[Side, Side]) -> int:
    """How many fresh seeds, fixed before the first: as asked, else 5, or 10 where both sides are cheap."""
    if (plan := _plan(search, sides)) != search.store.meta("confirmation"):
        search.store.set_meta(confirmation=plan)
    return int(plan["seeds"])


def _work(model: CostModel, search: Search, side: Side) -> float:
    return 0.0 if side.kind == "logistic" else side.epochs * model.work(search.place(side.hyperparameters))


def _seed(search: Search, side: Side, seed: int) -> None:
    if side.kind == "logistic":  # it has no seed: itself is what is confirmed
        held_out.confirms(search.store, side.source, side.source, side.name, seed)
        return
    id = f"{side.source}-s{seed:02d}"
    _train(search, id, "seed", side, Confirms(side.source, side.name, seed), side.epochs, search.workshop)


def _train(search: Search, id: str, kind: str, side: Side, confirms: Confirms, epochs: int, workshop: Workshop) -> None:
    """One more training of a side, unless an earlier session ended it and what is needed of it is whole."""
    ended = search.store.rows("SELECT 1 FROM trials WHERE id = ? AND status <> 'RUNNING'", id)
    if ended and (id not in held_out.awaited(search.store) or _weights(search, id) is not None):
        return
    if ended:
        search.listen(Notice(f"The weights of {id} are missing or damaged: it is trained again.", warning=True))
        search.store.write("UPDATE trials SET status = 'RUNNING' WHERE id = ?", id)
    linear = side.kind == "logistic"
    fit: Fit = logistic.run if linear else trials.run
    row = TrialRow(id, id, None, None, None, 0, 1 if linear else epochs, None)
    number = held_out.number(search.store, id, kind)
    search.one(Candidate(row, kind, number, side.hyperparameters, None, fit, workshop, confirms, kind == "seed"))


def _weights(search: Search, id: str) -> Path | None:
    """The file with a configuration's kept weights, None when it is missing or damaged."""
    saved = search.store.checkpoint(id, "best")
    return search.checkpoints.whole(saved.file, saved.sha256) if saved else None


# ---- folds ----


def _folds(search: Search, side: Side, repeat: int) -> None:
    """Each fold left out once; the epoch is chosen inside the rest (Nadeau and Bengio 2003 give the interval)."""
    for fold, workshop, out in folds_of(search.workshop, search.spec.confirm.folds, search.spec.search.seed, repeat):
        id = f"{side.source}-r{repeat + 1}f{fold + 1}"
        confirms = Confirms(side.source, side.name, 0, fold, repeat)
        _train(search, id, "fold", side, confirms, search.spec.search.max_epochs, workshop)
        if not held_out.known(search.store, id) and held_out.completed(search.store, id):
            chances = _predict(search, id, side.hyperparameters, out)
            with search.store.transaction():
                held_out.record(search.store, id, None, out, chances)
                held_out.drop_checkpoints(search.store)


def folds_of(whole: Workshop, folds: int, seed: int, repeat: int) -> Iterator[tuple[int, Workshop, np.ndarray]]:
    """(fold, the workshop without it, the rows it holds), over training and validation images together."""
    found = cross_validation(
        whole.labels, whole.groups, whole.train, whole.validation, folds=folds, seed=seed, repeat=repeat
    )
    for number, fold in enumerate(found):
        yield number, replace(whole, train=fold.train, validation=fold.validation), fold.out


# ---- the test set ----


def _open_test(search: Search, sides: tuple[Side, Side]) -> None:
    """Predicts the test images with every seed and records that they were looked at; nothing when there are none."""
    rows = search.workshop.test
    wanted = held_out.seeds(search.store, [side.source for side in sides])
    if not len(rows) or all(held_out.known(search.store, id) for id in wanted):
        return
    found = {}
    for id, hyperparameters in wanted.items():
        if not held_out.known(search.store, id):
            found[id] = _predict(search, id, hyperparameters, rows)
            search.pause()
    winner, baseline = (side.source for side in sides)
    with search.store.transaction():
        opening = held_out.open_test(search.store, datetime.now(UTC).isoformat(timespec="seconds"), winner, baseline)
        for id, chances in found.items():
            held_out.record(search.store, id, opening, rows, chances)


def _predict(search: Search, id: str, hyperparameters: Mapping[str, int | float], rows: np.ndarray) -> np.ndarray:
    """Class probabilities float32 (rows, classes) of a configuration's kept weights."""
    path = _weights(search, id)
    if path is None:
        raise RunError(
            f"{search.folder.checkpoints}: the weights of {id} are missing or damaged, so the photographs that were "
            "held out cannot be predicted. Run the same command again: what is lost is trained again."
        )
    with np.load(path, allow_pickle=False) as arrays:
        return predict(search.workshop, search.place(hyperparameters)[0], hyperparameters, dict(arrays), rows)


def predict(
    workshop: Workshop,
    start: str,
    hyperparameters: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    rows: np.ndarray,
) -> np.ndarray:
    """Class probabilities float32 (rows, classes) by weights as a checkpoint holds them."""
    if set(arrays) == set(logistic.NAMES) and start == "pooled" and not hyperparameters["head_width"]:
        kernel, bias = (arrays[name] for name in logistic.NAMES)
        return probabilities(np.asarray(workshop.features.arrays["pooled"][rows] @ kernel + bias, np.float32))
    network = workshop.networks.get(
        start,
        int(hyperparameters["unfrozen_layers"]),
        int(hyperparameters["head_width"]),
        hyperparameters["dropout"] > 0,
    )
    network.load(arrays)
    return probabilities(trials.logits_of(network, workshop.features.arrays[start], rows))
