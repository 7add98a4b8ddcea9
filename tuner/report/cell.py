"""A study as the one line of a Python prompt and as the small card of a notebook cell."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from tuner.evidence.results import Results
from tuner.report import words
from tuner.report.facts import headline
from tuner.report.rows import by_role
from tuner.report.words import Row

MOST = 5


def line(results: Results) -> str:
    """`finished: 20 configurations, best c003 18/20, frozen baseline b02 17/20`."""
    names = {"best": "best", "baseline": "frozen baseline"}
    parts = [words.several(len(results.ranking()), "configuration")]
    for role, row in by_role(results, *names).items():
        parts.append(f"{names[role]} {words.visible(row['id'])} {words.right(row)}")
    return f"{results.study.state}: {', '.join(parts)}"


def card(name: str, results: Results) -> str:
    """HTML: which model to use, the verdict, what may be said beside it, the best configurations. All is escaped."""
    findings, use = results.findings(), results.recommendation()
    texts = [
        *(use.sentences if use is not None else ()),
        findings.sentence,
        *findings.evidence,
        *headline(results).splitlines(),
    ]
    best = results.ranking().head(MOST).to_dict(orient="records")
    shown = [*best, *by_role(results, "baseline").values()]
    metrics = [name for name in (results.study.rule.scored, "val_loss") if name]
    heads = ("configuration", "right", *(words.NAMES[name] for name in metrics), "epochs", "hyperparameters")
    table = "".join(_row("td", _cells(row, metrics)) for row in shown)
    return (
        f"<div><p><strong>{_html(name)}</strong>: {_html(line(results))}</p>"
        + "".join(f"<p>{_html(text)}</p>" for text in texts)
        + (f"<table><thead>{_row('th', heads)}</thead><tbody>{table}</tbody></table>" if shown else "")
        + "</div>"
    )


def empty(name: str) -> str:
    """The card of a study that has no results yet."""
    return f"<div><p><strong>{_html(name)}</strong>: no results yet. <code>study.search()</code> trains.</p></div>"


def _cells(row: Row, metrics: Iterable[str]) -> tuple[str, ...]:
    title = row["id"] if row["kind"] == "search" else f"{row['id']} (baseline)"
    figures = (words.cell(row, name) for name in metrics)
    return title, words.right(row), *figures, str(row["epochs"]), words.configuration(row)


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_html(cell)}</{tag}>" for cell in cells) + "</tr>"


def _html(text: str) -> str:
    return escape(words.visible(text))
