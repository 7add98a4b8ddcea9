"""What recipe.py's cells say: differences with intervals, the spread over seeds, tables and a figure.

A fold's figure is its mean over the configurations compared and the seeds. Differences are taken fold by fold (the same
images, training images and seeds on both sides) and have Nadeau and Bengio's corrected resampled t interval over all
folds of all repeats (`tuner.evidence.paired`), as the study's own cross-validation has. "At its best rate": each side
at the learning rate with its least log-loss on these same images, which flatters both sides alike. The spread over
seeds is the standard deviation of one training's accuracy on the images it left out, over seeds that differ in nothing
else, pooled over configurations, repeats and folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.evidence.paired import corrected_resampled
from tuner.spec.configuration import LOGISTIC, SEVERAL_CUTS, Configuration

COLUMNS = ("out", "in", "accuracy", "Brier", "log-loss", "seconds", "failed")
"""Of one training on one fold: images left out and trained on, the metrics on those left out, seconds, whether it
failed (it then counts as predicting all classes alike)."""
METRICS = ("accuracy", "Brier", "log-loss")
PLAIN, DEFAULTS, ALL = "plain", "today's defaults", "all together"
REGRESSIONS = {LOGISTIC: "logistic regression", SEVERAL_CUTS: "regression on several cuts"}

Found = dict[str, Any]
Pairs = Mapping[str, Mapping[str, tuple[str, str]]]


@dataclass(frozen=True, eq=False)
class Measured:
    """`rounds`: (repeat, seed) of those that ended for every variant. `units`: by variant and configuration, float64
    (rounds, folds, columns).
    """

    rounds: Sequence[tuple[int, int]]
    units: Mapping[tuple[str, Configuration], np.ndarray]

    def cells(self) -> list[Configuration]:
        return [cell for variant, cell in self.units if variant == PLAIN and cell not in REGRESSIONS]

    def folds(self, variant: str, cells: Sequence[Configuration], column: str) -> np.ndarray:
        """float64 (repeats * folds,): means over cells and seeds."""
        found = np.mean([self.units[variant, c][:, :, COLUMNS.index(column)] for c in cells], axis=0)
        repeats = np.array([repeat for repeat, _ in self.rounds])
        return np.concatenate([found[repeats == r].mean(axis=0) for r in np.unique(repeats)])

    def best_rate(self, variant: str, cells: Sequence[Configuration]) -> float:
        """The learning rate with the least log-loss."""
        rates = sorted({c.rate for c in cells})
        return min(rates, key=lambda r: self.folds(variant, [c for c in cells if c.rate == r], "log-loss").mean())

    def spread(self, variant: str, cells: Sequence[Configuration]) -> float | None:
        """Standard deviation of one training's accuracy over seeds; None with a single one, and without any."""
        repeats, variances = np.array([repeat for repeat, _ in self.rounds]), []
        for cell in (c for c in cells if c not in REGRESSIONS):
            found = self.units[variant, cell][:, :, COLUMNS.index("accuracy")]
            each = [found[repeats == r] for r in np.unique(repeats)]
            variances += [v for seeds in each if len(seeds) > 1 for v in seeds.var(axis=0, ddof=1)]
        return float(np.sqrt(np.mean(variances))) if variances else None

    def seconds(self, variant: str, cells: Sequence[Configuration]) -> float:
        """Of one training; the median of each configuration's, so that a trace in one of them does not count."""
        column = COLUMNS.index("seconds")
        return float(np.mean([np.median(self.units[variant, cell][:, :, column]) for cell in cells]))


