"""Fills `Findings` from what the confirmation recorded: functions of the rows alone, nothing is stored twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.calibration import Calibration, calibration
from tuner.evidence.configurations import usable
from tuner.evidence.findings import (
    LEAKY,
    OPEN,
    Findings,
    Interval,
    Rate,
    Selection,
    Side,
    selection_sentences,
    sentences,
)
from tuner.evidence.metrics import weighted
from tuner.evidence.paired import Comparison, compare, corrected_resampled
from tuner.evidence.selection import Candidates, Looks, Rungs, expected_best, selection_cost
from tuner.evidence.statistics import wilson
from tuner.evidence.study import Study
from tuner.evidence.verdict import Verdict, too_few_seeds, verdict
from tuner.spec.seeds import generator
from tuner.store.losses import packed, signed
from tuner.store.ranking import Rule, best_of, value_of
from tuner.store.tables import Confirmation, Epoch, HeldOut, Tables

Seen = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Class probabilities (images, classes) and the true classes (images,)."""


@dataclass(frozen=True)
class Judged:
    """One side's fresh seeds: bool (seeds, images), right or not, and how many seeds failed."""

    right: NDArray[np.bool_]
    failed: int

    @property
    def ended(self) -> int:
        return len(self.right) + self.failed


def findings(tables: Tables, study: Study, ranking: pd.DataFrame, baselines: list[Any], frozen: list[Any]) -> Findings:
    """The verdict and its evidence. `ranking`: the searched configurations, best first; `baselines`: the rows of the
    better baseline and of the other one; `frozen`: all that could have been one, best first.

    `kind` is "open" as long as the confirmation has not ended for the present winner and baseline.
    """
    plan, margin, ground = tables.meta.get("confirmation", {}), study.spec.confirm.margin, study.ground
    chosen = selection(tables, study, ranking, frozen) if baselines and len(ranking) else None
    undecided: dict[str, Any] = {
        "kind": "open",
        "sentence": OPEN,
        "evidence": tuple(selection_sentences(chosen)),
        "ground": ground,
        "images": 0,
        "margin": margin,
        "selection": chosen,
    }
    if not _is_current(plan, ranking, baselines):
        return Findings(**undecided, seeds=0)
    judged = [_judged(tables, study, side["name"], side["source"]) for side in plan["sides"]]
    rows, chance = [ranking.iloc[0].to_dict(), baselines[0]], 1 / max(len(study.classes), 1)
    sides = [_side(s, j, r, chance) for s, j, r in zip(plan["sides"], judged, rows, strict=True)]
    expected = [plan["seeds"], 1 if plan["sides"][1]["kind"] == "logistic" else plan["seeds"]]
    other = _other(baselines)
    if any(side.ended < wanted for side, wanted in zip(judged, expected, strict=True)):
        seeds = min(side.ended for side in judged)
        return Findings(**undecided, seeds=seeds, winner=sides[0], baseline=sides[1], other_baseline=other)
    exploratory = ground != "test"
    counts = [(side["name"], len(j.right), j.failed) for side, j in zip(plan["sides"], judged, strict=True)]
    if (refused := too_few_seeds(counts, margin, exploratory)) is not None:
        return _filled(tables, study, None, refused, (sides[0], sides[1]), other, chosen)
    failed = (judged[0].failed, judged[1].failed)
    compared = compare(judged[0].right, judged[1].right, failed=failed, chance=chance)
    reached = verdict(compared, margin, exploratory)
    return _filled(tables, study, compared, reached, (sides[0], sides[1]), other, chosen)


