"""Fills `Findings` from what the confirmation recorded: functions of the rows alone, nothing is stored twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence import stability
from tuner.evidence.balance import compare_balanced, uneven
from tuner.evidence.calibration import Calibration, calibration
from tuner.evidence.configurations import usable
from tuner.evidence.findings import (
    LEAKY,
    OPEN,
    Findings,
    Interval,
    Probabilities,
    Rate,
    Selection,
    Side,
    selection_sentences,
    sentences,
)
from tuner.evidence.metrics import weighted
from tuner.evidence.paired import Comparison, Groups, compare, corrected_resampled, with_failed
from tuner.evidence.probabilities import Predicted, compare_probabilities
from tuner.evidence.selection import Candidates, Looks, Rungs, expected_best, selection_cost
from tuner.evidence.statistics import wilson
from tuner.evidence.study import Study
from tuner.evidence.verdict import FEWEST, Verdict, confidence_of, too_few_seeds, verdict
from tuner.spec.seeds import generator
from tuner.store.losses import packed, signed
from tuner.store.ranking import Rule, best_of, rank_of, value_of
from tuner.store.tables import Confirmation, Epoch, HeldOut, Tables

Seen = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Class probabilities (images, classes) and the true classes (images,)."""


@dataclass(frozen=True)
class Judged:
    """One side's fresh seeds: bool (seeds, images), right or not, how many seeds failed, and what those that ended said
    of the images of the verdict, whose true classes are `truth`, and of the validation images.
    """

    right: NDArray[np.bool_]
    failed: int
    predicted: Predicted | None = None
    truth: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    seeds: tuple[int, ...] = ()  # the numbers of those that ended

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
    rows = {row["id"]: row for row in (*ranking.to_dict(orient="records"), *frozen, *baselines)}
    chance = 1 / max(len(study.classes), 1)
    judged = {side["name"]: _judged(tables, study, side["source"]) for side in plan["sides"]}
    sides: dict[str, Any] = {
        s["name"].replace(" ", "_"): _side(s, judged[s["name"]], rows[s["source"]], plan, chance) for s in plan["sides"]
    }
    if len(baselines) > 1:
        sides.setdefault("other_baseline", _searched_alone(baselines[1]))
    if any(judged[side["name"]].ended < _expected_seeds(tables, study, plan, side) for side in plan["sides"]):
        return Findings(**undecided, seeds=min(judged[name].ended for name in ("winner", "baseline")), **sides)

    groups = None if study.groups is None else np.array(study.groups, dtype=np.int64)

    confidence = 0.95 if study.fixed_epochs else confidence_of(len(tables.openings))
    again, exploratory, pair = _Again(judged, chance, confidence, groups), ground != "test", ("winner", "baseline")
    fallen = {name: tuple(_collapsed(name, side, np.array(study.val_labels))) for name, side in judged.items()}
    other = sides["other_baseline"].what if "other_baseline" in sides else ""
    reached = _verdict(again, fallen, other=other, margin=margin, exploratory=exploratory)
    compared = again.compare(*pair)
    folds, made = _folds(tables, study, (sides["winner"], sides["baseline"]))
    leaks, ours = study.spec.data.allow_leak, (judged["winner"], judged["baseline"])
    found = Findings(
        kind=reached.kind,
        sentence=reached.sentence + (LEAKY if leaks and not reached.exploratory else ""),
        evidence=(),
        ground=ground,
        images=sum(study.counts["test"]) if ground == "test" else study.validation,
        seeds=max(judged[name].ended for name in pair),
        margin=reached.margin,
        compared=_interval(compared),
        compared_other=_interval(again.compare("winner", "other baseline")),
        compared_unfrozen=_interval(again.compare("unfrozen", "baseline")),
        balanced=None if compared is None else _balanced(*ours, chance, confidence, groups),
        probabilities=None if compared is None else _probabilities(*ours, study, confidence, groups),
        collapsed=() if compared is None else fallen["winner"] + fallen["baseline"],
        mcnemar=None if compared is None else compared.mcnemar,
        openings=len(tables.openings),
        openings_elsewhere=int(tables.meta.get("openings", {}).get("elsewhere", 0)),
        folds=folds,
        folds_made=made,
        selection=chosen,
        leaks=leaks,
        groups=None if groups is None else len(np.unique(groups)),
        **sides,
    )
    sure = calibrated(tables, study, sides["winner"].configuration)
    lines = [] if sure is None else [sure.sentence(study.ground)]
    return replace(found, evidence=(*sentences(found, study.rule), *lines))