def findings(measured: Measured, pairs: Pairs) -> Found:
    """Everything as plain values: `alone`, `beside the others` (by group of cells and technique) and `absolute`."""
    cells = measured.cells()
    groups = {
        "unfrozen": [c for c in cells if c.unfrozen_layers],
        "frozen": [c for c in cells if not c.unfrozen_layers],
    }
    groups = {name: group for name, group in groups.items() if group}
    compared = {
        where: {
            name: {t: _compared(measured, *pair, group) for t, pair in each.items()} for name, group in groups.items()
        }
        for where, each in pairs.items()
        if each
    }
    absolute: Found = {}
    for cell, title in REGRESSIONS.items():
        variants = [variant for variant, other in measured.units if other == cell]
        # Variants that mean the same for it have the same figures: one row for each.
        different = {measured.folds(v, [cell], "log-loss").tobytes(): v for v in reversed(variants)}
        absolute |= {f"{title}, {v}": _absolute(measured, v, [cell]) for v in reversed(different.values())}
    rates: Found = {}
    for name, group in groups.items():
        for variant in [v for v in (PLAIN, DEFAULTS, ALL) if (v, group[0]) in measured.units]:
            absolute[f"{name}, {variant}"] = _absolute(measured, variant, group)
            rate = measured.best_rate(variant, group)
            best = [c for c in group if c.rate == rate]
            absolute[f"{name}, {variant}, rate {rate:g}"] = _absolute(measured, variant, best)
            rates |= {f"{variant}, {depth} unfrozen": row for depth, row in _by_rate(measured, variant, group)}
    return {"rounds": list(measured.rounds), "compared": compared, "absolute": absolute, "rates": rates}


def _by_rate(measured: Measured, variant: str, cells: Sequence[Configuration]) -> Iterator[tuple[int, Found]]:
    """Accuracy and log-loss by learning rate, of each depth: which range of rates holds good configurations."""
    for depth in sorted({c.unfrozen_layers for c in cells}):
        row = {}
        for rate in sorted({c.rate for c in cells}):
            here = [c for c in cells if (c.unfrozen_layers, c.rate) == (depth, rate)]
            row[f"{rate:g}"] = [float(measured.folds(variant, here, m).mean()) for m in ("accuracy", "log-loss")]
        yield depth, row


def _compared(measured: Measured, on: str, off: str, cells: Sequence[Configuration]) -> Found:
    rates = [measured.best_rate(variant, cells) for variant in (on, off)]
    best = [[c for c in cells if c.rate == rate] for rate in rates]
    return {
        **{metric: _difference(measured, (on, cells), (off, cells), metric) for metric in METRICS},
        "rates": rates,
        **{f"best {metric}": _difference(measured, (on, best[0]), (off, best[1]), metric) for metric in METRICS},
        "spread": [measured.spread(variant, cells) for variant in (on, off)],
        "seconds": measured.seconds(on, cells) - measured.seconds(off, cells),
    }


def _difference(measured: Measured, on: Any, off: Any, metric: str) -> tuple[float, float, float]:
    """The difference and its 95 % interval."""
    apart = measured.folds(*on, metric) - measured.folds(*off, metric)
    found = corrected_resampled(apart, measured.folds(*off, "out"), measured.folds(*off, "in"))
    return found.difference, found.low, found.high


def _absolute(measured: Measured, variant: str, cells: Sequence[Configuration]) -> Found:
    known = [cell for cell in REGRESSIONS if (PLAIN, cell) in measured.units]
    logistic = PLAIN, [min(known, key=lambda cell: measured.folds(PLAIN, [cell], "log-loss").mean())]
    return {
        **{metric: float(measured.folds(variant, cells, metric).mean()) for metric in METRICS},
        "over logistic": _difference(measured, (variant, cells), logistic, "accuracy"),
        "spread": measured.spread(variant, cells),
        "seconds": measured.seconds(variant, cells),
        "failed": float(measured.folds(variant, cells, "failed").mean()),
    }


# ---- telling ----


