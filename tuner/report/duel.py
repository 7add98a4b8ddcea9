"""The plots of a confirmation: a dot a seed for winner and baseline, and the difference with its intervals."""

from __future__ import annotations

from collections import Counter

from tuner.evidence.findings import Findings, Interval
from tuner.report import words
from tuner.report.panels import Axis, Note, Panel, linear, shares
from tuner.report.verdict import interval, points, signed

LEFT = 84.0


def of_findings(findings: Findings) -> list[Panel]:
    return [panel for panel in (_seeds(findings), _differences(findings)) if panel is not None]


def _seeds(findings: Findings) -> Panel | None:
    """Accuracy on the images of the verdict, a dot a seed, seeds of one accuracy on top of each other."""
    named = {"winner": findings.winner, "baseline": findings.baseline}
    named |= {"other": findings.other_baseline, "unfrozen": findings.unfrozen}
    sides = [(name, side) for name, side in named.items() if side is not None and side.accuracies]
    if not sides:
        return None
    x = shares([a for _, side in sides for a in side.accuracies], f"right, of {findings.images} images")
    y, height = _rows([name for name, _ in sides])
    about = "Accuracy of " + "; ".join(
        f"{name}: {', '.join(map(words.percent, side.accuracies))}" for name, side in sides
    )
    panel = Panel("Accuracy, a dot a fresh seed", about, x, y, LEFT, height, grid="x")
    for row, (name, side) in enumerate(sides):
        css = {"winner": "best", "unfrozen": "other"}.get(name, name)
        mean = side.mean or 0.0
        panel.line([(mean, -row + 0.22), (mean, -row - 0.22)], f"mean {css}")
        failed = f", {side.failed} failed as chance" if side.failed and findings.kind != "open" else ""
        stacked: Counter[float] = Counter()
        step = min(0.11, 0.8 / max(Counter(side.accuracies).values()))  # a tall stack is squeezed into its row
        for seed, accuracy in enumerate(side.accuracies, 1):
            stacked[accuracy] += 1
            level = stacked[accuracy] // 2 * (-1) ** stacked[accuracy]  # in the middle, above, below, ...
            text = f"{name}, seed {seed} of {len(side.accuracies)} · {words.percent(accuracy)} right"
            panel.mark(accuracy, -row + step * level, "dot", css, text)
        panel.notes.append(
            Note(panel.px(mean), panel.py(-row - 0.46), f"mean {100 * mean:.1f}%{failed}", css, "middle")
        )
    return panel


def _differences(findings: Findings) -> Panel | None:
    """Winner minus baseline as searched, corrected for the choice, and confirmed: a point with its 95 % interval."""
    rows: list[tuple[str, float, Interval | None]] = []
    if findings.selection is not None:
        rows.append(("searched", findings.selection.searched, None))
    corrected = None if findings.selection is None else findings.selection.corrected
    again = "fresh seeds" if findings.exploratory else "confirmed"
    named = {"corrected": corrected, again: findings.compared}
    named |= {"to the other": findings.compared_other, "folds": findings.folds}
    rows += [(name, found.difference, found) for name, found in named.items() if found is not None]
    if not rows:
        return None
    ends = [v for _, d, i in rows for v in ((d,) if i is None else (d, i.low, i.high))]
    spread = linear([*ends, 0.0, findings.margin])
    ticks = tuple((v, f"{round(100 * v, 1):+g}" if abs(v) > 1e-9 else "0") for v, _ in spread.ticks)
    x = Axis(spread.low, spread.high, ticks, "points, winner minus baseline")
    y, height = _rows([name for name, _, _ in rows])
    about = "Winner minus baseline. " + "; ".join(f"{name}: {_in_words(d, i)}" for name, d, i in rows)
    panel = Panel("Difference, with 95% intervals", about, x, y, LEFT, height, grid="x")
    panel.upright(0.0, "zero")
    size = 100 * findings.margin
    panel.upright(findings.margin, "margin", f"margin {size:g} point{'' if size == 1 else 's'}")
    for row, (name, difference, found) in enumerate(rows):
        css = "strong" if name == again else "plain"
        if found is not None:
            panel.line([(found.low, -row), (found.high, -row)], f"whisker {css}")
        panel.mark(difference, -row, "square", css, f"{name} · {_in_words(difference, found)}")
        panel.notes.append(Note(panel.px(difference), panel.py(-row) - 9, signed(difference), css, "middle"))
    return panel


def _in_words(difference: float, found: Interval | None) -> str:
    return points(difference) if found is None else f"{interval(found)} · {found.method}"


def _rows(names: list[str]) -> tuple[Axis, float]:
    """A vertical axis with a row a name, the first on top, and the height of its panel."""
    return Axis(-len(names) + 0.4, 0.6, tuple((float(-i), n) for i, n in enumerate(names))), 62.0 + 56.0 * len(names)
