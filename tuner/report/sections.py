"""What each section of the page says, as plain values that the template only has to place."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tuner.evidence.results import Results
from tuner.report import facts, words
from tuner.spec.spec import Range, render

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Cell:
    """`sort`: what the table sorts by, "" for a value that is missing and so stands last."""

    text: str
    sort: str


@dataclass(frozen=True)
class TableRow:
    id: str
    kind: str  # "search", "best", "baseline" or "reference"
    status: str
    depth: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sortable:
    headers: tuple[tuple[str, str], ...]  # (short, what it means)
    rows: tuple[TableRow, ...]
    depths: tuple[int, ...]


def subtitle(results: Results) -> str:
    """One line: how many photographs, which backbone, how much was searched."""
    study = results.study
    photographs = sum(sum(counts) for counts in study.counts.values())
    parts = [f"{words.several(photographs, 'photograph')} in {len(study.classes)} classes"] if photographs else []
    parts.append("ResNet-50" + (f", {words.visible(study.weights)}" if study.weights else ""))
    parts.append(words.several(len(results.ranking()), "configuration"))
    parts.append(study.state + (f", {words.seconds(study.seconds)}" if study.seconds else ""))
    return " · ".join([*parts, *words.remarks(study.pretrained, study.leaked)])


# ---- the configurations ----

Column = tuple[str, str, Callable[[Row], str], str]  # header, what it means, its text, the column it sorts by

BEFORE: tuple[Column, ...] = (
    ("layers", "unfrozen layers", lambda r: words.hyperparameter("", r["unfrozen_layers"]), "unfrozen_layers"),
    ("rate", "learning rate", lambda r: words.rate(r["learning_rate"]), "learning_rate"),
    ("head", "head width, 0: no hidden layer", lambda r: words.hyperparameter("", r["head_width"]), "head_width"),
)
AFTER: tuple[Column, ...] = (
    ("right", "of the validation images, at the best epoch", lambda r: _right(r), "correct"),
    ("95% range", "Wilson interval of that share", lambda r: _range(r), "low"),
    ("loss", "validation loss at the best epoch", lambda r: words.number(r["val_loss"]), "val_loss"),
    ("right +/-", "more right than the baseline", lambda r: _images(r), "images_over_baseline"),
    ("loss +/-", "loss over the baseline's", lambda r: words.signed(r["loss_over_baseline"]), "loss_over_baseline"),
    ("epochs", "trained", lambda r: str(r["epochs"]), "epochs"),
    ("bracket", "Hyperband's", lambda r: "-" if words.missing(r["bracket"]) else str(r["bracket"]), "bracket"),
    ("trained", "parameters", lambda r: words.amount(r["trained_parameters"]), "trained_parameters"),
    ("time", "in training", lambda r: words.seconds(r["seconds"]), "seconds"),
)


def configurations(results: Results) -> Sortable:
    """Every searched configuration, best first, then baseline and reference: what the sortable table shows."""
    columns = (*BEFORE, *_further(results), *AFTER)
    winner = results.winner()
    rows = [(row, _kind(row, winner)) for row in results.ranking().to_dict(orient="records")]
    for name, found in (("baseline", results.baseline()), ("reference", results.reference())):
        rows += [] if found is None else [(found.to_dict(), name)]
    made = []
    for place, (row, kind) in enumerate(rows):
        cells = [Cell(text(row), _sort(row[by])) for _, _, text, by in columns]
        name = kind if kind in ("baseline", "reference") else words.visible(row["id"])
        cells.insert(0, Cell(name, str(place)))
        made.append(TableRow(str(row["id"]), kind, str(row["status"]), int(row["unfrozen_layers"]), tuple(cells)))
    depths = sorted({row.depth for row in made if row.kind in ("search", "best")})
    headers = (("configuration", "in the study's order"), *((header, meaning) for header, meaning, _, _ in columns))
    return Sortable(headers, tuple(made), tuple(depths))


def _further(results: Results) -> list[Column]:
    """Columns of the hyperparameters that were searched beside the usual three."""
    space = vars(results.study.spec.space)
    names = [n for n, v in space.items() if isinstance(v, (tuple, Range)) and n in words.DEFAULTS]
    return [(words.NAMES[n], "searched", _shower(n), n) for n in names]


def _shower(name: str) -> Callable[[Row], str]:
    return lambda row: words.hyperparameter(name, row[name])


def _kind(row: Row, winner: pd.Series | None) -> str:
    return "best" if winner is not None and row["id"] == winner["id"] else "search"


def _right(row: Row) -> str:
    return "-" if words.missing(row["correct"]) else f"{row['correct']}/{row['validation']}"


def _images(row: Row) -> str:
    return words.signed(row["images_over_baseline"], "+d")


def _range(row: Row) -> str:
    return "-" if words.missing(row["low"]) else f"{100 * row['low']:.0f}-{words.percent(row['high'])}"


def _sort(value: Any) -> str:
    return "" if words.missing(value) else repr(float(value))


# ---- confusion ----


@dataclass(frozen=True)
class Matrix:
    """`rows`: (true class, cells), a cell its count, its share of the true class and a shade from 0 to 10."""

    role: str
    title: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, str, int], ...]], ...]


def matrices(results: Results) -> list[Matrix]:
    """What the best configuration and the baseline took for what."""
    found = {"best": results.winner(), "baseline": results.baseline()}
    made = []
    for role, row in found.items():
        counts = None if row is None else results.confusion(str(row["id"]))
        if row is None or counts is None:
            continue
        totals = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        rows = tuple(
            (
                name,
                tuple(
                    (int(n), words.percent(float(s)), round(10 * float(s)))
                    for n, s in zip(counts[i], share[i], strict=True)
                ),
            )
            for i, name in enumerate(results.study.classes)
        )
        heading = f"{role} ({words.visible(row['id'])}): {counts.trace()}/{counts.sum()} right"
        made.append(Matrix(role, heading, results.study.classes, rows))
    return made


# ---- tables of text ----


@dataclass(frozen=True)
class Plain:
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = ()  # the columns that stand to the left; the others are numbers


def depths(results: Results) -> Plain:
    """How well each depth did at its best, and how much of the search went there."""
    headers = ("unfrozen layers", "tried", "trained in full", "best", "right", "loss", "right +/-", "loss +/-")
    rows = [
        (
            str(row["unfrozen_layers"]),
            str(row["tried"]),
            str(row["finished"]),
            "-" if words.missing(row["best"]) else str(row["best"]),
            _right(row),
            words.number(row["val_loss"]),
            words.signed(row["images_over_baseline"], "+d"),
            words.signed(row["loss_over_baseline"]),
        )
        for row in results.depths().to_dict(orient="records")
    ]
    return Plain(headers, tuple(rows))


def rungs(results: Results) -> Plain:
    """Hyperband's plan and how far it came."""
    several = len({b.iteration for b in results.study.plan}) > 1
    headers = ("bracket", "rung", "epochs", "planned", "ended", "failed", "state", "went on")
    rows = [
        (
            f"{row['bracket']}" + (f" (iteration {row['iteration'] + 1})" if several else ""),
            *(str(row[k]) for k in ("rung", "epochs", "planned", "ended", "failed")),
            str(row["state"]),
            words.listed(row["promoted"], 6),
        )
        for row in results.rungs().to_dict(orient="records")
    ]
    return Plain(headers, tuple(rows), (6, 7))


