"""What the study's first question asks: how well each depth did, and which depths were hardly looked at."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tuner.backbones import cuts
from tuner.evidence.merging import rank, table, usable
from tuner.evidence.snapshot import Study

COLUMNS = (
    "unfrozen_layers",
    "tried",
    "finished",
    "best",
    "epochs",
    "correct",
    "validation",
    "low",
    "high",
    "val_loss",
    "images_over_baseline",
    "loss_over_baseline",
)


def by_depth(study: Study, configurations: pd.DataFrame) -> pd.DataFrame:
    """One row a depth of the space, shallow first: searched configurations `tried`, those that `finished`
    max_epochs, and the best one's id, epochs and metrics (missing while it has none).
    """
    searched = configurations[configurations["kind"] == "search"].to_dict(orient="records")
    objective = study.spec.search.objective
    rows = []
    for depth in _asked(study, {int(r["unfrozen_layers"]) for r in searched}):
        here = [r for r in searched if r["unfrozen_layers"] == depth]
        best = min((r for r in here if usable(r)), key=lambda r: rank(r, objective), default=None)
        row: dict[str, Any] = {
            "unfrozen_layers": depth,
            "tried": len(here),
            "finished": sum(bool(r["full"]) for r in here),
            "validation": study.validation,
        }
        if best is not None:
            row |= {"best": best["id"]} | {name: best[name] for name in COLUMNS if name in best and name not in row}
        rows.append(row)
    return table(rows, COLUMNS)


def _asked(study: Study, tried: set[int]) -> list[int]:
    """Depths listed in the space, those that train the same variables once, and whatever a range has drawn."""
    listed = study.spec.space.unfrozen_layers
    batch_norm = study.spec.backbone.batch_norm
    found = {cuts.canonical(depth, batch_norm): depth for depth in tried}
    for depth in listed if isinstance(listed, tuple) else ():
        found.setdefault(cuts.canonical(int(depth), batch_norm), int(depth))
    return sorted(found.values())
