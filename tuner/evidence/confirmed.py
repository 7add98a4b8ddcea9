"""Fills `Findings` from what the confirmation recorded: a function of the snapshot alone, nothing is stored twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence import said
from tuner.evidence.calibration import Calibration, calibration
from tuner.evidence.findings import Findings, Interval, Rate, Selection, Side
from tuner.evidence.folds import corrected_resampled
from tuner.evidence.merging import usable
from tuner.evidence.paired import Comparison, compare
from tuner.evidence.selection import expected_best, selection_cost
from tuner.evidence.snapshot import Snapshot
from tuner.evidence.statistics import wilson
from tuner.evidence.verdict import Verdict, verdict
from tuner.spec.seeds import generator


@dataclass(frozen=True)
class Judged:
    """One side's fresh seeds: bool (seeds, images), right or not, and how many seeds failed."""

    right: NDArray[np.bool_]
    failed: int


def findings(snapshot: Snapshot, ranking: pd.DataFrame, baselines: list[Any]) -> Findings:
    """The verdict and its evidence. `ranking`: the searched configurations, best first; `baselines`: the rows of the
    better baseline and of the other one.

    `kind` is "open" as long as the confirmation has not ended for the present winner and baseline.
    """
    plan = snapshot.confirmation
    margin = snapshot.study.spec.confirm.margin
    ground = "test" if "test" in snapshot.study.counts else "validation"
    chosen = selection(snapshot, ranking, baselines[0]) if baselines and len(ranking) else None
    if not _is_current(plan, ranking, baselines):
        return Findings("open", said.OPEN, tuple(said.selection(chosen)), ground, 0, 0, margin, selection=chosen)
    judged = [_judged(snapshot, side["name"], side["source"], ground) for side in plan["sides"]]
    rows = [next(iter(ranking.to_dict(orient="records"))), baselines[0]]
    sides = [_side(snapshot, s, j, r) for s, j, r in zip(plan["sides"], judged, rows, strict=True)]
    expected = [plan["seeds"], 1 if plan["sides"][1]["kind"] == "logistic" else plan["seeds"]]
    ended = [len(j.right) + j.failed for j in judged]
    other = _other(baselines)
    if ended < expected or not all(len(j.right) for j in judged):
        text, lines = said.FAILED if ended >= expected else said.OPEN, tuple(said.selection(chosen))
        seeds = min(ended)
        return Findings("open", text, lines, ground, 0, seeds, margin, sides[0], sides[1], other, selection=chosen)
    compared = compare(judged[0].right, judged[1].right)
    reached = verdict(compared, margin, exploratory=ground != "test")
    return _filled(snapshot, ground, compared, reached, (sides[0], sides[1]), other, chosen)


def _filled(
    snapshot: Snapshot,
    ground: str,
    compared: Comparison,
    reached: Verdict,
    sides: tuple[Side, Side],
    other: Side | None,
    chosen: Selection | None,
) -> Findings:
    folds, made = _folds(snapshot, sides)
    found = Findings(
        reached.kind,
        reached.sentence,
        (),
        ground,
        compared.n,
        compared.seeds,
        reached.margin,
        *sides,
        other,
        Interval(compared.difference, compared.low, compared.high, compared.method),
        compared.mcnemar,
        snapshot.openings,
        folds,
        made,
        chosen,
    )
    sure = calibrated(snapshot, sides[0].configuration)
    return replace(found, evidence=(*said.evidence(found), *said.calibration(sure, ground)))


def _is_current(plan: Mapping[str, Any], ranking: pd.DataFrame, baselines: list[Any]) -> bool:
    """Whether what was confirmed is the present winner and the present baseline."""
    if not plan or not len(ranking) or not baselines:
        return False
    return [side["source"] for side in plan["sides"]] == [ranking.iloc[0]["id"], baselines[0]["id"]]


def _judged(snapshot: Snapshot, side: str, source: str, ground: str) -> Judged:
    """Every fresh seed of one side, on the images of the verdict."""
    right, failed = [], 0
    for row in snapshot.confirmations:
        if (row["source"], row["side"]) != (source, side) or row["fold"] >= 0:
            continue
        if row["status"] == "FAILED":
            failed += 1
        elif ground == "test":
            if (held := snapshot.held_out.get(row["configuration"])) is not None:
                right.append(_right(held[1], np.array([snapshot.labels[i] for i in held[0]])))
        elif row["status"] == "COMPLETED" and (stored := snapshot.predictions.get(row["configuration"])) is not None:
            right.append(_right(stored[1], np.array(snapshot.study.val_labels)))
    return Judged(np.array(right, dtype=bool).reshape(len(right), -1), failed)


def calibrated(snapshot: Snapshot, winner: str) -> Calibration | None:
    """How far the winner's probabilities can be believed: its first fresh seed on the images of the verdict; None while
    it has none.
    """
    ground = "test" if "test" in snapshot.study.counts else "validation"
    for row in snapshot.confirmations:
        if row["source"] == winner and row["fold"] < 0 and row["status"] == "COMPLETED":
            if ground == "test" and (held := snapshot.held_out.get(row["configuration"])) is not None:
                return _calibration(snapshot, held[1], [snapshot.labels[i] for i in held[0]])
            if ground != "test" and (stored := snapshot.predictions.get(row["configuration"])) is not None:
                return _calibration(snapshot, stored[1], list(snapshot.study.val_labels))
    return None