def time_by_depth(results: Results) -> Plain:
    """Epochs, seconds and multiply-adds by depth, the baseline's and the reference's among the frozen ones."""
    found = results.times()
    rows = []
    for row in found.depths.to_dict(orient="records"):
        floor = row["operations"] / found.rate if found.rate else 0.0
        rows.append(
            (
                str(row["unfrozen_layers"]),
                f"{row['epochs']:,}",
                words.seconds(row["seconds"]),
                words.seconds(row["seconds"] / row["epochs"]) if row["epochs"] else "-",
                facts.operations(row["operations"]),
                f"{row['seconds'] / floor:.1f}" if floor else "-",
            )
        )
    headers = ("unfrozen layers", "epochs", "time", "an epoch", "multiply-adds", "times the floor")
    return Plain(headers, tuple(rows))


# ---- bars ----


@dataclass(frozen=True)
class Bar:
    """`share` of the longest bar and, where there is one, a tick at `tick`, both in [0, 1]."""

    name: str
    share: float
    text: str
    tick: float | None = None
    note: str = ""


def phases(results: Results) -> list[Bar]:
    """The sessions' phases, as shares of the longest."""
    found = [(name, seconds) for name, seconds in results.times().phases if seconds > 0]
    longest, whole = max((s for _, s in found), default=1.0), sum(s for _, s in found) or 1.0
    return [Bar(n, s / longest, f"{words.seconds(s)} ({words.percent(s / whole)})") for n, s in found]


def importance(found: pd.DataFrame | None) -> list[Bar]:
    """A bar a hyperparameter, longest first, with a tick where luck alone would end."""
    if found is None or found.empty:
        return []
    return [
        Bar(
            words.NAMES.get(row["hyperparameter"], str(row["hyperparameter"])),
            min(1.0, max(0.0, float(row["share"]))),
            words.percent(row["share"]),
            None if words.missing(row["share_by_luck"]) else min(1.0, max(0.0, float(row["share_by_luck"]))),
            f"by luck {words.percent(row['share_by_luck'])}, p {facts.chance(row['p'])}",
        )
        for row in found.sort_values("share", ascending=False).to_dict(orient="records")
    ]


# ---- to do it again ----


@dataclass(frozen=True)
class Again:
    """The study file, line by line, what it ran on, and what was typed."""

    toml: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


def again(results: Results) -> Again:
    study = results.study
    versions = [(name, _said(value)) for name, value in sorted(study.environment.items())]
    commands = dict.fromkeys(_command(text) for text in study.commands)
    return Again(tuple(render(study.spec).splitlines()), tuple(versions), tuple(commands))


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _command(text: str) -> str:
    """As typed, the program by its name instead of its path on that machine."""
    try:
        words_ = shlex.split(text)
    except ValueError:  # a command with half a quotation mark: shown as it is
        return text
    program = Path(words_[0]).name if words_ else ""
    return shlex.join(["tlstudy", *words_[1:]]) if program in ("tlstudy", "__main__.py") else text
