"""Parallel coordinates: every configuration a line across its hyperparameters to its loss and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from tuner.evidence.results import Results
from tuner.report import style, words
from tuner.report.rows import NotYet, best_id, searched, searched_space
from tuner.report.words import Row
from tuner.spec.configuration import HYPERPARAMETERS
from tuner.spec.spec import Range
from tuner.store.ranking import Rule

WORDS = {h.name: h.words for h in HYPERPARAMETERS if h.words}


@dataclass(frozen=True)
class Scale:
    """One vertical axis: where a value stands from 0 to 1, and the ticks (place, text)."""

    name: str
    places: Mapping[Any, float] | None  # a choice: each value's place, number or word
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    flipped: bool = False

    def place(self, value: Any) -> float:
        if self.places is not None:
            return self.places[value]
        low, high, value = (float(np.log10(v)) if self.log else float(v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return 1 - share if self.flipped else share

    def ticks(self) -> list[tuple[float, str]]:
        """(height from 0 to 1, text) of each tick; a log axis names its ends too."""
        if self.places is not None:
            return [(place, words.hyperparameter(self.name, value)) for value, place in self.places.items()]
        if self.low == self.high:
            return [(0.5, self.text(self.low))]
        locator: Locator = MaxNLocator(6, steps=[1, 2, 5, 10])
        if self.log:
            locator = LogLocator(subs=style.log_subs(self.low, self.high), numticks=12)
        values = [float(v) for v in locator.tick_values(self.low, self.high) if self.low <= v <= self.high]
        if self.log:
            # The ends where no other tick is near: what was tried at most and at least.
            inner = [v for v in values if min(self.place(v), 1 - self.place(v)) > 0.06]
            values = [self.low, *inner, self.high]
        return [(self.place(v), self.text(v)) for v in values]

    def text(self, value: float) -> str:
        if self.name == "val_accuracy":
            return f"{100 * value:.0f}%" if self.high - self.low > 0.04 else f"{100 * value:.1f}%"
        return words.rate(value) if self.log and self.name != "val_loss" else f"{value:.4g}"


def scales(results: Results) -> list[Scale]:
    """The axes: the searched hyperparameters, then loss, accuracy and any other objective, so turned that better is up.
    Raises NotYet.
    """
    table, baseline, space = searched(results), results.frozen_head(), searched_space(results)
    if not space:
        raise NotYet("no hyperparameter is searched")
    if baseline is not None:
        table = pd.concat([table, baseline.to_frame().T])
    made = []
    for name, choices in space.items():
        values = sorted(set(table[name].dropna()), key=lambda v: WORDS[name].index(v) if name in WORDS else v)
        log = isinstance(choices, Range) and choices.sampling == "log"
        if name in WORDS or (not log and len(values) <= 8):
            spaced = {v: (i / (len(values) - 1) if len(values) > 1 else 0.5) for i, v in enumerate(values)}
            made.append(Scale(name, spaced))
        else:
            made.append(Scale(name, None, values[0], values[-1], log=log and values[0] > 0))
    loss, accuracy = table["val_loss"], table["val_accuracy"]
    wide = bool(loss.min() > 0 and loss.max() > style.WIDE * loss.min())
    return [
        *made,
        Scale("val_loss", None, float(loss.min()), float(loss.max()), log=wide, flipped=True),
        Scale("val_accuracy", None, float(accuracy.min()), float(accuracy.max())),
        *_objective(table, results.study.rule),
    ]


def _objective(table: pd.DataFrame, rule: Rule) -> list[Scale]:
    """The axis of an objective that is neither loss nor accuracy, where any configuration has its value."""
    if rule.scored is None or not table[rule.scored].notna().any():
        return []
    values = table[rule.scored].astype("float64")
    return [Scale(rule.scored, None, float(values.min()), float(values.max()), flipped=rule.smaller)]


BEST: dict[str, Any] = {"color": style.WINNER, "linewidth": 3, "marker": "*"}
FROZEN: dict[str, Any] = {"color": style.BASELINE, "linewidth": 2.2, "marker": "s", "markersize": 5}


def parallel(results: Results, ax: Axes) -> list[Line2D]:
    """Draws every configuration and the best frozen one: the best thick, those stopped early faint.

    Returns the legend's handles. Raises NotYet.
    """
    drawn = scales(results)
    best, baseline = best_id(results), results.frozen_head()

    def line(row: Row, **look: Any) -> None:
        ax.plot(range(len(drawn)), [s.place(row[s.name]) for s in drawn], clip_on=False, **look)

    rows = searched(results).dropna(subset=[s.name for s in drawn]).to_dict(orient="records")
    for row in sorted(rows, key=lambda r: (r["id"] == best, bool(r["full"]))):
        if row["id"] == best:
            line(row, **BEST, markersize=11, markeredgecolor="white", zorder=6)
        elif row["full"]:
            line(row, color=style.INK, linewidth=1.2, alpha=0.75, zorder=4)
        else:
            line(row, color=style.OTHER, linewidth=1.2, alpha=0.4, zorder=3)
    if baseline is not None:
        line(baseline.to_dict(), **FROZEN, linestyle=(0, (6, 2)), zorder=5)
    _frame(ax, drawn)
    handles = [] if best is None else [style.handle(f"best ({best})", **BEST, markersize=10)]
    if baseline is not None:
        handles.append(style.handle("best frozen head", **FROZEN, line=(0, (6, 2))))
    handles.append(style.handle("trained to the end", linewidth=1.2))
    return [*handles, style.handle("trained for fewer epochs", style.OTHER, linewidth=1.2, alpha=0.6)]


def _frame(ax: Axes, scales: Sequence[Scale]) -> None:
    stroke: dict[str, Any] = {"color": "#777777", "linewidth": 1, "zorder": 2, "clip_on": False}
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for i, scale in enumerate(scales):
        ax.plot([i, i], [0, 1], **stroke)
        for place, text in scale.ticks():
            ax.plot([i - 0.015, i], [place, place], **stroke)
            ax.text(i - 0.03, place, text, ha="right", va="center", fontsize=8, zorder=7, clip_on=False, bbox=ground)
    ax.set_xticks(range(len(scales)), [words.NAMES[s.name].replace(" ", "\n") for s in scales])
    ax.tick_params(axis="x", length=0, pad=8)
    ax.set_yticks([])
    ax.set_xlim(-0.35, len(scales) - 0.9)
    ax.set_ylim(-0.03, 1.03)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