def _calibration(snapshot: Snapshot, chances: bytes, truth: list[int]) -> Calibration:
    shares = np.frombuffer(chances, dtype="<f4").reshape(len(truth), -1).astype(np.float64)
    return calibration(shares, np.array(truth), generator(snapshot.study.spec.search.seed, "calibration"))


def _right(chances: bytes, truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    shares = np.frombuffer(chances, dtype="<f4").reshape(len(truth), -1)
    return np.asarray(shares.argmax(axis=1) == truth)


def _side(snapshot: Snapshot, planned: Mapping[str, Any], judged: Judged, row: Any) -> Side:
    accuracies = tuple(float(a) for a in judged.right.mean(axis=1)) if judged.right.size else ()
    first = _rate(int(judged.right[0].sum()), judged.right.shape[1]) if judged.right.size else None
    epochs = 0 if planned["kind"] == "logistic" else int(planned["epochs"])
    return Side(str(row["id"]), str(row["kind"]), epochs, accuracies, judged.failed, _searched(row), first)


def _other(baselines: list[Any]) -> Side | None:
    if len(baselines) < 2:
        return None
    row = baselines[1]
    return Side(str(row["id"]), str(row["kind"]), int(row["best_epoch"]), (), 0, _searched(row), None)


def _searched(row: Any) -> Rate | None:
    return None if pd.isna(row["correct"]) else _rate(int(row["correct"]), int(row["validation"]))


def _rate(correct: int, n: int) -> Rate:
    return Rate(correct, n, *wilson(correct, n))


# ---- what choosing cost ----


def selection(snapshot: Snapshot, ranking: pd.DataFrame, baseline: Any) -> Selection | None:
    """The bootstrap over the configurations that the winner was chosen among, and the expected best of n of them.

    None while there is nothing to choose from or predictions are missing.
    """
    study = snapshot.study
    rows = [row for row in ranking.to_dict(orient="records") if usable(row)]
    full = [row for row in rows if row["full"]] or rows
    truth = np.array(study.val_labels)
    chances = [_shares(snapshot, str(row["id"])) for row in sorted(full, key=lambda row: int(row["number"]))]
    frozen = _shares(snapshot, str(baseline["id"]))
    if len(full) < 2 or frozen is None or any(c is None for c in chances) or not len(truth):
        return None
    shares = np.stack([c for c in chances if c is not None])
    with np.errstate(divide="ignore"):
        loss = -np.log(shares[:, np.arange(len(truth)), truth].astype(np.float64))
    draw = generator(study.spec.search.seed, "what choosing cost")
    objective = study.spec.search.objective
    found = selection_cost(
        np.minimum(loss, 100.0), shares.argmax(axis=2) == truth, frozen.argmax(axis=1) == truth, objective, draw
    )
    if not found.draws:
        return None
    corrected = Interval(found.difference, found.difference_low, found.difference_high, "bootstrap bias-corrected")
    return Selection(found.difference_said, corrected, found.draws, _expected(snapshot))


def _shares(snapshot: Snapshot, configuration: str) -> NDArray[np.float32] | None:
    found = snapshot.predictions.get(configuration)
    shape = (snapshot.study.validation, len(snapshot.study.classes))
    if found is None or len(found[1]) != 4 * shape[0] * shape[1]:
        return None
    return np.frombuffer(found[1], dtype="<f4").reshape(shape)


def _expected(snapshot: Snapshot) -> tuple[tuple[int, float], ...]:
    """Of the bracket that draws most configurations, after its first rung: later rungs hold survivors only."""
    rows = [t for t in snapshot.trials if t["rung"] == 0 and t["status"] == "COMPLETED"]
    if not rows:
        return ()
    drawn = Counter((t["iteration"], t["bracket"]) for t in rows)
    most = max(sorted(drawn), key=lambda bracket: drawn[bracket])
    best: dict[str, float] = {}
    last = {t["configuration"]: t["last_epoch"] for t in rows if (t["iteration"], t["bracket"]) == most}
    for e in snapshot.epochs:
        name = e["configuration"]
        if name in last and e["epoch"] <= last[name] and e["val_accuracy"] is not None:
            best[name] = max(best.get(name, 0.0), e["val_accuracy"])
    if not best:
        return ()
    return tuple(enumerate((float(v) for v in expected_best(list(best.values()), smaller=False)), start=1))


# ---- folds ----


def _folds(snapshot: Snapshot, sides: tuple[Side, Side]) -> tuple[Interval | None, str]:
    """Winner minus baseline over the folds that both ended, and how many there were."""
    accuracy: list[dict[tuple[int, int], tuple[float, int]]] = []
    for side in sides:
        mine = {}
        for row in snapshot.confirmations:
            held = snapshot.held_out.get(row["configuration"])
            if row["source"] == side.configuration and row["fold"] >= 0 and held is not None:
                truth = np.array([snapshot.labels[i] for i in held[0]])
                mine[row["repeat"], row["fold"]] = (float(_right(held[1], truth).mean()), len(truth))
        accuracy.append(mine)
    both = sorted(set(accuracy[0]) & set(accuracy[1]))
    if not both:
        return None, ""
    sizes = np.array([accuracy[0][b][1] for b in both], dtype=np.float64)
    whole = len([s for s in snapshot.splits if s in ("train", "val")])
    differences = np.array([accuracy[0][b][0] - accuracy[1][b][0] for b in both])
    spec = snapshot.study.spec.confirm
    made = f"{len({f for _, f in both})} folds, {len({r for r, _ in both})} times"
    missing = spec.folds * spec.repeats - len(both)
    made += f" ({missing} missing or failed)" if missing > 0 else ""
    return corrected_resampled(differences, sizes, whole - sizes), made
