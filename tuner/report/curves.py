"""Figures over epochs: the best's learning curves beside the baseline's, and Hyperband's brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tuner.report import style, words

PANELS = (("accuracy", "Accuracy"), ("loss", "Loss"))
WIDTHS = {"best": 3.2, "baseline": 1.5}


def learning_curves(
    epochs: pd.DataFrame, roles: Mapping[str, str], best_epochs: Mapping[str, int], axes: Sequence[Axes]
) -> Sequence[Axes]:
    """Two panels, accuracy and loss: training dashed, validation solid, the best epoch ringed, promotions marked.

    `roles`: "best" and "baseline" -> configuration; `best_epochs`: configuration -> epoch.
    """
    for ax, (metric, title) in zip(axes, PANELS, strict=True):
        learning_curve(epochs, roles, best_epochs, metric, ax).set_title(title)
    return axes


def learning_curve(
    epochs: pd.DataFrame, roles: Mapping[str, str], best_epochs: Mapping[str, int], metric: str, ax: Axes
) -> Axes:
    """One panel of `learning_curves`; `metric`: "accuracy" or "loss"."""
    for role, configuration in roles.items():
        # The best is drawn wide and the baseline narrow on top of it: where they run together both are seen.
        _curve(ax, epochs[epochs["configuration"] == configuration], metric, role, best_epochs.get(configuration))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.margins(x=0.03)
    _promotions(ax, epochs[epochs["configuration"] == roles.get("best")])
    if metric == "accuracy":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
        ax.set_ylim(max(0.0, ax.get_ylim()[0]), 1.02)
    else:
        ax.set_ylim(bottom=0)
    return ax


def curve_legend(roles: Mapping[str, str], promoted: bool) -> list[Line2D]:
    """The handles that explain `learning_curves`, for the figure's legend."""
    handles = [
        Line2D(
            [],
            [],
            color=style.ROLES[role][0],
            linewidth=WIDTHS[role],
            marker=style.ROLES[role][1],
            markerfacecolor="white",
            markersize=8,
            label=f"{role} ({configuration}), its best epoch marked",
        )
        for role, configuration in roles.items()
    ]
    handles += [
        Line2D([], [], color=style.INK, label="validation"),
        Line2D([], [], color=style.INK, linestyle="--", linewidth=1.3, label="training"),
    ]
    if promoted:
        handles.append(
            Line2D([], [], color=style.WINNER, linestyle=":", linewidth=1.2, label="best promoted to the next rung")
        )
    return handles


def _curve(ax: Axes, rows: pd.DataFrame, metric: str, role: str, best: int | None) -> None:
    (colour, marker), width = style.ROLES[role], WIDTHS[role]
    x = rows["epoch"].astype("float64")
    alone = "." if len(rows) == 1 else ""  # a line through one point is invisible
    ax.plot(x, rows[metric], color=colour, linestyle=(0, (4, 2)), linewidth=0.7 * width, alpha=0.85, marker=alone)
    ax.plot(x, rows[f"val_{metric}"], color=colour, linewidth=width, marker=alone)
    at = rows[rows["epoch"] == best] if best is not None else rows[:0]
    ax.plot(
        at["epoch"].astype("float64"),
        at[f"val_{metric}"],
        linestyle="",
        marker=marker,
        markersize=10 if marker == "*" else 8,
        markerfacecolor="white",
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=4,
    )


def promotions(rows: pd.DataFrame) -> list[int]:
    """The epochs after which a configuration was promoted: where its next epoch belongs to another trial."""
    rows = rows.sort_values("epoch")
    trial = list(rows["trial"])
    return [int(epoch) for epoch, here, after in zip(rows["epoch"], trial, trial[1:], strict=False) if here != after]


def _promotions(ax: Axes, rows: pd.DataFrame) -> None:
    for epoch in promotions(rows):
        ax.axvline(epoch + 0.5, color=style.WINNER, linestyle=":", linewidth=1.2, zorder=1)


# ---- brackets and rungs ----


def bracket(trials: pd.DataFrame, epochs: Sequence[int], winner: str | None, ax: Axes, *, apart: bool = False) -> Axes:
    """One bracket: each configuration a line along its rungs at its best score so far; those that went on are dark.

    `trials`: the bracket's trials, whose score is the objective; `epochs`: the last epoch of each rung; `apart`: lines
    are shifted sideways a little, for scores that tie.
    """
    trials = trials.sort_values("rung")
    groups = list(trials.groupby("configuration", sort=True))
    for number, (configuration, rows) in enumerate(groups):
        shift = 0.4 * ((number + 0.5) / len(groups) - 0.5) if apart else 0.0
        scored, last = rows[rows["score"].notna()], int(rows["rung"].max())
        won, far = configuration == winner, last > 0 or last == len(epochs) - 1
        colour = style.WINNER if won else style.INK if far else style.OTHER
        ax.plot(
            scored["rung"].astype("float64") + shift,
            scored["score"],
            color=colour,
            linewidth=2.4 if won else 1.3,
            marker="o",
            markersize=4,
            alpha=1.0 if won else 0.7,
            zorder=3 if won else 2,
        )
        if won:
            ax.plot(
                scored["rung"].iloc[-1:].astype("float64") + shift,
                scored["score"].iloc[-1:],
                linestyle="",
                marker="*",
                markersize=13,
                color=colour,
                markeredgecolor="white",
                zorder=5,
            )
    for rung in range(len(epochs)):
        here = trials[trials["rung"] == rung]
        failed = int((here["status"] == "failed").sum())
        ax.annotate(
            f"{len(here)}" + (f" ({failed} failed)" if failed else ""),
            (rung, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color="#555555",
        )
    ax.set_xticks(range(len(epochs)), [str(e) for e in epochs])
    ax.set_xlim(-0.35, len(epochs) - 1 + 0.35)
    ax.set_xlabel("epochs")
    return ax


def score_axis(axes: Sequence[Axes], scores: pd.Series, objective: str, baseline: float | None) -> None:
    """The brackets' vertical axis, with the baseline's score as a line; logarithmic when losses spread far."""
    seen = [float(v) for v in scores.dropna()] + ([] if baseline is None else [baseline])
    for ax in axes:
        if baseline is not None:
            ax.axhline(baseline, color=style.BASELINE, linewidth=1.5, zorder=1.5)
        if objective == "val_loss" and min(seen) > 0 and max(seen) / min(seen) > 8:
            ax.set_yscale("log")
            style.log_axis(ax.yaxis, plain=True)
        if objective == "val_accuracy":
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
    axes[0].set_ylabel(words.NAMES[objective] + ", best so far")


def bracket_legend(winner: bool, baseline: bool) -> list[Line2D]:
    """Handles for `bracket` and its baseline."""
    handles = [
        Line2D(
            [],
            [],
            color=style.OTHER,
            marker="o",
            markersize=4,
            linestyle="",
            label="went no further than its first rung",
        ),
        Line2D([], [], color=style.INK, marker="o", markersize=4, label="promoted, or trained to the last epoch"),
    ]
    if winner:
        handles.append(Line2D([], [], color=style.WINNER, marker="*", markersize=11, linewidth=2.4, label="best"))
    if baseline:
        handles.append(Line2D([], [], color=style.BASELINE, linewidth=1.5, label="frozen baseline, fully trained"))
    return [*handles, Line2D([], [], linestyle="", label="on top: configurations in the rung")]