def _filled(
    tables: Tables,
    study: Study,
    compared: Comparison | None,
    reached: Verdict,
    sides: tuple[Side, Side],
    other: Side | None,
    chosen: Selection | None,
) -> Findings:
    folds, made = _folds(tables, study, sides)
    leaks = study.spec.data.allow_leak
    found = Findings(
        kind=reached.kind,
        sentence=reached.sentence + (LEAKY if leaks and not reached.exploratory else ""),
        evidence=(),
        ground=study.ground,
        images=sum(study.counts["test"]) if study.ground == "test" else study.validation,
        seeds=max(len(side.accuracies) + side.failed for side in sides),
        margin=reached.margin,
        winner=sides[0],
        baseline=sides[1],
        other_baseline=other,
        compared=None if compared is None else _interval(compared),
        mcnemar=None if compared is None else compared.mcnemar,
        openings=len(tables.openings),
        folds=folds,
        folds_made=made,
        selection=chosen,
        leaks=leaks,
    )
    sure = calibrated(tables, study, sides[0].configuration)
    lines = [] if sure is None else [sure.sentence(study.ground)]
    return replace(found, evidence=(*sentences(found, study.rule), *lines))


def _interval(found: Comparison) -> Interval:
    return Interval(found.difference, found.low, found.high, found.method, found.standard_error)


def _is_current(plan: Mapping[str, Any], ranking: pd.DataFrame, baselines: list[Any]) -> bool:
    """Whether what was confirmed is the present winner and the present baseline."""
    if not plan or not len(ranking) or not baselines:
        return False
    return [side["source"] for side in plan["sides"]] == [ranking.iloc[0]["id"], baselines[0]["id"]]


def _judged(tables: Tables, study: Study, side: str, source: str) -> Judged:
    """Every fresh seed of one side, on the images of the verdict."""
    right, failed = [], 0
    for row, status in _trained(tables, source):
        if row.side != side or row.fold >= 0:
            continue
        if status == "FAILED":
            failed += 1
        elif (seen := _on_ground(tables, study, row, status)) is not None:
            right.append(_right(*seen))
    return Judged(np.array(right, dtype=bool) if right else np.empty((0, 0), dtype=bool), failed)


def calibrated(tables: Tables, study: Study, winner: str) -> Calibration | None:
    """How far the winner's probabilities can be believed: its first fresh seed on the images of the verdict; None while
    it has none.
    """
    for row, status in _trained(tables, winner):
        if row.fold < 0 and status == "COMPLETED" and (seen := _on_ground(tables, study, row, status)) is not None:
            chances, truth = seen
            draw = generator(study.spec.search.seed, "calibration")
            return calibration(chances.astype(np.float64), truth, draw)
    return None


def _trained(tables: Tables, source: str) -> Iterator[tuple[Confirmation, str]]:
    """The fresh seeds and folds of a configuration whose training was begun, with its status, in order."""
    statuses = {trial.configuration: trial.status for trial in tables.trials.values()}
    for row in tables.confirmations.values():
        if row.source == source and row.configuration in statuses:
            yield row, statuses[row.configuration]


def _on_ground(tables: Tables, study: Study, row: Confirmation, status: str) -> Seen | None:
    """What a fresh seed said of the images of the verdict; None while it has not."""
    if study.ground == "test":
        held = tables.held_out.get(row.configuration)
        return None if held is None else _held(tables, held)
    stored = tables.predictions.get(row.configuration)
    if status != "COMPLETED" or stored is None:
        return None
    truth = np.array(study.val_labels)
    return np.frombuffer(stored.probabilities, dtype="<f4").reshape(len(truth), -1), truth


def _held(tables: Tables, held: HeldOut) -> Seen:
    truth = np.array([tables.images[number].label for number in held.images])
    return np.frombuffer(held.probabilities, dtype="<f4").reshape(len(truth), -1), truth


