"""The report's tables for the terminal, as rich renderables. Every name from outside is plain text, never markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.evidence.study import Study
from tuner.report import facts, verdict, words
from tuner.report.rows import by_role, searched_space, wrong_images

Columns = Mapping[str, Mapping[str, Any]]
NAME: Mapping[str, Any] = {"no_wrap": True}
NUMBER: Mapping[str, Any] = {"justify": "right", "no_wrap": True}
TEXT: Mapping[str, Any] = {"overflow": "fold"}


def report(
    results: Results, top: int = 10, *, findings: Findings | None = None, importance: pd.DataFrame | None = None
) -> Group:
    """Everything the terminal shows of a study, in the order of the page: which model to use first, warnings last.

    `importance`: what each hyperparameter explains, as `importance_table` takes it.
    """
    known, ranked = len(results.configurations()), len(results.ranking())
    evidence = verdict.evidence(findings, results.study.rule) if findings is not None else []
    parts: list[RenderableType | None] = [
        recommendation_block(results, findings),
        verdict_block(results, findings),
        side_table(results, findings),
        _list(Text("The evidence", style="bold"), [("-", line) for line in evidence]) if evidence else None,
        wrong_list(results),
        best_table(results, top) if known else None,
        hyperparameter_table(results, top) if ranked else None,
        importance_table(importance),
        depth_table(results) if len(results.depths()) > 1 and ranked else None,
        time_table(results),
        bracket_table(results) if results.study.plan else None,
        _list(title("Study", results.study), facts.study_lines(results), style="bold", gap=2),
        warning_list(results, findings),
    ]
    shown = [part for part in parts if part is not None]
    return Group(*(line for part in shown[:-1] for line in (part, Text())), shown[-1])


def title(text: str, study: Study) -> Text:
    """A table's title with what must stand on every table."""
    remarks = words.remarks(study.pretrained, study.leaked)
    return Text(f"{text} ({', '.join(remarks)})" if remarks else text, style="bold")


def with_columns(table: Table, columns: Columns) -> Table:
    """The table with these columns added: header -> how it is set, such as NUMBER."""
    for header, settings in columns.items():
        table.add_column(header, **settings)
    return table


