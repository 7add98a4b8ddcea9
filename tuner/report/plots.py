"""The page's plots, made from a study's results: each a few panels with the values behind every point."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tuner.evidence.results import Results
from tuner.report import words
from tuner.report.landscape import depth_places, spread
from tuner.report.panels import Axis, Panel, epochs, linear, positive, shares
from tuner.report.rows import best_id, by_role
from tuner.report.words import Row
from tuner.store.ranking import SMALLER, Rule
from tuner.store.store import Bracket


def of_depth(results: Results) -> list[Panel]:
    """Images right, validation loss and any other objective of every configuration against unfrozen depth, the baseline
    as a line.
    """
    table, scored = results.ranking(), results.study.rule.scored
    table = table[table["val_loss"].notna()]
    metrics = ("correct", "val_loss", *([scored] if scored else []))
    return [_depth_panel(results, table, metric) for metric in metrics if table[metric].notna().any()]


def of_learning(results: Results) -> list[Panel]:
    """Accuracy and loss by epoch of the best configuration and the baseline, training dashed."""
    rows, seen = by_role(results, "best", "baseline"), results.epochs()
    curves = {role: seen[seen["configuration"] == row["id"]].sort_values("epoch") for role, row in rows.items()}
    rule = results.study.rule
    metrics = ("accuracy", "loss", *([rule.scored.removeprefix("val_")] if rule.scored else []))
    return [_learning_panel(metric, rows, curves, rule) for metric in metrics] if rows else []


def of_rungs(results: Results) -> list[Panel]:
    """A panel a bracket: validation loss, or the objective if it is not accuracy, by epoch of each of its
    configurations, to the rung where it stopped.
    """
    trials, searched, metric = results.trials(), results.epochs(), results.study.rule.scored or "val_loss"
    searched = searched[searched[metric].notna() & (searched["kind"] == "search")]
    if searched.empty:
        return []
    levels = [float(row[metric]) for row in by_role(results, "baseline").values() if not words.missing(row[metric])]
    y = _axis(metric, [*searched[metric], *levels], words.NAMES[metric])
    curves = {str(name): curve.sort_values("epoch") for name, curve in searched.groupby("configuration", sort=False)}
    at = dict(list(trials.groupby(["iteration", "bracket"])))
    table = {row["id"]: row for row in results.configurations().to_dict(orient="records")}
    panels = []
    for bracket in results.study.plan:
        here = at.get((bracket.iteration, bracket.bracket), trials[:0])
        shown = {name: curves[name] for name in here["configuration"].unique() if name in curves}
        if shown:
            panels.append(_rung_panel(results, bracket, here, shown, table, y, levels))
    return panels


# ---- score against depth ----


def _depth_panel(results: Results, table: pd.DataFrame, metric: str) -> Panel:
    n = results.study.validation
    best, roles = best_id(results), by_role(results, "baseline", "reference")
    lines = {role: row for role, row in roles.items() if not words.missing(row[metric])}
    table = table[table[metric].notna()]
    heights = [float(v) for v in table[metric]]
    seen = heights + [float(row[metric]) for row in lines.values()]
    counted = metric == "correct"
    y = _counts(seen, n) if counted else _axis(metric, seen)
    places, ticks, names = depth_places(table["unfrozen_layers"])
    x = Axis(-0.6, max(places.values()) + 0.6, tuple(zip(ticks, names, strict=True)), "unfrozen layers")
    title = f"Right, of {n} validation images" if counted else words.capitalised(words.NAMES[metric])
    about = f"{title} of {len(table)} configurations against unfrozen layers, with the frozen baseline as a line."
    panel = Panel(title, about, x, y, room=72.0)
    base = lines.get("baseline")
    if counted and base is not None and not words.missing(base["low"]):
        panel.band(base["low"] * n, base["high"] * n, "baseline")
    for role, row in lines.items():
        value = float(row[metric])
        panel.level(value, role, f"{value:.0f}/{n}" if counted else words.FORMATS[metric](value))
    placed = [y.place(h) for h in heights]
    crowd = max(table["unfrozen_layers"].value_counts())
    shifted = spread([places[int(d)] for d in table["unfrozen_layers"]], placed, 0.045, 0.12 if crowd < 16 else 0.06)
    rows = list(zip(shifted, heights, table.to_dict(orient="records"), strict=True))
    for place, height, row in reversed(rows):  # the best last: on top
        won = row["id"] == best
        shape = "star" if won else "dot" if row["full"] else "hollow"
        css = "best" if won else "full" if row["full"] else "short"
        panel.mark(place, height, shape, css, _tip(row, best=won), int(row["unfrozen_layers"]))
    return panel


def _axis(metric: str, seen: list[float], label: str = "") -> Axis:
    """An axis of losses or of an objective."""
    return positive(seen, label) if metric in SMALLER else linear(seen, label)


def _counts(seen: list[float], n: int) -> Axis:
    """An axis of images, its ticks as shares too."""
    low, high = min(seen), max(seen)
    pad = max(0.6, 0.08 * (high - low))
    axis = linear([max(-0.4, low - pad), min(n + 0.4, high + pad)], whole=True, ticks=6)
    return Axis(axis.low, axis.high, tuple((v, t) for v, t in axis.ticks if 0 <= v <= n))


def _tip(row: Row, *, best: bool = False) -> str:
    """A configuration's values, a line each when they are shown."""
    parts = [f"{words.visible(row['id'])}{', the best' if best else ''}"]
    if not words.missing(row["correct"]):
        parts.append(f"{words.right(row)} right ({words.percent(row['val_accuracy'])})")
    parts += [f"loss {words.number(row['val_loss'])}{words.scored(row)}"]
    parts += [words.configuration(row), words.several(row["epochs"], "epoch")]
    return " · ".join(parts)


