"""Figures over the search space: what accuracy and loss do with depth and learning rate."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tuner.evidence.results import Results
from tuner.report import style, words
from tuner.report.rows import best_id, by_role, searched
from tuner.store.ranking import SMALLER


def depth_places(depths: pd.Series) -> tuple[dict[int, float], list[float], list[str]]:
    """Each depth's place on an axis, with the ticks' places and texts.

    A few depths are evenly spaced, because 0, 10, 20 and 175 would crowd on a true scale; many stand on a true one.
    """
    values = sorted({int(d) for d in depths.dropna()})
    if len(values) <= MOST_DEPTHS:
        places = {depth: float(i) for i, depth in enumerate(values)}
        return places, list(places.values()), [str(depth) for depth in values]
    low, high = values[0], values[-1]
    unit = (high - low) / MOST_DEPTHS
    ticks = [v for v in MaxNLocator(10, integer=True).tick_values(low, high) if low <= v <= high]
    return {d: (d - low) / unit for d in values}, [(t - low) / unit for t in ticks], [f"{t:g}" for t in ticks]


MOST_DEPTHS = 12


def spread(
    places: Sequence[float], heights: Sequence[float], near: float, step: float = 0.12, most: float = 0.36
) -> list[float]:
    """Shifts points of one place apart, sideways only and always the same way, where they would cover each other.

    `near`: how close two heights must be to be in each other's way.
    """
    pattern = [0.0] + [sign * step * k for k in range(1, round(most / step) + 1) for sign in (1, -1)]
    # At each place, for each shift, the heights of the points that have it, sorted: no point is compared with all.
    taken: dict[float, list[list[float]]] = {}
    shifted: list[float] = []
    for place, height in zip(places, heights, strict=True):
        here = taken.setdefault(place, [[] for _ in pattern])
        in_the_way = [_near(column, height, near) for column in here]
        chosen = in_the_way.index(0) if 0 in in_the_way else sum(in_the_way) % len(pattern)
        insort(here[chosen], height)
        shifted.append(place + pattern[chosen])
    return shifted


def _near(ordered: Sequence[float], height: float, near: float) -> int:
    """How many of the ordered heights are nearer than `near`."""
    first = bisect_left(ordered, True, key=lambda other: other - height > -near)
    return bisect_left(ordered, True, lo=first, key=lambda other: other - height >= near) - first


def by_depth(results: Results, metric: str, ax: Axes) -> list[Line2D]:
    """A metric against unfrozen depth, baseline and reference as lines; returns the legend's handles.

    `metric`: "correct", "val_loss" or the objective. Filled points trained to the end, hollow ones for fewer
    epochs and are not comparable. Raises NotYet.
    """
    table, best, lines = searched(results), best_id(results), by_role(results, "baseline", "reference")
    n, counted = results.study.validation, metric == "correct"
    table = table[table[metric].notna()]
    places, ticks, names = depth_places(table["unfrozen_layers"])
    heights = [float(v) for v in table[metric]]
    wide = metric in SMALLER and 0 < style.WIDE * min(heights) < max(heights)
    drawn = [math.log(h) for h in heights] if wide else heights
    reach = (max(drawn) - min(drawn)) or 1.0
    x = spread([places[int(d)] for d in table["unfrozen_layers"]], drawn, near=0.5 if counted else reach / 25)
    for place, height, row in zip(x, heights, table.to_dict(orient="records"), strict=True):
        won = row["id"] == best
        colour = style.WINNER if won else style.INK
        look: dict[str, Any] = {"marker": "*", "markersize": 13} if won else {"marker": "o", "markersize": 5}
        look |= {"markeredgecolor": colour, "markerfacecolor": colour if row["full"] else "white"}
        ax.plot(place, height, **look, linestyle="", alpha=1.0 if won or row["full"] else 0.7, zorder=4 if won else 3)
    # The reference is narrower and above: where it meets the baseline both are seen.
    looks: dict[str, dict[str, Any]] = {
        "baseline": {"linewidth": 2.8, "linestyle": "-", "zorder": 1.5},
        "reference": {"linewidth": 1.4, "linestyle": style.DASHED, "zorder": 2},
    }
    for role, look in looks.items():
        if role in lines and not words.missing(lines[role][metric]):
            ax.axhline(float(lines[role][metric]), color=style.ROLES[role][0], **look)
    if counted and "baseline" in lines and not words.missing(lines["baseline"]["low"]):
        low, high = (lines["baseline"][end] * n for end in ("low", "high"))
        ax.axhspan(low, high, color=style.BASELINE, alpha=0.08, linewidth=0, zorder=0)
    if wide:
        ax.set_yscale("log")
        style.log_axis(ax.yaxis, plain=True)
    ax.set_xticks(ticks, names)
    ax.set_xlim(-0.6, max(places.values(), default=0.0) + 0.6)
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("unfrozen layers")
    if counted:
        low, high = ax.get_ylim()
        ax.set_ylim(max(-0.5, low), min(n + 0.5, max(high, max(heights) + 0.5)))
        style.count_ticks(ax, max(0, int(np.ceil(ax.get_ylim()[0]))), min(n, int(ax.get_ylim()[1])), n)
    return _depth_legend(best, lines, counted)


def _depth_legend(best: str | None, lines: Collection[str], counted: bool) -> list[Line2D]:
    dot: dict[str, Any] = {"marker": "o", "markersize": 5, "line": ""}
    handles = [] if best is None else [style.handle(f"best ({best})", style.WINNER, marker="*", markersize=11, line="")]
    handles.append(style.handle("trained to the end", **dot))
    handles.append(style.handle("trained for fewer epochs", **dot, markerfacecolor="white"))
    if "baseline" in lines:
        label = "frozen baseline" + (", shaded: its 95% interval" if counted else "")
        handles.append(style.handle(label, style.BASELINE, linewidth=2.8))
    if "reference" in lines:
        handles.append(style.handle("reference recipe", style.REFERENCE, linewidth=1.4, line=style.DASHED))
    return handles


def rate_by_depth(results: Results, ax: Axes, *, colorbar: bool = True) -> list[Line2D]:
    """Learning rate (log) by unfrozen depth of every configuration, coloured by validation loss, and the best frozen
    one, a square; returns the legend's handles. Raises NotYet.
    """
    table, best, baseline = searched(results), best_id(results), results.frozen_head()
    if baseline is not None:
        table = pd.concat([table, pd.DataFrame([baseline.to_dict()])], ignore_index=True)
    places, ticks, names = depth_places(table["unfrozen_layers"])
    colours = style.loss_colours(float(table["val_loss"].min()), float(table["val_loss"].max()))
    rates = [float(np.log10(r)) for r in table["learning_rate"]]
    y = spread([places[int(d)] for d in table["unfrozen_layers"]], rates, near=0.12, step=0.1, most=0.4)
    for height, row in zip(y, table.to_dict(orient="records"), strict=True):
        look: dict[str, Any] = {"marker": "o", "markeredgecolor": "#444444", "markeredgewidth": 0.6, "zorder": 3}
        size = 9 if row["full"] else 5
        if row["id"] == best:
            look, size = {"marker": "*", "markeredgecolor": style.WINNER, "markeredgewidth": 1.5, "zorder": 4}, 15
        elif row["kind"] == "baseline":
            look = {"marker": "s", "markeredgecolor": style.BASELINE, "markeredgewidth": 1.5, "zorder": 4}
        fill = colours.to_rgba(row["val_loss"])
        ax.plot(row["learning_rate"], height, linestyle="", markersize=size, markerfacecolor=fill, **look)
    ax.set_xscale("log")
    low, high = float(table["learning_rate"].min()), float(table["learning_rate"].max())
    ax.set_xlim(low / 1.6, high * 1.6)
    style.log_axis(ax.xaxis)
    ax.set_yticks(ticks, names)
    ax.set_ylim(-0.6, max(places.values(), default=0.0) + 0.6)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("unfrozen layers")
    if colorbar:
        style.loss_bar(colours, ax)
    return _rate_legend(best, baseline is not None)


def _rate_legend(best: str | None, baseline: bool) -> list[Line2D]:
    hollow: dict[str, Any] = {"line": "", "markerfacecolor": "white", "markeredgewidth": 1.5}
    dot: dict[str, Any] = {"line": "", "marker": "o"}
    handles = [style.handle(f"best ({best})", style.WINNER, marker="*", markersize=12, **hollow)] if best else []
    if baseline:
        handles.append(style.handle("best frozen head", style.BASELINE, marker="s", markersize=8, **hollow))
    handles.append(style.handle("trained to the end", "#777777", markersize=9, **dot))
    return [*handles, style.handle("trained for fewer epochs", "#777777", markersize=5, **dot)]
