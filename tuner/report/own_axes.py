"""One panel of each figure on an ax of the caller's, for a figure of one's own: the same drawing, the ax's own size.

Every panel takes the ax it draws on and returns it; `legend=False` leaves the legend out. What cannot be drawn from
what the study has raises NotYet with the reason.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from tuner.errors import UsageError
from tuner.evidence.results import Results
from tuner.report import curves, landscape, matrices, parallel, style
from tuner.report.drawable import NotYet, coordinate_scales, curve_rows, id_of, role_rows, searched_rows


class Panels:
    """The panels of one moment of a study."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def learning_curve(self, ax: Axes, metric: str = "loss", *, legend: bool = True) -> Axes:
        """Loss (nats) or accuracy by epoch of the best configuration and the baseline; training dashed."""
        _check("metric", metric, ("loss", "accuracy"))
        rows, roles, best = curve_rows(self._results)
        curves.learning_curve(rows, roles, best, metric, ax).set_ylabel(metric)
        promoted = bool(curves.promotions(rows[rows["configuration"] == roles.get("best")]))
        return _finished(ax, curves.curve_legend(roles, promoted) if legend else [])

    def depth(self, ax: Axes, metric: str = "loss", *, legend: bool = True) -> Axes:
        """Validation loss or accuracy of every configuration by unfrozen layers, the baseline as a line."""
        _check("metric", metric, ("loss", "accuracy"))
        table, lines, n = searched_rows(self._results), role_rows(self._results), self._results.study.validation
        counted = metric == "accuracy"
        if counted and not (n and bool(table["correct"].notna().any())):
            raise NotYet("no configuration of the search has a counted accuracy yet")
        landscape.by_depth(table, "correct" if counted else "val_loss", lines, n, ax)
        ax.set_ylabel(f"right of {n} validation images" if counted else "validation loss")
        return _finished(ax, landscape.depth_legend(lines, counted) if legend else [])

    def rate_by_depth(self, ax: Axes, *, legend: bool = True, colorbar: bool = True) -> Axes:
        """Learning rate by unfrozen layers, coloured by validation loss; `colorbar` takes its room from the ax."""
        best, baseline = id_of(self._results.winner()), self._results.frozen_head()
        square = None if baseline is None else baseline.to_dict()
        colours = landscape.rate_by_depth(searched_rows(self._results), best, square, ax)
        if colorbar:
            style.loss_bar(colours, ax)
        return _finished(ax, landscape.rate_legend(best, square is not None) if legend else [])

    def parallel_coordinates(self, ax: Axes, *, legend: bool = True) -> Axes:
        """A line a configuration across its hyperparameters, loss and accuracy (both: better is up)."""
        best, baseline = id_of(self._results.winner()), self._results.frozen_head()
        row = None if baseline is None else baseline.to_dict()
        parallel.parallel(searched_rows(self._results), coordinate_scales(self._results), best, row, ax)
        return _finished(ax, parallel.parallel_legend(best, row is not None) if legend else [], below=0.3)

    def bracket(self, ax: Axes, bracket: int | None = None, iteration: int = 0, *, legend: bool = True) -> Axes:
        """The best score so far of each configuration along the rungs of one bracket; None: the longest bracket."""
        results = self._results
        plan = {b.bracket: b for b in results.study.plan if b.iteration == iteration}
        if not plan:
            raise NotYet(f"iteration {iteration} has no bracket in the plan")
        _check("bracket", bracket, (None, *plan))
        chosen = plan[max(plan) if bracket is None else bracket]
        trials, objective = results.trials(), results.study.spec.search.objective
        here = trials[(trials["iteration"] == iteration) & (trials["bracket"] == chosen.bracket)]
        if not here["score"].notna().any():
            raise NotYet(f"no trial of bracket {chosen.bracket} has finished yet")
        winner, baseline = id_of(results.winner()), results.baseline()
        curves.bracket(here, chosen.epochs, winner, ax, apart=objective == "val_accuracy")
        curves.score_axis([ax], here["score"], objective, None if baseline is None else float(baseline[objective]))
        return _finished(ax, curves.bracket_legend(winner is not None, baseline is not None) if legend else [])

    def confusion(self, ax: Axes, of: str = "best") -> Axes:
        """Counts by true and predicted class; `of`: "best", "baseline", or a configuration's id."""
        row = role_rows(self._results).get(of)
        counts = self._results.confusion(of if row is None else str(row["id"]))
        if counts is None:
            raise NotYet(f"no validation predictions of {of} are stored")
        return matrices.confusion_matrix(counts, self._results.study.classes, ax)


def _check(name: str, given: Any, known: tuple[Any, ...]) -> None:
    if given not in known:
        raise UsageError(f"{name}: found {given!r}, expected one of {', '.join(map(repr, known))}.")


def _finished(ax: Axes, handles: list[Any], below: float = 0.18) -> Axes:
    """The legend under the ax, where it hides no point; layouts that know constraints leave room for it."""
    if handles:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -below), fontsize="small", frameon=False)
    return ax