# ---- learning curves ----


def _learning_panel(metric: str, rows: Mapping[str, Row], curves: Mapping[str, pd.DataFrame], rule: Rule) -> Panel:
    """`metric`: "accuracy", "loss" or the objective without `val_`, which training has not."""
    wanted = [name for name in (metric, f"val_{metric}") if all(name in curve for curve in curves.values())]
    seen = [float(v) for curve in curves.values() for name in wanted for v in curve[name].dropna()]
    last = max((int(c["epoch"].max()) for c in curves.values() if len(c)), default=1)
    title = {"accuracy": "Accuracy", "loss": "Loss"}.get(metric) or words.capitalised(words.NAMES[f"val_{metric}"])
    y = shares([min([*seen, 0.9]), 1.0]) if metric == "accuracy" else _axis(f"val_{metric}", seen or [1.0])
    dashed = "; dashed on the training images" if metric in wanted else ""
    about = f"{title} by epoch of {' and '.join(rows)}{dashed}."
    panel = Panel(title, about, epochs(last), y)
    for role, row in rows.items():
        for name in wanted:
            dash = " training" if name == metric else ""
            curve = curves[role][curves[role][name].notna()]
            points = list(zip(curve["epoch"].astype(float), curve[name], strict=True))
            if len(points) > 1:
                panel.line(points, role + dash)
            for epoch, value in points if not dash else []:
                best = not words.missing(row["best_epoch"]) and epoch == row["best_epoch"]
                score = words.FORMATS[name](value)
                its = f", its {rule.checkpoint}" if best else ""
                text = f"{role} {words.visible(row['id'])} · epoch {epoch:.0f}{its}"
                panel.mark(epoch, value, "ring" if best else "small", role, f"{text} · {words.NAMES[name]} {score}")
    return panel


# ---- brackets and rungs ----


def _rung_panel(
    results: Results,
    bracket: Bracket,
    trials: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    table: Mapping[str, Row],
    y: Axis,
    levels: list[float],
) -> Panel:
    several = len({b.iteration for b in results.study.plan}) > 1
    rule = results.study.rule
    metric = rule.scored or "val_loss"
    title = f"Bracket {bracket.bracket}" + (f", iteration {bracket.iteration + 1}" if several else "")
    sizes, ends = (" → ".join(map(str, numbers)) for numbers in (bracket.sizes, bracket.epochs))
    about = (
        f"{title}: {words.NAMES[metric]} by epoch of {len(curves)} configurations; "
        f"{sizes} configurations to epoch {ends}."
    )
    x = epochs(bracket.epochs[-1], bracket.epochs)
    panel = Panel(f"{title}: {sizes} configurations", about, x, y, height=230.0, width=330.0, room=62.0)
    for end in bracket.epochs[:-1]:
        panel.upright(end, "rung")
    for level in levels:
        panel.level(level, "baseline", words.FORMATS[metric](level))
    best = best_id(results)
    furthest = trials.groupby("configuration")["rung"].max().to_dict()
    for name in sorted(curves, key=lambda n: (n == best, furthest[n])):  # the best last: on top
        won = name == best
        far = furthest[name] > 0 or len(bracket.epochs) == 1
        css = "best" if won else "full" if far else "short"
        points = list(zip(curves[name]["epoch"].astype(float), curves[name][metric], strict=True))
        row, depth = table[name], int(table[name]["unfrozen_layers"])
        if len(points) > 1:
            panel.line(points, css, _tip(row, best=won), depth)
        for epoch, value in points:
            starred = won and not words.missing(row["best_epoch"]) and epoch == row["best_epoch"]
            if starred or epoch in bracket.epochs:
                figure = f"{words.OBJECTIVES.get(metric, 'loss')} {words.FORMATS[metric](value)}"
                text = f"{words.visible(name)} after {words.several(int(epoch), 'epoch')} · {figure}"
                text += f"{f', its {rule.checkpoint}' if starred else ''} · {words.configuration(row)}"
                panel.mark(epoch, value, "star" if starred else "small", css, text, depth)
    return panel
