"""What a study has to draw: the rows behind each figure and each panel, or the reason why there are none yet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tuner.errors import StudyError
from tuner.evidence.results import Results
from tuner.report import parallel
from tuner.spec.spec import Range


class NotYet(StudyError):
    """This figure cannot be drawn from what the study has; the message says what is missing."""


def role_rows(results: Results) -> dict[str, Any]:
    """Best, baseline and reference, as far as there are any. Raises NotYet without either of the first two."""
    found = {"best": results.winner(), "baseline": results.baseline(), "reference": results.reference()}
    rows = {role: row for role, row in found.items() if row is not None}
    if "best" not in rows and "baseline" not in rows:
        raise NotYet("no configuration has finished an epoch yet")
    return rows


def searched_rows(results: Results) -> pd.DataFrame:
    """The searched configurations that have a loss, best first. Raises NotYet when there is none."""
    table = results.ranking()
    table = table[table["val_loss"].notna()]
    if table.empty:
        raise NotYet("no configuration of the search has finished an epoch yet")
    return table


def curve_rows(results: Results) -> tuple[pd.DataFrame, dict[str, str], dict[str, int]]:
    """Every epoch, the configuration of each role that has a curve, and each configuration's best epoch."""
    rows = role_rows(results)
    roles = {role: str(row["id"]) for role, row in rows.items() if role != "reference"}
    return results.epochs(), roles, {str(row["id"]): int(row["best_epoch"]) for row in rows.values()}


def coordinate_scales(results: Results) -> list[parallel.Scale]:
    """An axis for each searched hyperparameter, loss and accuracy. Raises NotYet when nothing is searched."""
    table, baseline = searched_rows(results), results.baseline()
    space = vars(results.study.spec.space)
    searched = [name for name, value in space.items() if isinstance(value, (tuple, Range))]
    if not searched:
        raise NotYet("no hyperparameter is searched")
    log = [name for name, value in space.items() if isinstance(value, Range) and value.sampling == "log"]
    together = pd.concat([table, baseline.to_frame().T]) if baseline is not None else table
    return parallel.scales(together, searched, log)


def id_of(row: pd.Series | None) -> str | None:
    return None if row is None else str(row["id"])