@dataclass(frozen=True)
class _Again:
    """All that was trained again, by the names of its sides, and what comparisons of them share."""

    judged: Mapping[str, Judged]
    chance: float
    confidence: float
    groups: Groups | None

    def compare(self, first: str, second: str) -> Comparison | None:
        """None where either was not trained again, or too many of its seeds failed to tell."""
        one, two = self.judged.get(first), self.judged.get(second)
        if one is None or two is None or any(side.failed and len(side.right) < FEWEST for side in (one, two)):
            return None
        failed = one.failed, two.failed
        return compare(one.right, two.right, self.confidence, self.groups, failed=failed, chance=self.chance)

    def ended(self, *names: str) -> list[tuple[str, int, int]]:
        """(name, seeds that ended, seeds that failed) of those of them that were trained again."""
        return [(name, len(j.right), j.failed) for name in names if (j := self.judged.get(name)) is not None]


def _verdict(
    again: _Again, fallen: Mapping[str, tuple[str, ...]], *, other: str, margin: float, exploratory: bool
) -> Verdict:
    """Of the winner against the baseline. A gain has to hold against both baselines, whichever of them the search took
    for the better one: an intersection-union test, which needs no correction (Berger, Technometrics 24, 1982).
    `fallen`: seeds that collapsed, in words; `other`: what the other baseline is.
    """
    found = again.compare("winner", "baseline")
    if found is None:
        refused = too_few_seeds(again.ended("winner", "baseline"), margin, exploratory)
        if refused is None:
            raise ValueError("seeds: found none of winner or baseline, expected some that ended")
        return refused
    reached = verdict(found, margin, exploratory, collapsed=fallen["winner"] + fallen["baseline"])
    if reached.kind not in ("gain", "looks better"):
        return reached
    if (found := again.compare("winner", "other baseline")) is None:
        return too_few_seeds(again.ended("other baseline"), margin, exploratory) or reached
    collapsed = fallen["winner"] + fallen["other baseline"]
    second = verdict(found, margin, exploratory, against=f"the other baseline ({other})", collapsed=collapsed)
    return reached if second.kind == reached.kind else second


def _collapsed(name: str, side: Judged, val_labels: NDArray[np.int64]) -> Iterator[str]:
    """Seeds that ended far below the others, on the images of the verdict or on the validation images, in words."""
    if side.predicted is None:
        return
    accuracies: list[float] = side.right.mean(axis=1).tolist()
    fallen = set(stability.unstable(accuracies, side.right.shape[1]))
    if side.predicted.validation is not None:  # by these more seeds were trained
        seen = (side.predicted.validation.argmax(axis=-1) == val_labels).mean(axis=1)
        fallen |= set(stability.unstable(seen.tolist(), len(val_labels)))
    yield from (stability.collapsed(name, side.seeds[i], accuracies[i]) for i in sorted(fallen))


def _balanced(
    winner: Judged, baseline: Judged, chance: float, confidence: float, groups: Groups | None
) -> Interval | None:
    """Where the classes of the images differ in size."""
    if not uneven(winner.truth):
        return None
    sides = [with_failed(side.right, side.failed, chance) for side in (winner, baseline)]
    return compare_balanced(sides[0], sides[1], winner.truth, confidence, groups)


def _probabilities(
    winner: Judged, baseline: Judged, study: Study, confidence: float, groups: Groups | None
) -> Probabilities | None:
    if winner.predicted is None or baseline.predicted is None:
        return None
    labels = winner.truth, np.array(study.val_labels)
    return compare_probabilities(winner.predicted, baseline.predicted, *labels, confidence, groups)


