"""The table of the best configurations against the baseline and the reference, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tuner.evidence.results import Results
from tuner.evidence.study import Study
from tuner.report import words
from tuner.spec.spec import Range


def title(text: str, study: Study) -> Text:
    said = words.remarks(study.pretrained, study.leaked)
    return Text(f"{text} ({', '.join(said)})" if said else text, style="bold")


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
    """The best configurations against the baseline and the reference; one row each, whatever rungs it went through."""
    rows = [(str(row["id"]), row) for row in results.ranking().head(top).to_dict(orient="records")]
    below = [
        (name, found.to_dict())
        for name, found in (("baseline", results.baseline()), ("reference", results.reference()))
        if found is not None
    ]
    tables = [_best(results, rows, below, COLUMNS, 1, top)]
    for number in (0, 1, 2, 3, 5, 6, 7, 8, 9):
        tables.append(_best(results, rows, below, [c for c in COLUMNS if c not in DISPENSABLE[:number]], 0, top))
    return Fitted(*tables)


def _best(results: Results, rows: Rows, below: Rows, columns: Sequence[str], gap: int, top: int) -> Table:
    table = Table(
        title=title("Best configurations against the frozen baseline", results.study),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        caption=_best_caption(results, top),
        caption_justify="left",
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows:
        cells = _cells(row)
        table.add_row(Text(words.visible(name) + MARKS[row["status"]]), *(Text(cells[c]) for c in columns))
    if rows and below:
        table.add_section()
    for name, row in below:
        cells = _cells(row) | ({} if name == "reference" else {"right\n+/-": "", "loss\n+/-": ""})
        table.add_row(Text(name), *(Text(cells[c]) for c in columns))
    return table


Rows = list[tuple[str, dict[Any, Any]]]

MARKS = {"completed": "", "running": " runs", "failed": " failed", "interrupted": " cut off", "not started": " waits"}

COLUMNS = (
    "layers",
    "rate",
    "head",
    "right",
    "%",
    "95%\nrange",
    "loss",
    "right\n+/-",
    "loss\n+/-",
    "epochs",
    "trained",
    "time",
)


DISPENSABLE = ("%", "time", "trained", "rate", "head", "epochs", "95%\nrange", "right\n+/-", "loss\n+/-")
"""The order in which columns go where the terminal is too narrow for all: a number cut off tells nothing."""


def _cells(row: Mapping[Any, Any]) -> dict[str, str]:
    seen = not words.missing(row["correct"])
    return dict(
        zip(
            COLUMNS,
            (
                words.hyperparameter("unfrozen_layers", row["unfrozen_layers"]),
                words.rate(row["learning_rate"]),
                words.hyperparameter("head_width", row["head_width"]),
                f"{row['correct']}/{row['validation']}" if seen else "-",
                words.percent(row["val_accuracy"]) if seen else "-",
                f"{100 * row['low']:.0f}-{words.percent(row['high'])}" if seen else "-",
                words.number(row["val_loss"]),
                words.signed(row["images_over_baseline"], "+d"),
                words.signed(row["loss_over_baseline"]),
                str(row["epochs"]),
                words.amount(row["trained_parameters"]),
                words.seconds(row["seconds"]),
            ),
            strict=True,
        )
    )


def _best_caption(results: Results, top: int) -> Text:
    ranking, most = results.ranking(), results.study.spec.search.max_epochs
    full = int(ranking["full"].sum())
    reached = f"the {full} that reached {most} epochs come first" if full else f"none has reached {most} epochs yet"
    lines = [
        f"{min(top, len(ranking))} of {len(ranking)} configurations; {reached}.",
        "right: of the validation images, at the best epoch. layers: unfrozen.",
    ]
    if results.baseline() is not None:
        lines.append("+/-: against the baseline; more images and less loss are better.")
    return Text("\n".join(lines), style="italic")


def hyperparameter_table(results: Results, top: int = 10) -> Table | None:
    """Every hyperparameter of the best configurations; None when the table of the best shows all that was searched."""
    space = vars(results.study.spec.space)
    names = [name for name, value in space.items() if isinstance(value, (tuple, Range))]
    if set(names) <= {"unfrozen_layers", "learning_rate", "head_width"}:
        return None
    table = Table(
        title=title("Their hyperparameters", results.study),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(words.NAMES[name].replace(" ", "\n"), justify="right", no_wrap=True)
    found = (("baseline", results.baseline()), ("reference", results.reference()))
    rows: Rows = [(str(row["id"]), row) for row in results.ranking().head(top).to_dict(orient="records")]
    for label, row in [*rows, *((name, row.to_dict()) for name, row in found if row is not None)]:
        table.add_row(words.visible(label), *(words.hyperparameter(name, row[name]) for name in names))
    return table