def show(found: Found, title: str) -> None:
    """Tables that are Markdown too."""
    from rich.console import Console

    console = Console(width=240)
    console.print(f"\n{title}\nrepeats and seeds: {len(found['rounds'])} rounds", highlight=False)
    for where, groups in found["compared"].items():
        for group, rows in groups.items():
            told = {name: row for name, row in rows.items() if any(row[m][0] for m in METRICS)}
            console.print(f"\n{group}, {where}: with minus without, accuracies in points", highlight=False)
            console.print(_table(_HEAD, [[name, *_cells(row)] for name, row in told.items()]))
            if silent := [name for name in rows if name not in told]:
                console.print(f"No difference at all: {', '.join(silent)}.", highlight=False)
    console.print("\nwhat that is a difference of", highlight=False)
    console.print(_table(_ABSOLUTE, [[name, *_absolute_cells(row)] for name, row in found["absolute"].items()]))
    console.print("\naccuracy and log-loss by learning rate", highlight=False)
    head = list(dict.fromkeys(rate for row in found["rates"].values() for rate in row))
    rows = [[name, *(f"{100 * a:.1f} ({b:.3f})" for a, b in row.values())] for name, row in found["rates"].items()]
    console.print(_table(["", *head], rows))


_HEAD = ("technique", "accuracy", "Brier", "log-loss", "at its best rate", "log-loss there", "rates", "spread", "s")
_ABSOLUTE = ("", "accuracy %", "Brier", "log-loss", "over the best regression", "spread", "s", "failed %")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(*head, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(row: Found) -> list[str]:
    with_it, without = row["spread"]
    spread = "" if with_it is None else f"{100 * with_it:.1f}, not {100 * without:.1f}"
    return [
        points(row["accuracy"]),
        plain(row["Brier"]),
        plain(row["log-loss"]),
        points(row["best accuracy"]),
        plain(row["best log-loss"]),
        ", not ".join(dict.fromkeys(f"{rate:g}" for rate in row["rates"])),
        spread,
        f"{row['seconds']:+.2f}",
    ]


def _absolute_cells(row: Found) -> list[str]:
    return [
        f"{100 * row['accuracy']:.1f}",
        f"{row['Brier']:.3f}",
        f"{row['log-loss']:.3f}",
        points(row["over logistic"]),
        "" if row["spread"] is None else f"{100 * row['spread']:.1f}",
        f"{row['seconds']:.2f}",
        f"{100 * row['failed']:.0f}",
    ]


def points(interval: Sequence[float]) -> str:
    """A difference of accuracies and its interval, in points."""
    middle, low, high = (100 * value for value in interval)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def plain(interval: Sequence[float]) -> str:
    """Another difference and its interval."""
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*interval)


def draw(found: Found, title: str, file: Path) -> None:
    """Accuracy and log-loss of each technique, alone and beside the others, with intervals; to the right is better."""
    from tuner.report import style

    with style.applied():
        groups = {where: each.get("unfrozen") or each["frozen"] for where, each in found["compared"].items()}
        names = list(dict.fromkeys(name for rows in groups.values() for name in rows))
        figure = style.figure(8.4, 1.3 + 0.34 * len(names), title)
        axes = figure.subplots(1, 2, sharey=True)
        looks = dict(zip(groups, ((style.WINNER, "o", -0.13), (style.BASELINE, "s", 0.13)), strict=False))
        for ax, (metric, label, unit) in zip(axes, _PANELS, strict=True):
            for where, (colour, marker, shift) in looks.items():
                for at, name in enumerate(names):
                    if name in groups[where]:
                        _bar(ax, [unit * v for v in groups[where][name][metric]], at + shift, colour, marker)
            ax.axvline(0, color=style.INK, linewidth=1)
            ax.set_title(label)
            ax.margins(x=0.08)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        handles = [style.handle(where, colour, line="", marker=marker) for where, (colour, marker, _) in looks.items()]
        figure.legend(handles=handles, loc="outside lower right", ncols=2)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=200, metadata={"Software": None})


_PANELS = (("accuracy", "Accuracy, points", 100.0), ("log-loss", "Log-loss saved", -1.0))


def _bar(ax: Any, interval: Sequence[float], at: float, colour: str, marker: str) -> None:
    middle, low, high = interval
    if math.isfinite(low + high):
        ax.hlines(at, min(low, high), max(low, high), color=colour, linewidth=1.6)
    ax.plot(middle, at, color=colour, marker=marker, markersize=5)
