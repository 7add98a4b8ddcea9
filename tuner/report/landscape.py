"""Figures over the search space: what accuracy and loss do with depth and learning rate, and all of it at once."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tuner.report import style, words

Lines = Mapping[str, Any]  # role -> a row of the configurations, for "best", "baseline" and "reference"


def depth_places(depths: pd.Series) -> tuple[dict[int, float], list[float], list[str]]:
    """Each depth's place on an axis, with the ticks' places and texts.

    A few depths are evenly spaced, because 0, 10, 20 and 175 would crowd on a true scale; many stand on a true one.
    """
    values = sorted({int(d) for d in depths.dropna()})
    if len(values) <= MOST_DEPTHS:
        return (
            {d: float(i) for i, d in enumerate(values)},
            [float(i) for i in range(len(values))],
            [str(d) for d in values],
        )
    unit = (values[-1] - values[0]) / MOST_DEPTHS
    ticks = [
        v for v in MaxNLocator(10, integer=True).tick_values(values[0], values[-1]) if values[0] <= v <= values[-1]
    ]
    return (
        {d: (d - values[0]) / unit for d in values},
        [(t - values[0]) / unit for t in ticks],
        [f"{t:g}" for t in ticks],
    )


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


def by_depth(table: pd.DataFrame, metric: str, lines: Lines, n: int, ax: Axes) -> Axes:
    """A metric against unfrozen depth, the baseline as a line. `metric`: "correct" (images of `n`) or "val_loss".

    Filled points trained to the last epoch, hollow ones for fewer epochs and are not comparable.
    """
    table = table[table[metric].notna()]
    places, ticks, names = depth_places(table["unfrozen_layers"])
    heights = [float(v) for v in table[metric]]
    wide = metric == "val_loss" and 0 < style.WIDE * min(heights) < max(heights)
    drawn = [math.log(h) for h in heights] if wide else heights
    reach = (max(drawn) - min(drawn)) or 1.0
    x = spread(
        [places[int(d)] for d in table["unfrozen_layers"]], drawn, near=0.5 if metric == "correct" else reach / 25
    )
    best = lines.get("best")
    for place, height, row in zip(x, heights, table.to_dict(orient="records"), strict=True):
        won = best is not None and row["id"] == best["id"]
        colour = style.WINNER if won else style.INK
        ax.plot(
            place,
            height,
            linestyle="",
            marker="*" if won else "o",
            markersize=13 if won else 5,
            alpha=1.0 if won or row["full"] else 0.7,
            markeredgecolor=colour,
            markerfacecolor=colour if row["full"] else "white",
            zorder=4 if won else 3,
        )
    for role, dash in (("baseline", "-"), ("reference", (0, (4, 2)))):
        if role in lines and not words.missing(lines[role][metric]):
            # The reference is narrower and above: where it meets the baseline both are seen.
            ax.axhline(
                float(lines[role][metric]),
                color=style.ROLES[role][0],
                linestyle=dash,
                linewidth=2.8 if role == "baseline" else 1.4,
                zorder=1.5 if role == "baseline" else 2,
            )
    if metric == "correct" and "baseline" in lines and not words.missing(lines["baseline"]["low"]):
        ax.axhspan(
            lines["baseline"]["low"] * n,
            lines["baseline"]["high"] * n,
            color=style.BASELINE,
            alpha=0.08,
            linewidth=0,
            zorder=0,
        )
    if wide:
        ax.set_yscale("log")
        style.log_axis(ax.yaxis, plain=True)
    ax.set_xticks(ticks, names)
    ax.set_xlim(-0.6, max(places.values(), default=0.0) + 0.6)
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("unfrozen layers")
    if metric == "correct":
        low, high = ax.get_ylim()
        ax.set_ylim(max(-0.5, low), min(n + 0.5, max(high, max(heights) + 0.5)))
        style.count_ticks(ax, max(0, int(np.ceil(ax.get_ylim()[0]))), min(n, int(ax.get_ylim()[1])), n)
    return ax


def depth_legend(lines: Lines, band: bool) -> list[Any]:
    """Handles for `by_depth`; `band`: the baseline's interval is drawn too."""
    handles: list[Any] = []
    if "best" in lines:
        handles.append(
            Line2D(
                [],
                [],
                color=style.WINNER,
                marker="*",
                markersize=11,
                linestyle="",
                label=f"best ({lines['best']['id']})",
            )
        )
    handles += [
        Line2D([], [], color=style.INK, marker="o", markersize=5, linestyle="", label="trained to the last epoch"),
        Line2D(
            [],
            [],
            color=style.INK,
            marker="o",
            markersize=5,
            linestyle="",
            markerfacecolor="white",
            label="trained for fewer epochs",
        ),
    ]
    if "baseline" in lines:
        handles.append(
            Line2D(
                [],
                [],
                color=style.BASELINE,
                linewidth=2.8,
                label="frozen baseline" + (", shaded: its 95% interval" if band else ""),
            )
        )
    if "reference" in lines:
        handles.append(
            Line2D([], [], color=style.REFERENCE, linewidth=1.4, linestyle=(0, (4, 2)), label="reference recipe")
        )
    return handles


