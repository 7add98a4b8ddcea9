"""One panel of each figure on an ax of the caller's, for a figure of one's own: the same drawing, the ax's own size.

Every panel takes the ax it draws on and returns it; `legend=False` leaves the legend out. What cannot be drawn from
what the study has raises NotYet with the reason.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tuner.errors import UsageError
from tuner.evidence.results import Results
from tuner.report import curves, landscape, matrices, parallel
from tuner.report.rows import NotYet, by_role, searched


class Panels:
    """The panels of one moment of a study."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def learning_curve(self, ax: Axes, metric: str = "loss", *, legend: bool = True) -> Axes:
        """Loss (nats) or accuracy by epoch of the best configuration and the baseline; training dashed."""
        _check("metric", metric, ("loss", "accuracy"))
        handles = curves.learning_curve(self._results, metric, ax)
        ax.set_ylabel(metric)
        return _finished(ax, handles, legend)

    def depth(self, ax: Axes, metric: str = "loss", *, legend: bool = True) -> Axes:
        """Validation loss or accuracy of every configuration by unfrozen layers, the baseline as a line."""
        _check("metric", metric, ("loss", "accuracy"))
        n, counted = self._results.study.validation, metric == "accuracy"
        if counted and not (n and searched(self._results)["correct"].notna().any()):
            raise NotYet("no configuration of the search has a counted accuracy yet")
        handles = landscape.by_depth(self._results, "correct" if counted else "val_loss", ax)
        ax.set_ylabel(f"right of {n} validation images" if counted else "validation loss")
        return _finished(ax, handles, legend)

    def rate_by_depth(self, ax: Axes, *, legend: bool = True, colorbar: bool = True) -> Axes:
        """Learning rate by unfrozen layers, coloured by validation loss; `colorbar` takes its room from the ax."""
        return _finished(ax, landscape.rate_by_depth(self._results, ax, colorbar=colorbar), legend)

    def parallel_coordinates(self, ax: Axes, *, legend: bool = True) -> Axes:
        """A line a configuration across its hyperparameters, loss and accuracy (both: better is up)."""
        return _finished(ax, parallel.parallel(self._results, ax), legend, below=0.3)

    def bracket(self, ax: Axes, bracket: int | None = None, iteration: int = 0, *, legend: bool = True) -> Axes:
        """The best score so far of each configuration along the rungs of one bracket; None: the longest bracket."""
        plan = {b.bracket: b for b in self._results.study.plan if b.iteration == iteration}
        if not plan:
            raise NotYet(f"iteration {iteration} has no bracket in the plan")
        _check("bracket", bracket, (None, *plan))
        number, trials = max(plan) if bracket is None else bracket, self._results.trials()
        here = trials[(trials["iteration"] == iteration) & (trials["bracket"] == number)]
        if not here["score"].notna().any():
            raise NotYet(f"no trial of bracket {number} has finished yet")
        return _finished(ax, curves.brackets(self._results, [plan[number]], [ax]), legend)

    def confusion(self, ax: Axes, of: str = "best") -> Axes:
        """Counts by true and predicted class; `of`: "best", "baseline", or a configuration's id."""
        rows = by_role(self._results)
        if not {"best", "baseline"} & rows.keys():
            raise NotYet("no configuration has finished an epoch yet")
        counts = self._results.confusion(str(rows[of]["id"]) if of in rows else of)
        if counts is None:
            raise NotYet(f"no validation predictions of {of} are stored")
        return matrices.confusion_matrix(counts, self._results.study.classes, ax)


def _check(name: str, given: Any, known: tuple[Any, ...]) -> None:
    if given not in known:
        raise UsageError(f"{name}: found {given!r}, expected one of {', '.join(map(repr, known))}.")


def _finished(ax: Axes, handles: list[Line2D], legend: bool, below: float = 0.18) -> Axes:
    """The legend under the ax, where it hides no point; layouts that know constraints leave room for it."""
    if legend:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.0, -below), fontsize="small", frameon=False)
    return ax
