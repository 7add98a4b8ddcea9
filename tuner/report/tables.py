"""The report's tables for the terminal, as rich renderables. Every name from outside is plain text, never markup."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.report import facts, verdict, words
from tuner.report.best import best_table, hyperparameter_table, title


def report(
    results: Results, top: int = 10, *, findings: Findings | None = None, importance: pd.DataFrame | None = None
) -> Group:
    """Everything the terminal shows of a study, in the order of the page: the verdict first, warnings last.

    `importance`: what each hyperparameter explains, as `importance_table` takes it.
    """
    known, ranked = len(results.configurations()), len(results.ranking())
    parts: list[RenderableType | None] = [
        verdict.block(results, findings),
        verdict.side_table(results, findings),
        verdict.evidence_list(findings) if findings is not None and verdict.evidence(findings) else None,
        wrong_list(results),
        best_table(results, top) if known else None,
        hyperparameter_table(results, top) if ranked else None,
        importance_table(importance),
        depth_table(results) if len(results.depths()) > 1 and ranked else None,
        time_table(results),
        bracket_table(results) if results.study.plan else None,
        study_table(results),
        warning_list(results, findings),
    ]
    shown = [part for part in parts if part is not None]
    return Group(*(line for part in shown[:-1] for line in (part, Text())), shown[-1])


# ---- the study ----


def study_table(results: Results) -> Table:
    """Data, backbone, space and search, a line each."""
    study = results.study
    table = Table(title=title("Study", study), title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.study_lines(results):
        table.add_row(name, Text(text))
    return table


# ---- brackets and rungs ----


def bracket_table(results: Results) -> Table:
    """Hyperband's plan and how far it came: a row a rung."""
    study, rungs = results.study, results.rungs()
    table = _table(title("Brackets and rungs", study))
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


# ---- depths ----


def depth_table(results: Results) -> Table:
    """How well each depth did at its best, and how much of the search went there."""
    table = _table(title("Depths", results.study))
    for header in (
        "unfrozen\nlayers",
        "tried",
        "trained\nin full",
        "best",
        "epochs",
        "right",
        "loss",
        "right\n+/-",
        "loss\n+/-",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for row in results.depths().to_dict(orient="records"):
        seen = not words.missing(row["correct"])
        table.add_row(
            str(row["unfrozen_layers"]),
            str(row["tried"]),
            str(row["finished"]),
            "-" if words.missing(row["best"]) else words.visible(row["best"]),
            "-" if words.missing(row["epochs"]) else str(row["epochs"]),
            f"{row['correct']}/{row['validation']}" if seen else "-",
            words.number(row["val_loss"]),
            words.signed(row["images_over_baseline"], "+d"),
            words.signed(row["loss_over_baseline"]),
        )
    return table


# ---- photographs ----


def wrong_list(results: Results, most: int = 12) -> RenderableType | None:
    """The validation photographs that the best configuration or the baseline gets wrong, the surest mistakes first."""
    said = results.images()
    names = [name for name in ("best", "baseline") if name in said]
    if not names:
        return None
    said["lowest"] = said[[f"{name}_chance" for name in names]].min(axis=1)
    wrong = said[~said[[f"{name}_right" for name in names]].all(axis=1)].sort_values("lowest", kind="stable")
    if wrong.empty:
        return None
    table = _table(title(f"Wrong on {len(wrong)} of {len(said)} validation photographs", results.study))
    table.add_column("photograph", overflow="fold")
    for name in ("it is", *(f"{name} said" for name in names)):
        table.add_column(name, overflow="fold")
    for row in wrong.head(most).to_dict(orient="records"):
        cells = [
            f"{words.visible(row[name])} ({words.percent(row[f'{name}_chance'])} {words.visible(row['class'])})"
            if not row[f"{name}_right"]
            else "right"
            for name in names
        ]
        table.add_row(*(Text(t) for t in (words.visible(row["photograph"]), words.visible(row["class"]), *cells)))
    if len(wrong) > most:
        table.caption, table.caption_justify = Text(f"and {len(wrong) - most} more: photographs.csv"), "left"
    return table


# ---- what mattered, and the time ----


def importance_table(importance: pd.DataFrame | None) -> Group | None:
    """How much of the difference between configurations each hyperparameter explains, beside what luck would give."""
    if importance is None or importance.empty:
        return None
    table = _table(Text("What mattered", style="bold"))
    for header in ("", "share", "by luck", "p"):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    for row in importance.to_dict(orient="records"):
        table.add_row(
            words.NAMES.get(row["hyperparameter"], words.visible(row["hyperparameter"])),
            words.percent(row["share"]),
            words.percent(row["share_by_luck"]),
            facts.chance(row["p"]),
        )
    return Group(table, Text(facts.importance_line(importance), style="italic"))


def time_table(results: Results) -> RenderableType | None:
    """The phases of all sessions together, and the whole against its floor."""
    found = results.times()
    if not found.phases:
        return None
    table = _table(title("Where the time went", results.study))
    for header in ("phase", "seconds", "share"):
        table.add_column(header, justify="left" if header == "phase" else "right", no_wrap=True)
    whole = sum(seconds for _, seconds in found.phases) or 1.0
    for name, seconds in found.phases:
        table.add_row(Text(words.visible(name)), words.seconds(seconds), words.percent(seconds / whole))
    line = facts.time_line(results)
    return table if line is None else Group(table, Text(line, style="italic"))


# ---- warnings ----


def warning_list(results: Results, findings: Findings | None = None) -> RenderableType | None:
    """What qualifies the result, a line each; None for nothing."""
    lines = facts.warning_lines(results, findings)
    return _bullets("Warnings", lines) if lines else None


def _table(heading: Text) -> Table:
    return Table(
        title=heading,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def _bullets(title: str, lines: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, show_header=False, padding=(0, 1, 0, 0)
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("!", Text(line))
    return table
