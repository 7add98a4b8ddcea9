"""What each section of the page says, as plain values that the template only has to place."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tuner.evidence.results import Results
from tuner.report import facts, words
from tuner.report.rows import best_id, by_role, searched_space
from tuner.spec.configuration import HYPERPARAMETERS
from tuner.spec.spec import render


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
    """One line: how many images, which backbone, how much was searched."""
    study = results.study
    images = sum(map(sum, study.counts.values()))
    parts = [f"{words.several(images, 'photograph')} in {len(study.classes)} classes"] if images else []
    parts.append("ResNet-50" + (f", {words.visible(study.weights)}" if study.weights else ""))
    parts.append(words.several(len(results.ranking()), "configuration"))
    parts.append(study.state + (f", {words.seconds(study.seconds)}" if study.seconds else ""))
    return " · ".join([*parts, *words.remarks(study.pretrained, study.leaked)])


# ---- the configurations ----

Column = tuple[str, str, str]  # header, what it means, the column of the configurations

BEFORE: tuple[Column, ...] = (
    ("layers", "unfrozen layers", "unfrozen_layers"),
    ("rate", "learning rate", "learning_rate"),
    ("head", "head width, 0: no hidden layer", "head_width"),
)
AFTER: tuple[Column, ...] = (
    ("right", "of the validation images, at the {} epoch", "correct"),
    ("95% range", "Wilson interval of that share", "low"),
    ("loss", "validation loss at the {} epoch", "val_loss"),
    ("right +/-", "more right than the baseline", "images_over_baseline"),
    ("loss +/-", "loss over the baseline's", "loss_over_baseline"),
    ("epochs", "trained", "epochs"),
    ("bracket", "Hyperband's", "bracket"),
    ("trained", "parameters", "trained_parameters"),
    ("time", "in training", "seconds"),
)

ORDERS = {h.name: h.words for h in HYPERPARAMETERS if h.words}
"""Words are sorted in their order in the space, not by the alphabet."""


def configurations(results: Results) -> Sortable:
    """Every searched configuration, best first, then baseline and reference: what the sortable table shows."""
    further = [(words.NAMES[n], "searched", n) for n in searched_space(results) if n in words.DEFAULTS]
    rule = results.study.rule
    if rule.scored:
        further.append((words.OBJECTIVES[rule.scored], f"{words.NAMES[rule.scored]} at the {{}} epoch", rule.scored))
    columns = [(header, text.format(rule.checkpoint), by) for header, text, by in (*BEFORE, *further, *AFTER)]
    best = best_id(results)
    rows: list[tuple[words.Row, str]] = [
        (row, "best" if row["id"] == best else "search") for row in results.ranking().to_dict(orient="records")
    ]
    rows += [(row, role) for role, row in by_role(results, "baseline", "reference").items()]
    made = []
    for place, (row, kind) in enumerate(rows):
        name = kind if kind in ("baseline", "reference") else words.visible(row["id"])
        cells = [Cell(name, str(place)), *(Cell(words.cell(row, by), _sort(row[by], by)) for _, _, by in columns)]
        made.append(TableRow(str(row["id"]), kind, str(row["status"]), int(row["unfrozen_layers"]), tuple(cells)))
    depths = sorted({row.depth for row in made if row.kind in ("search", "best")})
    headers = (("configuration", "in the study's order"), *((header, meaning) for header, meaning, _ in columns))
    return Sortable(headers, tuple(made), tuple(depths))


def _sort(value: Any, column: str) -> str:
    if words.missing(value):
        return ""
    return repr(float(ORDERS[column].index(value) if column in ORDERS else value))


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
    made = []
    for role, row in by_role(results, "best", "baseline").items():
        counts = results.confusion(str(row["id"]))
        if counts is None:
            continue
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        cells = [
            tuple((int(n), words.percent(float(s)), round(10 * float(s))) for n, s in zip(*pair, strict=True))
            for pair in zip(counts, shares, strict=True)
        ]
        heading = f"{role} ({words.visible(row['id'])}): {counts.trace()}/{counts.sum()} right"
        classes = results.study.classes
        made.append(Matrix(role, heading, classes, tuple(zip(classes, cells, strict=True))))
    return made


# ---- tables of text ----


@dataclass(frozen=True)
class Plain:
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = ()  # the columns that stand to the left; the others are numbers


def depths(results: Results) -> Plain:
    """How well each depth did at its best, and how much of the search went there."""
    shown = words.with_objective(facts.DEPTH_COLUMNS, results.study.rule.objective)
    columns = {header: column for header, column in shown.items() if column != "epochs"}
    rows = results.depths().to_dict(orient="records")
    return Plain(tuple(columns), tuple(tuple(words.cell(row, by) for by in columns.values()) for row in rows))


def rungs(results: Results) -> Plain:
    """Hyperband's plan and how far it came."""
    columns = ("rung", "epochs", "planned", "ended", "failed", "state")
    rows = [
        (facts.bracket_name(results, row), *(str(row[by]) for by in columns), words.listed(row["promoted"], 6))
        for row in results.rungs().to_dict(orient="records")
    ]
    return Plain(("bracket", *columns, "went on"), tuple(rows), (6, 7))


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


def importance(found: pd.DataFrame | None) -> dict[str, list[Bar]]:
    """Of each budget, by its title, a bar a hyperparameter, longest first, with a tick where luck alone would end."""
    if found is None or found.empty:
        return {}
    return {
        words.capitalised(facts.importance_title(rows)): [
            Bar(
                words.NAMES.get(row["hyperparameter"], str(row["hyperparameter"])),
                min(1.0, max(0.0, float(row["share"]))),
                words.percent(row["share"]),
                None if words.missing(row["share_by_luck"]) else min(1.0, max(0.0, float(row["share_by_luck"]))),
                f"by luck {words.percent(row['share_by_luck'])}, p {facts.chance(row['p'])}",
            )
            for row in rows.sort_values("share", ascending=False).to_dict(orient="records")
        ]
        for _, rows in found.groupby("budget", sort=False)
    }


# ---- to do it again ----


@dataclass(frozen=True)
class Again:
    """The study file, line by line, what it ran on, and what was typed."""

    toml: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]


def again(results: Results) -> Again:
    study = results.study
    versions = tuple(
        (name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
        for name, value in sorted(study.environment.items())
    )
    commands = dict.fromkeys(map(_command, study.commands))
    return Again(tuple(render(study.spec).splitlines()), versions, tuple(commands))


def _command(text: str) -> str:
    """As typed, the program by its name instead of its path on that machine."""
    try:
        program, *arguments = shlex.split(text) or [""]
    except ValueError:  # a command with half a quotation mark: shown as it is
        return text
    return shlex.join(["tlstudy", *arguments]) if Path(program).name in ("tlstudy", "__main__.py") else text
