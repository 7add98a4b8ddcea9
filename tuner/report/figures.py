"""Every figure of a study, made from its results and written as PNG and SVG, whole or not at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tuner.artifacts.files import write_atomically
from tuner.evidence.results import Results
from tuner.report import curves, landscape, matrices, parallel, sheet, style, words
from tuner.report.rows import NotAsked, NotYet, by_role, searched

DPI = 150


@dataclass(frozen=True)
class Drawn:
    """The files written, and for each figure that was left out, why."""

    files: list[Path]
    left_out: dict[str, str]


def draw_all(results: Results, folder: Path) -> Drawn:
    """Writes each figure as `folder/NAME.png` and `.svg`. The same results give the same bytes.

    A figure that cannot be drawn yet is left out, and files of it from an earlier call are removed: they would show
    another state of the study.
    """
    files, left_out = list[Path](), dict[str, str]()
    for name, draw in FIGURES.items():
        paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
        try:
            with style.applied():
                made = draw(results)
                for path in paths:
                    data = rendered(made, path.suffix[1:])
                    write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
            files += paths
        except NotYet as reason:
            left_out |= {} if isinstance(reason, NotAsked) else {name: str(reason)}
            for path in paths:
                path.unlink(missing_ok=True)
    return Drawn(files, left_out)


def rendered(made: Figure, kind: str) -> bytes:
    """The figure's bytes as "png" or "svg", with no date and no version in them."""
    buffer = io.BytesIO()
    undated = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with style.applied(), warnings.catch_warnings():
        # A class name in a script that no installed font has shows as boxes; the terminal need not hear of it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        made.savefig(buffer, format=kind, dpi=DPI, metadata=undated)
    return buffer.getvalue()


# ---- the figures ----


def learning_curves(results: Results) -> Figure:
    """Accuracy and loss (nats) by epoch of the best configuration and the baseline, from the epoch table."""
    metrics = {"accuracy": "Accuracy", "loss": "Loss"}
    if scored := results.study.rule.scored:
        metrics[scored.removeprefix("val_")] = words.capitalised(words.NAMES[scored])
    made = _figure(results, 4.5 * len(metrics), 4.2, "Learning curves: the best configuration and the frozen baseline")
    handles: list[Line2D] = []
    for ax, (metric, title) in zip(made.subplots(1, len(metrics)), metrics.items(), strict=True):
        handles = curves.learning_curve(results, metric, ax)
        ax.set_title(title)
    return _with_legend(made, handles, 3)


