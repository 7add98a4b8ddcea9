"""Every figure of a study, made from its results and written as PNG and SVG, whole or not at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tuner.artifacts.files import write_atomically
from tuner.evidence.results import Results
from tuner.report import curves, landscape, matrices, parallel, style, words
from tuner.report.drawable import NotYet as NotYet
from tuner.report.drawable import coordinate_scales, curve_rows, id_of, role_rows, searched_rows

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
    files, left_out = [], {}
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
            left_out[name] = str(reason)
            for path in paths:
                path.unlink(missing_ok=True)
    return Drawn(files, left_out)


def rendered(made: Figure, kind: str) -> bytes:
    """The figure's bytes as "png" or "svg", with no date and no version in them."""
    buffer = io.BytesIO()
    with style.applied(), warnings.catch_warnings():
        # A class name in a script that no installed font has shows as boxes; the terminal need not hear of it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        made.savefig(
            buffer,
            format=kind,
            dpi=DPI,
            metadata={"Software": None} if kind == "png" else {"Date": None, "Creator": None},
        )
    return buffer.getvalue()


# ---- the figures ----


def learning_curves(results: Results) -> Figure:
    """Accuracy and loss (nats) by epoch of the best configuration and the baseline, from the epoch table."""
    rows, roles, best = curve_rows(results)
    made = style.figure(9, 4.2, _title(results, "Learning curves: the best configuration and the frozen baseline"))
    curves.learning_curves(rows, roles, best, list(made.subplots(1, 2)))
    promoted = bool(curves.promotions(rows[rows["configuration"] == roles.get("best")]))
    _legend(made, curves.curve_legend(roles, promoted), 3)
    return made


def depth(results: Results) -> Figure:
    """Validation accuracy and loss of every configuration by unfrozen layers, the baseline as a line."""
    table, lines, n = searched_rows(results), role_rows(results), results.study.validation
    counted = bool(n) and bool(table["correct"].notna().any())
    made = style.figure(9, 4.4, _title(results, "Accuracy and loss against unfrozen depth"))
    axes = made.subplots(1, 2 if counted else 1, squeeze=False)[0]
    if counted:
        landscape.by_depth(table, "correct", lines, n, axes[0]).set_title(f"Right of {n} validation images")
    landscape.by_depth(table, "val_loss", lines, n, axes[-1]).set_title("Validation loss")
    _legend(made, landscape.depth_legend(lines, counted), 2)
    return made


def rate_by_depth(results: Results) -> Figure:
    """Learning rate by unfrozen layers, coloured by validation loss, of every configuration and the baseline."""
    table = searched_rows(results)
    best, baseline = id_of(results.winner()), results.frozen_head()
    square = None if baseline is None else baseline.to_dict()
    made = style.figure(7.5, 4.4, _title(results, "Learning rate by unfrozen depth"))
    ax = made.subplots()
    style.loss_bar(landscape.rate_by_depth(table, best, square, ax), ax)
    _legend(made, landscape.rate_legend(best, square is not None), 2)
    return made


def parallel_coordinates(results: Results) -> Figure:
    """A line a configuration across its hyperparameters, loss and accuracy."""
    table, baseline = searched_rows(results), results.frozen_head()
    axes_scales = coordinate_scales(results)
    best = id_of(results.winner())
    made = style.figure(
        max(7.5, 1.5 * len(axes_scales)),
        4.6,
        _title(results, "Every configuration: hyperparameters, loss and accuracy (both: better is up)"),
    )
    parallel.parallel(table, axes_scales, best, None if baseline is None else baseline.to_dict(), made.subplots())
    _legend(made, parallel.parallel_legend(best, baseline is not None), 2)
    return made


def brackets(results: Results) -> Figure:
    """A panel a bracket: the best score so far of each configuration at the end of each of its rungs."""
    trials = results.trials()
    scored = trials[(trials["kind"] == "search") & trials["bracket"].notna() & trials["score"].notna()]
    at = dict(list(trials.groupby(["iteration", "bracket"])))
    begun = set(zip(scored["iteration"], scored["bracket"], strict=True))
    plan = [b for b in results.study.plan if (b.iteration, b.bracket) in begun]
    if not plan:
        raise NotYet("no trial of the search has finished yet")
    made = style.figure(
        max(7.5, 0.75 * sum(len(b.sizes) + 0.8 for b in plan)), 4.6, _title(results, "Brackets and rungs")
    )
    axes = list(
        made.subplots(1, len(plan), sharey=True, squeeze=False, width_ratios=[len(b.sizes) - 0.3 for b in plan])[0]
    )
    winner, objective = id_of(results.winner()), results.study.spec.search.objective
    for ax, bracket in zip(axes, plan, strict=True):
        here = at[bracket.iteration, bracket.bracket]
        curves.bracket(here, bracket.epochs, winner, ax, apart=objective == "val_accuracy").set_title(
            f"bracket {bracket.bracket}", pad=14
        )
    baseline = results.baseline()
    curves.score_axis(axes, scored["score"], objective, None if baseline is None else float(baseline[objective]))
    _legend(made, curves.bracket_legend(winner is not None, baseline is not None), 3 if len(plan) > 3 else 2)
    return made


def confusion(results: Results) -> Figure:
    """Counts by true and predicted class of the best configuration and of the baseline, side by side."""
    found = {
        role: (row, results.confusion(str(row["id"])))
        for role, row in role_rows(results).items()
        if role != "reference"
    }
    drawn = {role: (row, counts) for role, (row, counts) in found.items() if counts is not None}
    if not drawn:
        raise NotYet("no validation predictions are stored yet")
    classes = results.study.classes
    side = min(9.0, max(2.6, 0.75 * len(classes)))
    made = style.figure(
        1.8 + (side + 0.3) * len(drawn), side + 1.9, _title(results, "Confusion on the validation images")
    )
    for i, (ax, (role, (row, counts))) in enumerate(
        zip(made.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True)
    ):
        matrices.confusion_matrix(counts, classes, ax, rows=i == 0)
        name = "frozen baseline" if role == "baseline" else f"best ({row['id']})"
        ax.set_title(f"{name}: {counts.trace()}/{counts.sum()} right", color=style.ROLES[role][0])
    return made


def reliability(results: Results) -> Figure:
    """How often the winner is right by how sure it is: its first fresh seed on the images of the verdict."""
    found = results.calibration()
    if found is None:
        raise NotYet("the winner is not confirmed yet")
    if found.reason is not None:
        raise NotYet(found.reason)
    made = style.figure(5.2, 4.6, _title(results, "Does the winner's 80 % mean 80 %?"))
    matrices.reliability(found.bins, made.subplots())
    return made


FIGURES: dict[str, Callable[[Results], Figure]] = {
    "learning_curves": learning_curves,
    "depth": depth,
    "rate_by_depth": rate_by_depth,
    "parallel_coordinates": parallel_coordinates,
    "brackets": brackets,
    "confusion": confusion,
    "reliability": reliability,
}


# ---- what they share ----


def _title(results: Results, text: str) -> str:
    study = results.study
    said = words.remarks(study.pretrained, study.leaked) + ([] if study.state == "finished" else [study.state])
    return text + ("\n" + ", ".join(said) if said else "")


def _legend(made: Figure, handles: list[Any], columns: int) -> None:
    made.legend(handles=handles, loc="outside lower left", ncols=columns)