def exported(tables: Tables, study: Study, source: str) -> str:
    """Which model stands for a configuration: of the fresh seeds of one that was confirmed the median one by the
    study's objective on the validation images, a rule that no test image has a part in; of regression the fit that was
    confirmed; else the search's own.
    """
    plan = tables.meta.get("confirmation", {})
    mine = [side for side in plan.get("sides", ()) if side["source"] == source]
    if (
        not mine
        or study.fixed_epochs
        or _judged(tables, study, source).ended < _expected_seeds(tables, study, plan, mine[0])
    ):
        return source
    ended = [row for row, status in _trained(tables, source) if row.fold < 0 and status == "COMPLETED"]
    if mine[0]["kind"] == "logistic":
        return ended[0].configuration if ended else source
    best = {trial.configuration: trial.best_epoch for trial in tables.trials.values()}
    epochs = {e.configuration: e for e in tables.epochs if e.epoch == best.get(e.configuration)}
    ranked = sorted(ended, key=lambda row: (rank_of(epochs.get(row.configuration), study.rule), row.seed))
    return ranked[len(ranked) // 2].configuration if ranked else source


def tested(tables: Tables, study: Study, configuration: str) -> Rate | None:
    """How many test images a model has right; None where it was not asked, or there are none."""
    held = tables.held_out.get(configuration) if study.ground == "test" else None
    if held is None or held.opening is None:
        return None
    right = _right(*_held(tables, held))
    return _rate(int(right.sum()), len(right))


def _interval(found: Comparison | None) -> Interval | None:
    if found is None:
        return None
    return Interval(found.difference, found.low, found.high, found.method, found.standard_error, found.confidence)


def _is_current(plan: Mapping[str, Any], ranking: pd.DataFrame, baselines: list[Any]) -> bool:
    """Whether what was confirmed is the present winner and the present baseline."""
    if not plan or not len(ranking) or not baselines:
        return False
    return [side["source"] for side in plan["sides"][:2]] == [ranking.iloc[0]["id"], baselines[0]["id"]]


def _judged(tables: Tables, study: Study, source: str) -> Judged:
    """Every fresh seed of one side, on the images of the verdict."""
    right, failed, seeds = [], 0, list[int]()
    said, validation = list[NDArray[np.float32]](), list[NDArray[np.float32] | None]()
    for row, status in _trained(tables, source):
        if row.fold >= 0:
            continue
        if status == "FAILED":
            failed += 1
        elif (seen := _on_ground(tables, study, row, status)) is not None:
            truth = seen[1]
            seeds.append(row.seed)
            right.append(_right(*seen))
            said.append(seen[0])
            validation.append(shares(tables, study, row.configuration))
    if not right:
        return Judged(np.empty((0, 0), dtype=bool), failed)
    known = [v for v in validation if v is not None]
    fitted = study.ground == "test" and not study.fixed_epochs and tables.configurations[source].kind == "logistic"
    unscaled = fitted or len(known) < len(validation)
    predicted = Predicted(np.array(said), None if unscaled else np.array(known), failed)
    return Judged(np.array(right, dtype=bool), failed, predicted, truth, tuple(seeds))


def _expected_seeds(tables: Tables, study: Study, plan: Mapping[str, Any], side: Mapping[str, Any]) -> int:
    """How many fresh seeds a side has when it has ended: as `search.schedule.seeds` decides."""
    count = int(plan["seeds"])
    if side["kind"] == "logistic":
        return 1
    if study.spec.confirm.seeds != "auto" or study.fixed_epochs:
        return count
    truth, first = np.array(study.val_labels), list[float | None]()
    for row, status in _trained(tables, side["source"]):
        stored = tables.predictions.get(row.configuration)
        if row.fold < 0 and 1 <= row.seed <= count and status == "FAILED":
            first.append(None)
        elif row.fold < 0 and 1 <= row.seed <= count and status == "COMPLETED" and stored is not None:
            chances = np.frombuffer(stored.probabilities, dtype="<f4").reshape(len(truth), -1)
            first.append(float(_right(chances, truth).mean()))
    return stability.seeds(first, study.validation) if len(first) == count else count


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


def _side(planned: Mapping[str, Any], judged: Judged, row: Any, plan: Mapping[str, Any], chance: float) -> Side:
    accuracies = tuple(float(a) for a in judged.right.mean(axis=1)) if judged.right.size else ()
    first = _rate(int(judged.right[0].sum()), judged.right.shape[1]) if judged.right.size else None
    return Side(
        str(row["id"]),
        str(row["kind"]),
        0 if planned["kind"] == "logistic" else int(planned["epochs"]),
        accuracies=accuracies,
        failed=judged.failed,
        searched=_searched(row),
        confirmed=first,
        chance=chance,
        fixed="epochs" not in plan or plan["epochs"] == "fixed",
        unfrozen_layers=int(row["unfrozen_layers"]),
    )


def _searched_alone(row: Any) -> Side:
    """The other baseline, where it was not trained again."""
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
    of = study.groups_of.get("val")
    groups = None if of is None else np.array(of, np.int64)
    if len(full or rows) < 2 or len(set(of or range(study.validation))) < 2 or sides[0] is None or sides[1] is None:
        return None
    draw, rule = generator(study.spec.search.seed, "what choosing cost"), study.rule
    both = sides[0][0], sides[1][0]
    found = selection_cost(*both, rule.objective, draw, checkpoint=rule.checkpoint, groups=groups)
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
