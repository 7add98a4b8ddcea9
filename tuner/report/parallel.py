"""Parallel coordinates: every configuration a line across its hyperparameters to its loss and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from tuner.report import style, words


@dataclass(frozen=True)
class Scale:
    """One vertical axis: where a value stands from 0 to 1, and the ticks (place, text)."""

    name: str
    places: Mapping[float, float] | None  # a choice: each value's place
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    flipped: bool = False

    def place(self, value: float) -> float:
        if self.places is not None:
            return self.places[value]
        low, high, value = (float(np.log10(v)) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return 1 - share if self.flipped else share

    def ticks(self) -> list[tuple[float, str]]:
        """(height from 0 to 1, text) of each tick; a log axis names its ends too."""
        if self.places is not None:
            return [(place, words.hyperparameter(self.name, value)) for value, place in self.places.items()]
        if self.low == self.high:
            return [(0.5, self.text(self.low))]
        locator = (
            LogLocator(subs=style.log_subs(self.low, self.high), numticks=12)
            if self.log
            else MaxNLocator(6, steps=[1, 2, 5, 10])
        )
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


def scales(table: pd.DataFrame, searched: Sequence[str], log: Sequence[str]) -> list[Scale]:
    """The axes: the searched hyperparameters, then loss and accuracy, so turned that better is up."""
    made = []
    for name in searched:
        values = sorted({float(v) for v in table[name].dropna()})
        if name not in log and len(values) <= 8:
            spaced = {v: (i / (len(values) - 1) if len(values) > 1 else 0.5) for i, v in enumerate(values)}
            made.append(Scale(name, spaced))
        else:
            made.append(Scale(name, None, values[0], values[-1], log=name in log and values[0] > 0))
    loss, accuracy = table["val_loss"], table["val_accuracy"]
    wide = bool(loss.min() > 0 and loss.max() > style.WIDE * loss.min())
    return [
        *made,
        Scale("val_loss", None, float(loss.min()), float(loss.max()), log=wide, flipped=True),
        Scale("val_accuracy", None, float(accuracy.min()), float(accuracy.max())),
    ]


def parallel(
    table: pd.DataFrame, axes_scales: Sequence[Scale], best: str | None, baseline: Mapping[Any, Any] | None, ax: Axes
) -> Axes:
    """Draws the configurations in `table` and the baseline; the best thick, those stopped early faint."""
    rows = [row for row in table.to_dict(orient="records") if not any(words.missing(row[s.name]) for s in axes_scales)]
    for row in sorted(rows, key=lambda r: (r["id"] == best, bool(r["full"]))):
        y = [s.place(float(row[s.name])) for s in axes_scales]
        if row["id"] == best:
            ax.plot(
                range(len(y)),
                y,
                color=style.WINNER,
                linewidth=3,
                marker="*",
                markersize=11,
                markeredgecolor="white",
                zorder=6,
                clip_on=False,
            )
        else:
            ax.plot(
                range(len(y)),
                y,
                color=style.INK if row["full"] else style.OTHER,
                linewidth=1.2,
                alpha=0.75 if row["full"] else 0.4,
                zorder=4 if row["full"] else 3,
                clip_on=False,
            )
    if baseline is not None:
        y = [s.place(float(baseline[s.name])) for s in axes_scales]
        ax.plot(
            range(len(y)),
            y,
            color=style.BASELINE,
            linewidth=2.2,
            linestyle=(0, (6, 2)),
            marker="s",
            markersize=5,
            zorder=5,
            clip_on=False,
        )
    _frame(ax, axes_scales)
    return ax


def _frame(ax: Axes, axes_scales: Sequence[Scale]) -> None:
    for i, scale in enumerate(axes_scales):
        ax.plot([i, i], [0, 1], color="#777777", linewidth=1, zorder=2, clip_on=False)
        for place, text in scale.ticks():
            ax.plot([i - 0.015, i], [place, place], color="#777777", linewidth=1, zorder=2, clip_on=False)
            ax.text(
                i - 0.03,
                place,
                text,
                ha="right",
                va="center",
                fontsize=8,
                zorder=7,
                clip_on=False,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
    ax.set_xticks(range(len(axes_scales)), [words.NAMES[s.name].replace(" ", "\n") for s in axes_scales])
    ax.tick_params(axis="x", length=0, pad=8)
    ax.set_yticks([])
    ax.set_xlim(-0.35, len(axes_scales) - 0.9)
    ax.set_ylim(-0.03, 1.03)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def parallel_legend(best: str | None, baseline: bool) -> list[Line2D]:
    """Handles for `parallel`."""
    handles = []
    if best is not None:
        handles.append(
            Line2D([], [], color=style.WINNER, linewidth=3, marker="*", markersize=10, label=f"best ({best})")
        )
    if baseline:
        handles.append(
            Line2D(
                [],
                [],
                color=style.BASELINE,
                linewidth=2.2,
                linestyle=(0, (6, 2)),
                marker="s",
                markersize=5,
                label="best frozen head",
            )
        )
    return [
        *handles,
        Line2D([], [], color=style.INK, linewidth=1.2, label="trained to the last epoch"),
        Line2D([], [], color=style.OTHER, linewidth=1.2, alpha=0.6, label="trained for fewer epochs"),
    ]
