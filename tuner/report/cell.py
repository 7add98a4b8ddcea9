"""A study as the one line of a Python prompt and as the small card of a notebook cell."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from tuner.evidence.results import Results
from tuner.report import words
from tuner.report.headline import headline

MOST = 5
COLUMNS = ("configuration", "right", "validation loss", "epochs", "hyperparameters")


def line(results: Results) -> str:
    """`finished: 20 configurations, best c003 18/20, frozen baseline b02 17/20`."""
    rows = {"best": results.winner(), "frozen baseline": results.baseline()}
    parts = [words.several(len(results.ranking()), "configuration")]
    parts += [f"{role} {words.visible(row['id'])} {_right(row)}" for role, row in rows.items() if row is not None]
    return f"{results.study.state}: {', '.join(parts)}"


def card(name: str, results: Results) -> str:
    """HTML: the verdict, what may be said beside it, and the best configurations. Every text is escaped."""
    findings = results.findings()
    said = headline(results).splitlines()
    told = [findings.sentence, *findings.evidence, *said]
    rows = results.ranking(None).to_dict(orient="records")
    best = [row for row in rows if row["kind"] == "search"][:MOST]
    baseline = results.baseline()
    shown = best + ([] if baseline is None else [baseline.to_dict()])
    table = "".join(_row("td", _cells(row)) for row in shown)
    return (
        f"<div><p><strong>{_html(name)}</strong>: {_html(line(results))}</p>"
        + "".join(f"<p>{_html(text)}</p>" for text in told)
        + (f"<table><thead>{_row('th', COLUMNS)}</thead><tbody>{table}</tbody></table>" if shown else "")
        + "</div>"
    )


def empty(name: str) -> str:
    """The card of a study that has no results yet."""
    return f"<div><p><strong>{_html(name)}</strong>: no results yet. <code>study.search()</code> trains.</p></div>"


def _cells(row: dict[Any, Any]) -> tuple[str, ...]:
    title = row["id"] if row["kind"] == "search" else f"{row['id']} (baseline)"
    return (
        str(title),
        _right(row),
        words.number(row["val_loss"]),
        str(row["epochs"]),
        words.configuration(row),
    )


def _right(row: Any) -> str:
    return "-" if words.missing(row["correct"]) else f"{row['correct']}/{row['validation']}"


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_html(cell)}</{tag}>" for cell in cells) + "</tr>"


def _html(text: str) -> str:
    return escape(words.visible(text))