def rate_by_depth(
    table: pd.DataFrame, best: str | None, baseline: Mapping[Any, Any] | None, ax: Axes
) -> ScalarMappable:
    """Learning rate (log) by unfrozen depth, coloured by validation loss; returns what a colour bar needs.

    `table`: a row a searched configuration; `baseline`: the frozen one's row, drawn as a square.
    """
    table = table[table["val_loss"].notna()]
    if baseline is not None:
        table = pd.concat([table, pd.DataFrame([baseline])], ignore_index=True)
    places, ticks, names = depth_places(table["unfrozen_layers"])
    colours = ScalarMappable(
        style.loss_norm(float(table["val_loss"].min()), float(table["val_loss"].max())), style.loss_colours()
    )
    rates = [float(np.log10(r)) for r in table["learning_rate"]]
    y = spread([places[int(d)] for d in table["unfrozen_layers"]], rates, near=0.12, step=0.1, most=0.4)
    for height, row in zip(y, table.to_dict(orient="records"), strict=True):
        won, base = row["id"] == best, row["kind"] == "baseline"
        ax.plot(
            row["learning_rate"],
            height,
            linestyle="",
            marker="*" if won else "s" if base else "o",
            markersize=15 if won else 9 if row["full"] else 5,
            markerfacecolor=colours.to_rgba(row["val_loss"]),
            markeredgecolor=style.WINNER if won else style.BASELINE if base else "#444444",
            markeredgewidth=1.5 if won or base else 0.6,
            zorder=4 if won or base else 3,
        )
    ax.set_xscale("log")
    low, high = float(table["learning_rate"].min()), float(table["learning_rate"].max())
    ax.set_xlim(low / 1.6, high * 1.6)
    style.log_axis(ax.xaxis)
    ax.set_yticks(ticks, names)
    ax.set_ylim(-0.6, max(places.values(), default=0.0) + 0.6)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("unfrozen layers")
    return colours


def rate_legend(best: str | None, baseline: bool) -> list[Line2D]:
    """Handles for `rate_by_depth`."""

    def dot(size: int, label: str) -> Line2D:
        return Line2D([], [], color="#777777", marker="o", linestyle="", markersize=size, label=label)

    def hollow(marker: str, size: int, colour: str, label: str) -> Line2D:
        line = Line2D([], [], marker=marker, markersize=size, linestyle="", markerfacecolor="white", label=label)
        line.set(markeredgecolor=colour, markeredgewidth=1.5)
        return line

    stars = [] if best is None else [hollow("*", 12, style.WINNER, f"best ({best})")]
    squares = [hollow("s", 8, style.BASELINE, "best frozen head")] if baseline else []
    return [*stars, *squares, dot(9, "trained to the last epoch"), dot(5, "trained for fewer epochs")]
