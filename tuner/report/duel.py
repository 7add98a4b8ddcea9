"""The plots of a confirmation: a dot a seed for winner and baseline, and the difference with its intervals."""

from __future__ import annotations

from collections import Counter

from tuner.evidence.findings import Findings, Interval, Side
from tuner.report import words
from tuner.report.panels import Axis, Line, Note, Panel, linear, shares
from tuner.report.verdict import points, signed

LEFT = 84.0


def of_findings(findings: Findings) -> list[Panel]:
    return [panel for panel in (_seeds(findings), _differences(findings)) if panel is not None]


def _seeds(findings: Findings) -> Panel | None:
    """Accuracy on the images of the verdict, a dot a seed, seeds of one accuracy on top of each other."""
    named = (("winner", findings.winner), ("baseline", findings.baseline), ("other", findings.other_baseline))
    sides = [(name, side) for name, side in named if side is not None and side.accuracies]
    if not sides:
        return None
    x = shares([a for _, side in sides for a in side.accuracies], f"right, of {findings.images} images")
    y, height = _rows([name for name, _ in sides])
    about = "Accuracy of " + "; ".join(f"{name}: {_each(side)}" for name, side in sides)
    panel = Panel("Accuracy, a dot a fresh seed", about, x, y, LEFT, height, grid="x")
    for row, (name, side) in enumerate(sides):
        mean = sum(side.accuracies) / len(side.accuracies)
        panel.lines.append(_stroke(panel, mean, row, name))
        stacked: dict[float, int] = {}
        step = min(0.11, 0.8 / max(Counter(side.accuracies).values()))  # a tall stack is squeezed into its row
        for seed, accuracy in enumerate(side.accuracies):
            stacked[accuracy] = level = stacked.get(accuracy, 0) + 1
            css = ROLES[name]
            text = f"{name}, seed {seed + 1} of {len(side.accuracies)} · {words.percent(accuracy)} right"
            panel.mark(accuracy, -row + step * _side(level), "dot", css, text)
        panel.notes.append(
            Note(panel.px(mean), panel.py(-row - 0.46), f"mean {100 * mean:.1f}%", ROLES[name], "middle")
        )
    return panel


ROLES = {"winner": "best", "baseline": "baseline", "other": "other"}


def _differences(findings: Findings) -> Panel | None:
    """Winner minus baseline as searched, corrected for the choice, and confirmed: a point with its 95 % interval."""
    rows: list[tuple[str, float, Interval | None]] = []
    if findings.selection is not None:
        rows.append(("searched", findings.selection.searched, None))
        rows.append(("corrected", findings.selection.corrected.difference, findings.selection.corrected))
    if findings.compared is not None:
        rows.append(("confirmed", findings.compared.difference, findings.compared))
    if findings.folds is not None:
        rows.append(("folds", findings.folds.difference, findings.folds))
    if not rows:
        return None
    ends = [v for _, d, i in rows for v in ((d,) if i is None else (d, i.low, i.high))]
    spread = linear([*ends, 0.0, findings.margin])
    ticks = tuple((v, f"{round(100 * v, 1):+g}" if abs(v) > 1e-9 else "0") for v, _ in spread.ticks)
    x = Axis(spread.low, spread.high, ticks, "points, winner minus baseline")
    y, height = _rows([name for name, _, _ in rows])
    about = "Winner minus baseline. " + "; ".join(f"{name}: {_said(d, i)}" for name, d, i in rows)
    panel = Panel("Difference, with 95% intervals", about, x, y, LEFT, height, grid="x")
    panel.upright(0.0, "zero")
    panel.upright(findings.margin, "margin", f"margin {points(findings.margin, sign=False)}")
    for row, (name, difference, interval) in enumerate(rows):
        css = "strong" if name == "confirmed" else "plain"
        if interval is not None:
            panel.line([(interval.low, -row), (interval.high, -row)], f"whisker {css}")
        panel.mark(difference, -row, "square", css, f"{name} · {_said(difference, interval)}")
        panel.notes.append(Note(panel.px(difference), panel.py(-row) - 9, signed(difference), css, "middle"))
    return panel


def _said(difference: float, interval: Interval | None) -> str:
    if interval is None:
        return points(difference)
    return f"{points(difference)} (95%: {signed(interval.low)} to {signed(interval.high)}) · {interval.method}"


def _each(side: Side) -> str:
    return ", ".join(words.percent(a) for a in side.accuracies)


def _rows(names: list[str]) -> tuple[Axis, float]:
    """A vertical axis with a row a name, the first on top, and the height of its panel."""
    return Axis(-len(names) + 0.4, 0.6, tuple((float(-i), n) for i, n in enumerate(names))), 62.0 + 56.0 * len(names)


def _side(level: int) -> int:
    """The first dot in the row's middle, the next ones above and below in turn."""
    return (level // 2) * (1 if level % 2 == 0 else -1)


def _stroke(panel: Panel, value: float, row: int, name: str) -> Line:
    at, top, bottom = panel.px(value), panel.py(-row + 0.22), panel.py(-row - 0.22)
    return Line(f"{at},{top} {at},{bottom}", f"mean {ROLES[name]}")