def _table(heading: Text, columns: Columns, *, gap: int = 1, caption: Text | None = None) -> Table:
    table = Table(
        title=heading,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    return with_columns(table, columns)


def _list(heading: Text, rows: Sequence[tuple[str, str]], *, style: str = "", gap: int = 1) -> Table:
    table = Table(title=heading, title_justify="left", box=None, show_header=False, padding=(0, gap, 0, 0))
    with_columns(table, {"name": {"style": style, **NAME}, "text": TEXT})
    for name, text in rows:
        table.add_row(name, Text(text))
    return table


# ---- the verdict ----

STYLES = {
    "gain": "bold green",
    "loss": "bold red",
    "no difference": "bold cyan",
    "too few images": "bold yellow",
    "too few seeds": "bold yellow",
    "unstable": "bold yellow",
    "looks better": "bold yellow",
    "looks worse": "bold yellow",
}


def recommendation_block(results: Results, findings: Findings | None = None) -> Group | None:
    """Which model to use; None while there is none."""
    found = results.recommendation(findings)
    if found is None:
        return None
    first, *rest = (words.visible(sentence) for sentence in found.sentences)
    return Group(Text(first, style="bold"), *(Text(line) for line in rest))


def verdict_block(results: Results, findings: Findings | None) -> Group:
    """The verdict in one sentence and what it is counted on; before there is one, the search's own headline."""
    if not verdict.is_reached(findings):
        doubts = [] if results.winner() is None else [Text(verdict.unconfirmed(findings), style="italic")]
        return Group(Text(facts.headline(results)), *doubts)
    kind, sentence = verdict.KINDS.get(findings.kind, findings.kind), words.visible(findings.sentence)
    rest = sentence.removeprefix(kind).removeprefix(":").strip()
    told = Text.assemble((f"{kind}: ", STYLES.get(findings.kind, "bold")), (rest, "bold"))
    doubts = [] if results.study.pretrained else [Text(facts.NO_PRETRAINING)]
    return Group(told, *doubts, Text(verdict.ground(findings), style="italic"))


def side_table(results: Results, findings: Findings | None) -> Table | None:
    """Winner and baseline side by side; None while there is neither."""
    sides = verdict.sides(results, findings)
    if not sides:
        return None
    compared = findings.compared if findings is not None else None
    table = _table(
        title("Winner against baseline", results.study),
        {"": NAME} | dict.fromkeys((side.role for side in sides), TEXT),
        gap=2,
        caption=Text(f"Difference: {verdict.interval(compared)}") if compared is not None else None,
    )
    for field, label in verdict.LABELS.items():
        cells = [words.visible(getattr(side, field)) for side in sides]
        if any(cells):
            table.add_row(label, *map(Text, cells))
    return table


# ---- the best configurations ----

MARKS = {"completed": "", "running": " runs", "failed": " failed", "interrupted": " cut off", "not started": " waits"}

COLUMNS = {
    "layers": "unfrozen_layers",
    "rate": "learning_rate",
    "head": "head_width",
    "right": "correct",
    "%": "val_accuracy",
    "95%\nrange": "low",
    "loss": "val_loss",
    "right\n+/-": "images_over_baseline",
    "loss\n+/-": "loss_over_baseline",
    "epochs": "epochs",
    "trained": "trained_parameters",
    "time": "seconds",
}
"""Header -> column of the configurations."""

DISPENSABLE = ("%", "time", "trained", "rate", "head", "epochs", "95%\nrange", "right\n+/-", "loss\n+/-")
"""The order in which columns go where the terminal is too narrow for all: a number cut off tells nothing."""


class Fitted:
    """Draws the first of several renderables, widest first, that fits the terminal; the last one when none does."""

    def __init__(self, *choices: RenderableType) -> None:
        self.choices = choices

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for choice in self.choices[:-1]:
            if Measurement.get(console, options.update(max_width=10_000), choice).maximum <= options.max_width:
                yield choice
                return
        yield self.choices[-1]


def best_table(results: Results, top: int = 10) -> Fitted:
    """The best configurations against the baseline and the reference; one row each, whatever rungs it went through.

    As wide as the terminal allows.
    """
    columns = words.with_objective(COLUMNS, results.study.rule.objective)
    tables = [_best(results, top, columns, gap=1)]
    for number in (0, 1, 2, 3, 5, 6, 7, 8, 9):
        kept = {header: by for header, by in columns.items() if header not in DISPENSABLE[:number]}
        tables.append(_best(results, top, kept, gap=0))
    return Fitted(*tables)


def _best(results: Results, top: int, columns: Mapping[str, str], gap: int) -> Table:
    """`columns`: header -> column of the configurations."""
    heading, caption = title("Best configurations against the frozen baseline", results.study), _caption(results, top)
    table = _table(heading, {"": NAME} | dict.fromkeys(columns, NUMBER), gap=gap, caption=caption)
    for row in results.ranking().head(top).to_dict(orient="records"):
        name = words.visible(row["id"]) + MARKS[row["status"]]
        table.add_row(Text(name), *(Text(words.cell(row, by)) for by in columns.values()))
    table.add_section()
    for role, compared in by_role(results, "baseline", "reference").items():
        cells = {header: words.cell(compared, by) for header, by in columns.items()}
        if role == "baseline":
            cells |= {header: "" for header in columns if header.endswith("+/-")}
        table.add_row(Text(role), *map(Text, cells.values()))
    return table


def _caption(results: Results, top: int) -> Text:
    ranking, most = results.ranking(), results.study.spec.search.max_epochs
    full = int(ranking["full"].sum())
    reached = f"the {full} that reached {most} epochs come first" if full else f"none has reached {most} epochs yet"
    if full and results.study.rule.patience:
        reached = f"the {full} that reached {most} epochs, or ended early on their way there, come first"
    lines = [
        f"{min(top, len(ranking))} of {len(ranking)} configurations; {reached}.",
        f"right: of the validation images, at the {results.study.rule.checkpoint} epoch. layers: unfrozen.",
    ]
    if results.baseline() is not None:
        lines.append("+/-: against the baseline; more images and less loss are better.")
    return Text("\n".join(lines), style="italic")


def hyperparameter_table(results: Results, top: int = 10) -> Table | None:
    """Every hyperparameter of the best configurations; None when the table of the best shows all that was searched."""
    names = list(searched_space(results))
    if set(names) <= {"unfrozen_layers", "learning_rate", "head_width"}:
        return None
    headers = ("", *(words.NAMES[name].replace(" ", "\n") for name in names))
    table = _table(title("Their hyperparameters", results.study), dict.fromkeys(headers, NUMBER) | {"": NAME})
    best = ((row["id"], row) for row in results.ranking().head(top).to_dict(orient="records"))
    for label, row in [*best, *by_role(results, "baseline", "reference").items()]:
        table.add_row(words.visible(label), *(words.hyperparameter(name, row[name]) for name in names))
    return table


# ---- brackets, depths, images ----


def bracket_table(results: Results) -> Table:
    """Hyperband's plan and how far it came: a row a rung."""
    numbers = dict.fromkeys(("bracket", "rung", "epochs", "planned", "ended", "failed"), NUMBER)
    table = _table(title("Brackets and rungs", results.study), {**numbers, "state": NAME, "went on": TEXT})
    for row in results.rungs().to_dict(orient="records"):
        first = row["rung"] == 0
        if first:
            table.add_section()
        table.add_row(
            facts.bracket_name(results, row) if first else "",
            *(str(row[k]) for k in ("rung", "epochs", "planned", "ended")),
            str(row["failed"] or ""),
            row["state"],
            Text(words.listed(row["promoted"], 6)),
        )
    return table


def depth_table(results: Results) -> Table:
    """How well each depth did at its best, and how much of the search went there."""
    columns = words.with_objective(facts.DEPTH_COLUMNS, results.study.rule.objective)
    headers = (header.replace(" ", "\n", 1) for header in columns)
    table = _table(title("Depths", results.study), dict.fromkeys(headers, NUMBER))
    for row in results.depths().to_dict(orient="records"):
        table.add_row(*(words.cell(row, column) for column in columns.values()))
    return table


def wrong_list(results: Results, most: int = 12) -> RenderableType | None:
    """The validation images that the best configuration or the baseline gets wrong, the surest mistakes first."""
    judged = results.images()
    roles = [role for role in ("best", "baseline") if role in judged]
    if not roles:
        return None
    wrong = wrong_images(judged, roles)
    if wrong.empty:
        return None
    table = _table(
        title(f"Wrong on {len(wrong)} of {len(judged)} validation photographs", results.study),
        dict.fromkeys(("photograph", "it is", *(f"{role} said" for role in roles)), TEXT),
        caption=Text(f"and {len(wrong) - most} more: photographs.csv") if len(wrong) > most else None,
    )
    for row in wrong.head(most).to_dict(orient="records"):
        name, label = words.visible(row["photograph"]), words.visible(row["class"])
        answers = [
            "right"
            if row[f"{role}_right"]
            else f"{words.visible(row[role])} ({words.percent(row[f'{role}_chance'])} {label})"
            for role in roles
        ]
        table.add_row(*map(Text, (name, label, *answers)))
    return table


# ---- what mattered, the time, warnings ----


def importance_table(importance: pd.DataFrame | None) -> Group | None:
    """How much of the difference between configurations each hyperparameter explains, beside what luck would give."""
    if importance is None or importance.empty:
        return None
    columns = {"": NAME} | dict.fromkeys(("share", "by luck", "p"), NUMBER)
    parts: list[RenderableType] = []
    for _, rows in importance.groupby("budget", sort=False):
        table = _table(Text(), columns)
        for row in rows.to_dict(orient="records"):
            table.add_row(
                words.NAMES.get(row["hyperparameter"], words.visible(row["hyperparameter"])),
                words.percent(row["share"]),
                words.percent(row["share_by_luck"]),
                facts.chance(row["p"]),
            )
        parts += [Text(f"What mattered {facts.importance_title(rows)}", style="bold"), table]
    return Group(*parts, *(Text(line, style="italic") for line in facts.importance_lines(importance)))


def time_table(results: Results) -> RenderableType | None:
    """The phases of all sessions together, and the whole against its floor."""
    phases, line = results.times().phases, facts.time_line(results)
    if not phases:
        return None
    columns = {"phase": NAME, "seconds": NUMBER, "share": NUMBER}
    table = _table(title("Where the time went", results.study), columns)
    whole = sum(seconds for _, seconds in phases) or 1.0
    for name, seconds in phases:
        table.add_row(Text(words.visible(name)), words.seconds(seconds), words.percent(seconds / whole))
    return table if line is None else Group(table, Text(line, style="italic"))


def warning_list(results: Results, findings: Findings | None = None) -> RenderableType | None:
    """What qualifies the result, a line each; None for nothing."""
    lines = facts.warning_lines(results, findings)
    return _list(Text("Warnings", style="bold"), [("!", line) for line in lines]) if lines else None