def _right(chances: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(chances.argmax(axis=1) == truth)


def _side(planned: Mapping[str, Any], judged: Judged, row: Any, chance: float) -> Side:
    accuracies = tuple(float(a) for a in judged.right.mean(axis=1)) if judged.right.size else ()
    first = _rate(int(judged.right[0].sum()), judged.right.shape[1]) if judged.right.size else None
    epochs = 0 if planned["kind"] == "logistic" else int(planned["epochs"])
    return Side(
        str(row["id"]),
        str(row["kind"]),
        epochs,
        accuracies=accuracies,
        failed=judged.failed,
        searched=_searched(row),
        confirmed=first,
        chance=chance,
    )


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


def selection(tables: Tables, study: Study, ranking: pd.DataFrame, baselines: Sequence[Any]) -> Selection | None:
    """The bootstrap over the whole choice of winner and baseline, and the expected best of n configurations. `ranking`:
    the searched ones, best first; `baselines`: all frozen ones, the chosen one first.

    None while there is nothing to choose from, one image has none to leave out, or predictions are missing.
    """
    rows = [row for row in ranking.to_dict(orient="records") if usable(row)]
    full = [row for row in rows if row["full"]]
    sides = [_candidates(tables, study, rows if full else [], rows), _candidates(tables, study, [], baselines)]
    if len(full or rows) < 2 or study.validation < 2 or sides[0] is None or sides[1] is None:
        return None
    draw, rule = generator(study.spec.search.seed, "what choosing cost"), study.rule
    found = selection_cost(sides[0][0], sides[1][0], rule.objective, draw, checkpoint=rule.checkpoint)
    if not found.draws:
        return None
    method = "bootstrap bias-corrected"
    if not (sides[0][1] and sides[1][1]):
        method += "; epochs as they were chosen, since an earlier version did not record what each said"
    said = (rows[0]["correct"] - baselines[0]["correct"]) / study.validation
    corrected = Interval(found.difference, found.difference_low, found.difference_high, method)
    return Selection(float(said), corrected, found.draws, *_expected(tables, study.rule))


def _candidates(
    tables: Tables, study: Study, searched: Sequence[Any], rows: Sequence[Any]
) -> tuple[Candidates, bool] | None:
    """One side's configurations with all their epochs, and whether what each epoch said is recorded; `searched`: those
    that went through rungs. None where predictions are missing.
    """
    order = sorted(rows, key=lambda row: (str(row["kind"]) == "logistic", int(row["number"])))
    names = [str(row["id"]) for row in order]
    chances = [shares(tables, study, name) for name in names]
    said = [c for c in chances if c is not None]
    if not names or len(said) < len(names):
        return None
    epochs: dict[str, list[Epoch]] = {name: [] for name in names}
    for e in tables.epochs:
        if e.configuration in epochs and e.val_loss is not None and e.val_accuracy is not None:
            epochs[e.configuration].append(e)
    truth, last = np.array(study.val_labels), max((e.epoch for each in epochs.values() for e in each), default=1)
    place, shift, recorded = np.full((len(names), last), -1), np.zeros((len(names), last)), True
    looks: list[NDArray[np.float16]] = []
    moved: list[tuple[float, float]] = []
    for i, name in enumerate(names):
        counts = tables.predictions[name].epoch
        at = next((e for e in epochs[name] if e.epoch == counts), None)
        plain: NDArray[np.float16] | None = None
        for e in epochs[name]:
            place[i, e.epoch - 1], by = len(looks), (0.0, 0.0)
            if e.losses is not None and len(e.losses) == 2 * len(truth):
                looks.append(signed(e.losses))
            else:  # as the epoch that counts, moved to this one's mean
                plain = signed(packed(said[i], truth)) if plain is None else plain
                looks.append(plain)
                if at is not None and e is not at:
                    recorded = False
                    by = (e.val_loss or 0.0) - (at.val_loss or 0.0), (at.val_accuracy or 0.0) - (e.val_accuracy or 0.0)
            moved.append(by)
            if at is not None:
                shift[i, e.epoch - 1] = (e.score or 0.0) - (at.score or 0.0)
    if not looks:
        return None
    objective = study.rule.objective

    def scores(bags: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.stack([weighted(objective, one, truth, bags) for one in said], axis=1)
        return at[..., None] + shift

    brackets = _rungs(tables, names, study.spec.search.max_epochs) if searched else []
    if not brackets:
        brackets = [Rungs(range(len(names)), [0] * len(names), [last], [len(names)])]
    return Candidates(Looks(looks, place, np.array(moved).T), brackets, scores), recorded


def _rungs(tables: Tables, names: Sequence[str], most: int) -> list[Rungs]:
    """The brackets in which some of these configurations reached the `most` epochs."""
    rows, found = {name: i for i, name in enumerate(names)}, []
    ran: dict[tuple[Any, Any], dict[int, dict[int, int]]] = {}  # bracket -> rung -> row -> to which epoch
    for trial in tables.trials.values():
        if trial.configuration in rows and trial.rung is not None and trial.status == "COMPLETED":
            rungs = ran.setdefault((trial.iteration, trial.bracket), {})
            rungs.setdefault(trial.rung, {})[rows[trial.configuration]] = trial.last_epoch
    for rungs in ran.values():
        order, members = sorted(rungs), sorted(rungs[min(rungs)])
        to, sizes = [max(rungs[r].values()) for r in order], [len(rungs[r]) for r in order]
        if to[-1] >= most:
            ended = [max(i for i, r in enumerate(order) if row in rungs[r]) for row in members]
            found.append(Rungs(members, ended, to, sizes))
    return found


def shares(tables: Tables, study: Study, configuration: str) -> NDArray[np.float32] | None:
    """Class probabilities of the validation images at a configuration's epoch that counts, (images, classes).

    None when none are stored, or not for all images and classes of this study.
    """
    found, shape = tables.predictions.get(configuration), (study.validation, len(study.classes))
    if found is None or len(found.probabilities) != 4 * shape[0] * shape[1]:
        return None
    return np.frombuffer(found.probabilities, dtype="<f4").reshape(shape)


def _expected(tables: Tables, rule: Rule) -> tuple[tuple[tuple[int, float], ...], int]:
    """Of the bracket that draws most configurations, after its first rung, and its epochs: later rungs hold survivors
    only. Accuracies, or the objective's values where that is neither loss nor accuracy; a failed trial counts as worst.
    """
    trials = [t for t in tables.trials.values() if t.rung == 0 and t.status in ("COMPLETED", "FAILED")]
    if not trials:
        return (), 0
    drawn = Counter((t.iteration, t.bracket) for t in trials)
    most = max(sorted(drawn), key=lambda bracket: drawn[bracket])
    measured = Rule(rule.scored or "val_accuracy", rule.checkpoint)
    epochs: dict[str, list[Epoch]] = {}
    here = [t for t in trials if (t.iteration, t.bracket) == most]
    last = {t.configuration: t.last_epoch for t in here if t.status == "COMPLETED"}
    for e in tables.epochs:
        if e.epoch <= last.get(e.configuration, 0) and value_of(e, measured.objective) is not None:
            epochs.setdefault(e.configuration, []).append(e)
    counted = [best_of(rows, measured) for rows in epochs.values()]
    values = [v for e in counted if e is not None and (v := value_of(e, measured.objective)) is not None]
    values += [math.nan] * sum(t.status == "FAILED" for t in here)
    best = [float(v) for v in expected_best(values, smaller=measured.smaller)] if last else []
    return tuple(enumerate(best, start=1)), max(t.last_epoch for t in here)


# ---- folds ----


def _folds(tables: Tables, study: Study, sides: Sequence[Side]) -> tuple[Interval | None, str]:
    """Winner minus baseline over the folds that both ended, and how many there were."""
    accuracy: list[dict[tuple[int, int], tuple[float, int]]] = []
    for side in sides:
        mine = {}
        for row, _ in _trained(tables, side.configuration):
            if row.fold >= 0 and (held := tables.held_out.get(row.configuration)) is not None:
                mine[row.repeat, row.fold] = (float(_right(*_held(tables, held)).mean()), len(held.images))
        accuracy.append(mine)
    both = sorted(set(accuracy[0]) & set(accuracy[1]))
    if not both:
        return None, ""
    sizes = np.array([accuracy[0][b][1] for b in both], dtype=np.float64)
    whole = sum(image.split in ("train", "val") for image in tables.images)
    differences = np.array([accuracy[0][b][0] - accuracy[1][b][0] for b in both])
    made = f"{len({f for _, f in both})} folds, {len({r for r, _ in both})} times"
    asked = study.spec.confirm
    planned = sum(tables.meta.get("folds", [asked.folds] * asked.repeats))  # fewer where a class has fewer images
    missing = planned - len(both)
    made += f" ({missing} missing or failed)" if missing > 0 else ""
    return corrected_resampled(differences, sizes, whole - sizes), made
