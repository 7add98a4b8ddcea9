"""Figures over epochs: the best's learning curves beside the baseline's, and Hyperband's brackets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tuner.evidence.results import Results
from tuner.report import style, words
from tuner.report.rows import NotYet, best_id, by_role
from tuner.store.ranking import Rule
from tuner.store.store import Bracket

WIDTHS = {"best": 3.2, "baseline": 1.5}


def learning_curve(results: Results, metric: str, ax: Axes) -> list[Line2D]:
    """Loss (nats) or accuracy by epoch of the best configuration and the baseline; returns the legend's handles.

    Training dashed, validation solid, the best epoch marked, promotions dotted. `metric`: "accuracy", "loss" or the
    objective without `val_`, which training has not. Raises NotYet.
    """
    roles = by_role(results, "best", "baseline")
    if not roles:
        raise NotYet("no configuration has finished an epoch yet")
    epochs = results.epochs()
    handles = []
    for role, row in roles.items():
        # The best is drawn wide and the baseline narrow on top of it: where they run together both are seen.
        (colour, marker), width = style.ROLES[role], WIDTHS[role]
        curve = epochs[epochs["configuration"] == row["id"]]
        alone = "." if len(curve) == 1 else ""  # a line through one point is invisible
        x, y = curve["epoch"].astype("float64"), curve[f"val_{metric}"]
        dashes: dict[str, Any] = {"linestyle": style.DASHED, "linewidth": 0.7 * width, "alpha": 0.85}
        if metric in curve:
            ax.plot(x, curve[metric], color=colour, marker=alone, **dashes)
        ax.plot(x, y, color=colour, marker=alone, linewidth=width)
        best = curve["epoch"] == row["best_epoch"]
        size = 10 if marker == "*" else 8
        ring: dict[str, Any] = {"marker": marker, "markerfacecolor": "white"}
        ax.plot(x[best], y[best], linestyle="", markersize=size, color=colour, markeredgewidth=1.6, zorder=4, **ring)
        label = f"{role} ({row['id']}), its {results.study.rule.checkpoint} epoch marked"
        handles.append(style.handle(label, colour, linewidth=width, markersize=8, **ring))
    handles += [style.handle("validation"), style.handle("training", line="--", linewidth=1.3)]
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.margins(x=0.03)
    promoted = _promotions(epochs[epochs["configuration"] == roles["best"]["id"]]) if "best" in roles else []
    for epoch in promoted:
        ax.axvline(epoch + 0.5, color=style.WINNER, linestyle=":", linewidth=1.2, zorder=1)
    if promoted:
        handles.append(style.handle("best promoted to the next rung", style.WINNER, line=":", linewidth=1.2))
    if metric == "accuracy":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
        ax.set_ylim(max(0.0, ax.get_ylim()[0]), 1.009)  # no tick above 100 %
    elif metric == "loss":
        ax.set_ylim(bottom=0)
    return handles


def _promotions(rows: pd.DataFrame) -> list[int]:
    """The epochs after which a configuration was promoted: where its next epoch belongs to another trial."""
    rows = rows.sort_values("epoch")
    trial = list(rows["trial"])
    return [int(epoch) for epoch, here, after in zip(rows["epoch"], trial, trial[1:], strict=False) if here != after]


# ---- brackets and rungs ----


def brackets(results: Results, plan: Sequence[Bracket], axes: Sequence[Axes]) -> list[Line2D]:
    """An ax a bracket: the best score so far of each configuration at the end of each of its rungs, those that went on
    dark; and the baseline's as a line. Returns the legend's handles.
    """
    trials, rule = results.trials(), results.study.rule
    winner, frozen = best_id(results), results.baseline()
    baseline = None if frozen is None else float(frozen[rule.objective])
    at = dict(list(trials.groupby(["iteration", "bracket"])))
    tables = [at[bracket.iteration, bracket.bracket] for bracket in plan]
    for ax, bracket, table in zip(axes, plan, tables, strict=True):
        _bracket(table, bracket.epochs, winner, ax, apart=not rule.smaller)
        ax.set_xlabel("epochs at most" if rule.patience else "epochs")
    _score_axis(axes, pd.concat(tables)["score"], rule, baseline)
    handles = [
        style.handle("went no further than its first rung", style.OTHER, marker="o", markersize=4, line=""),
        style.handle("promoted, or trained to the end", marker="o", markersize=4),
    ]
    if winner is not None:
        handles.append(style.handle("best", style.WINNER, marker="*", markersize=11, linewidth=2.4))
    if baseline is not None:
        handles.append(style.handle("frozen baseline, fully trained", style.BASELINE, linewidth=1.5))
    return [*handles, style.handle("on top: configurations in the rung", line="")]


def _bracket(trials: pd.DataFrame, epochs: Sequence[int], winner: str | None, ax: Axes, *, apart: bool) -> None:
    """`trials`: the bracket's trials, whose score is the objective; `epochs`: the last epoch of each rung; `apart`:
    lines are shifted sideways a little, for scores that tie.
    """
    trials = trials.sort_values("rung")
    groups = list(trials.groupby("configuration", sort=True))
    for number, (configuration, rows) in enumerate(groups):
        shift = 0.4 * ((number + 0.5) / len(groups) - 0.5) if apart else 0.0
        scored, last = rows[rows["score"].notna()], int(rows["rung"].max())
        x, y = scored["rung"].astype("float64") + shift, scored["score"]
        if configuration == winner:
            ax.plot(x, y, color=style.WINNER, linewidth=2.4, marker="o", markersize=4, zorder=3)
            star: dict[str, Any] = {"marker": "*", "markersize": 13, "markeredgecolor": "white", "linestyle": ""}
            ax.plot(x.iloc[-1:], y.iloc[-1:], color=style.WINNER, zorder=5, **star)
        else:
            colour = style.INK if last > 0 or last == len(epochs) - 1 else style.OTHER
            ax.plot(x, y, color=colour, linewidth=1.3, marker="o", markersize=4, alpha=0.7, zorder=2)
    for rung in range(len(epochs)):
        here = trials[trials["rung"] == rung]
        failed = int((here["status"] == "failed").sum())
        text = f"{len(here)}" + (f" ({failed} failed)" if failed else "")
        place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "textcoords": "offset points"}
        ax.annotate(text, (rung, 1.0), **place, ha="center", fontsize=8, color="#555555")
    ax.set_xticks(range(len(epochs)), [str(e) for e in epochs])
    ax.set_xlim(-0.35, len(epochs) - 1 + 0.35)


def _score_axis(axes: Sequence[Axes], scores: pd.Series, rule: Rule, baseline: float | None) -> None:
    """The brackets' vertical axis, with the baseline's score as a line; logarithmic when losses spread far."""
    seen = [float(v) for v in scores.dropna()] + ([] if baseline is None else [baseline])
    for ax in axes:
        if baseline is not None:
            ax.axhline(baseline, color=style.BASELINE, linewidth=1.5, zorder=1.5)
        if rule.objective == "val_loss" and min(seen) > 0 and max(seen) / min(seen) > 8:
            ax.set_yscale("log")
            style.log_axis(ax.yaxis, plain=True)
        if rule.objective in ("val_accuracy", "val_balanced_accuracy"):
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.percent(value)))
    axes[0].set_ylabel(words.NAMES[rule.objective] + (", best so far" if rule.checkpoint == "best" else ""))
