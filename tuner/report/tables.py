"""The report's tables for the terminal, as rich renderables. Every name from outside is plain text, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuner.evidence.results import Results
from tuner.evidence.snapshot import Study
from tuner.evidence.statistics import smallest_telling_difference
from tuner.report import words
from tuner.report.best import best_table, hyperparameter_table, title
from tuner.study.spec import Range, Searched


def report(results: Results, top: int = 10) -> Group:
    """Everything the terminal shows of a study, the sentence first."""
    parts: list[RenderableType] = [Text(headline(results)), Text(), study_table(results)]
    if len(results.configurations()):
        parts += [Text(), best_table(results, top)]
    if (further := hyperparameter_table(results, top)) and len(results.ranking()):
        parts += [Text(), further]
    if results.study.plan:
        parts += [Text(), bracket_table(results)]
    warnings = warning_list(results)
    return Group(*parts, *([Text(), warnings] if warnings else []))


def headline(results: Results) -> str:
    """What the figures show and what they do not, in plain sentences."""
    study, winner, baseline = results.study, results.winner(), results.baseline()
    state = {"finished": "", "running": "Still running: ", "interrupted": "Interrupted: ", "not started": ""}[
        study.state
    ]
    if study.state == "not started":
        return "Not started: nothing has been trained yet."
    if winner is None and baseline is None:
        return f"{state}no configuration has finished an epoch yet."
    said = []
    if winner is not None:
        so_far = "" if winner["full"] else f" after {winner['epochs']} of {study.spec.search.max_epochs} epochs"
        said.append(f"best configuration {winner['id']}{so_far}: {_score(winner)}")
    if baseline is not None:
        said.append(f"frozen baseline: {_score(baseline)}")
    text = state + "; ".join(said)
    return f"{text[0].upper()}{text[1:]}. {_caution(study, winner, baseline)}"


def _score(row: pd.Series) -> str:
    if words.missing(row["correct"]):
        return f"validation loss {words.number(row['val_loss'])}"
    return f"{row['correct']}/{row['validation']} ({words.percent(row['val_accuracy'])}, interval {_interval(row)})"


def _interval(row: Any) -> str:
    return "-" if words.missing(row["low"]) else f"{100 * row['low']:.0f} to {words.percent(row['high'])}"


def _caution(study: Study, winner: pd.Series | None, baseline: pd.Series | None) -> str:
    n, needed = study.validation, smallest_telling_difference(study.validation)
    if needed is None:
        told = f"With only {n} validation images no difference can be told from luck."
    else:
        told = f"On {n} validation images a difference below {needed} images cannot be told from luck."
        if baseline is not None and not words.missing(baseline["correct"]) and n - baseline["correct"] < needed:
            wrong = n - baseline["correct"]
            told += f" The baseline is wrong on {wrong}, so these images cannot show a gain however good the best is."
    if winner is not None and winner["unfrozen_layers"] == 0:
        told += " The best configuration keeps the backbone frozen too."
    return told + " The search chose the best by these same images, so it looks better here than it is."


# ---- the study ----


def study_table(results: Results) -> Table:
    """Data, backbone, space and search, a line each."""
    study = results.study
    table = Table(title=title("Study", study), title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _study_lines(study):
        table.add_row(name, Text(text))
    return table


def _study_lines(study: Study) -> list[tuple[str, str]]:
    search = study.spec.search
    lines = [
        (
            "state",
            study.state
            + (f", {words.seconds(study.seconds)}" if study.seconds else "")
            + (f" in {study.sessions} sessions" if study.sessions > 1 else ""),
        )
    ]
    if study.data_path:
        lines.append(
            ("data", words.visible(study.data_path) + (f" ({words.visible(study.layout)})" if study.layout else ""))
        )
    for split, counts in study.counts.items():
        each = [f"{words.visible(name)} {count}" for name, count in zip(study.classes, counts, strict=False)]
        lines.append((split, f"{sum(counts)} images: {words.listed(each, 12)}"))
    if study.left_out:
        files = [f"{words.visible(path)} ({words.visible(reason)})" for path, reason in study.left_out]
        lines.append(("left out", words.listed(files, 3)))
    if study.weights:
        weights = words.visible(study.weights) + ("" if study.pretrained else f", {words.NO_PRETRAINING}")
        size = f", {words.amount(study.backbone_parameters)} parameters" if study.backbone_parameters else ""
        lines.append(("backbone", f"ResNet-50, {weights}{size}"))
    if study.classes:
        lines += [
            (words.NAMES[key], searched(key, value))
            for key, value in vars(study.spec.space).items()
            if value != words.DEFAULTS.get(key)
        ]
        lines.append(
            (
                "search",
                f"Hyperband by {words.NAMES[search.objective]}, at most {search.max_epochs} epochs, "
                f"factor {search.factor}, batch {search.batch_size}, seed {search.seed}",
            )
        )
    return lines


def searched(name: str, value: Searched) -> str:
    """One hyperparameter's values in words."""
    if isinstance(value, Range):
        return f"{words.hyperparameter(name, value.min)} to {words.hyperparameter(name, value.max)}, {value.sampling}"
    return (
        words.listed([words.hyperparameter(name, v) for v in value], 20)
        if isinstance(value, tuple)
        else words.hyperparameter(name, value)
    )


# ---- brackets and rungs ----


def bracket_table(results: Results) -> Table:
    """Hyperband's plan and how far it came: a row a rung."""
    study, rungs = results.study, results.rungs()
    table = Table(
        title=title("Brackets and rungs", study),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for header in ("bracket", "rung", "epochs", "planned", "ended", "failed"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("went on", overflow="fold")
    several = len({b.iteration for b in study.plan}) > 1
    for row in rungs.to_dict(orient="records"):
        first = row["rung"] == 0
        if first:
            table.add_section()
        name = f"{row['bracket']}" + (f" (iteration {row['iteration'] + 1})" if several else "")
        table.add_row(
            name if first else "",
            *(str(row[k]) for k in ("rung", "epochs", "planned", "ended")),
            str(row["failed"] or ""),
            row["state"],
            Text(words.listed(row["promoted"], 6)),
        )
    return table


# ---- warnings ----


def warning_list(results: Results) -> RenderableType | None:
    """What qualifies the result: the study's warnings and the configurations that failed, or None."""
    table = results.configurations()
    failed = table[table["status"] == "failed"]
    lines = [words.visible(w) for w in results.study.warnings]
    lines += [
        f"{row['id']} failed: {'no reason given' if words.missing(row['reason']) else words.visible(row['reason'])}"
        for row in failed.to_dict(orient="records")
    ]
    return _bullets("Warnings", lines) if lines else None


def _bullets(title: str, lines: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, show_header=False, padding=(0, 1, 0, 0)
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("!", Text(line))
    return table