def depth(results: Results) -> Figure:
    """Validation accuracy and loss of every configuration by unfrozen layers, the baseline as a line."""
    table, n = searched(results), results.study.validation
    titles = {"correct": f"Right of {n} validation images", "val_loss": "Validation loss"}
    if scored := results.study.rule.scored:
        titles[scored] = words.capitalised(words.NAMES[scored])
    metrics = [metric for metric in titles if metric == "val_loss" or (n and table[metric].notna().any())]
    width = 9.0 + 4.5 * (len(titles) - 2)
    made = _figure(results, width, 4.4, "Accuracy and loss against unfrozen depth")
    handles = []
    for ax, metric in zip(made.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        handles.append(landscape.by_depth(results, metric, ax))
        ax.set_title(titles[metric])
    return _with_legend(made, handles[0], 2)


def rate_by_depth(results: Results) -> Figure:
    """Learning rate by unfrozen layers, coloured by validation loss, of every configuration and the baseline."""
    made = _figure(results, 7.5, 4.4, "Learning rate by unfrozen depth")
    return _with_legend(made, landscape.rate_by_depth(results, made.subplots()), 2)


def parallel_coordinates(results: Results) -> Figure:
    """A line a configuration across its hyperparameters, loss and accuracy."""
    title = "Every configuration: hyperparameters, loss and accuracy (both: better is up)"
    made = _figure(results, max(7.5, 1.5 * len(parallel.scales(results))), 4.6, title)
    return _with_legend(made, parallel.parallel(results, made.subplots()), 2)


def brackets(results: Results) -> Figure:
    """A panel a bracket: the best score so far of each configuration at the end of each of its rungs."""
    trials = results.trials()
    scored = trials[(trials["kind"] == "search") & trials["bracket"].notna() & trials["score"].notna()]
    begun = set(zip(scored["iteration"], scored["bracket"], strict=True))
    plan = [b for b in results.study.plan if (b.iteration, b.bracket) in begun]
    if not plan:
        raise NotYet("no trial of the search has finished yet")
    made = _figure(results, max(7.5, 0.75 * sum(len(b.sizes) + 0.8 for b in plan)), 4.6, "Brackets and rungs")
    widths = [len(b.sizes) - 0.3 for b in plan]
    axes = list(made.subplots(1, len(plan), sharey=True, squeeze=False, width_ratios=widths)[0])
    handles = curves.brackets(results, plan, axes)
    for ax, bracket in zip(axes, plan, strict=True):
        ax.set_title(f"bracket {bracket.bracket}", pad=14)
    return _with_legend(made, handles, 3 if len(plan) > 3 else 2)


def confusion(results: Results) -> Figure:
    """Counts by true and predicted class of the best configuration and of the baseline, side by side."""
    rows = by_role(results, "best", "baseline")
    if not rows:
        raise NotYet("no configuration has finished an epoch yet")
    found = {role: results.confusion(str(row["id"])) for role, row in rows.items()}
    drawn = {role: counts for role, counts in found.items() if counts is not None}
    if not drawn:
        raise NotYet("no validation predictions are stored yet")
    classes = results.study.classes
    side = min(9.0, max(2.6, 0.75 * len(classes)))
    made = _figure(results, 1.8 + (side + 0.3) * len(drawn), side + 1.9, "Confusion on the validation images")
    axes = made.subplots(1, len(drawn), squeeze=False)[0]
    for i, (ax, (role, counts)) in enumerate(zip(axes, drawn.items(), strict=True)):
        matrices.confusion_matrix(counts, classes, ax, rows=i == 0)
        name = "frozen baseline" if role == "baseline" else f"best ({rows[role]['id']})"
        ax.set_title(f"{name}: {counts.trace()}/{counts.sum()} right", color=style.ROLES[role][0])
    return made


def reliability(results: Results) -> Figure:
    """How often the winner is right by how sure it is: its first fresh seed on the images of the verdict."""
    found = results.calibration()
    if found is None:
        raise NotYet("the winner is not confirmed yet")
    if found.reason is not None:
        raise NotYet(found.reason)
    made = _figure(results, 5.2, 4.6, "Does the winner's 80 % mean 80 %?")
    matrices.reliability(found.bins, made.subplots())
    return made


def views(results: Results) -> Figure:
    """What the network saw: a few training images, plain and as augmentation has them."""
    found = sheet.sheet(results)
    across, down = len(found.columns), len(found.rows)
    made = _figure(results, max(5.0, 0.95 * across + 1.2), 0.95 * down + 0.9, "What the network saw")
    for axes, (name, squares) in zip(made.subplots(down, across, squeeze=False), found.rows, strict=True):
        for ax, square in zip(axes, squares, strict=True):
            ax.imshow(square)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        axes[0].set_ylabel(style.label(name, 14), rotation=0, ha="right", va="center")
    for ax, column in zip(made.axes, found.columns, strict=False):
        ax.set_title(column)
    return made


FIGURES: dict[str, Callable[[Results], Figure]] = {
    draw.__name__: draw
    for draw in (learning_curves, depth, rate_by_depth, parallel_coordinates, brackets, confusion, reliability, views)
}


# ---- what they share ----


def _figure(results: Results, width: float, height: float, title: str) -> Figure:
    study = results.study
    remarks = words.remarks(study.pretrained, study.leaked) + ([] if study.state == "finished" else [study.state])
    return style.figure(width, height, title + ("\n" + ", ".join(remarks) if remarks else ""))


def _with_legend(made: Figure, handles: list[Line2D], columns: int) -> Figure:
    made.legend(handles=handles, loc="outside lower left", ncols=columns)
    return made
