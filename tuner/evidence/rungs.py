"""How far Hyperband came: the plan's brackets and rungs beside the trials that filled them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tuner.evidence.snapshot import Study

COLUMNS = ("iteration", "bracket", "rung", "epochs", "planned", "ended", "failed", "state", "promoted")


def rungs(study: Study, trials: pd.DataFrame) -> pd.DataFrame:
    """One row a planned rung: `planned` configurations train to epoch `epochs`; `ended` of them have, `failed` in vain.

    `state`: done, running, cut off, waiting or not reached. `promoted`: the configurations that went on from here.
    """
    at: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for trial in trials[trials["bracket"].notna()].to_dict(orient="records"):
        at.setdefault((trial["iteration"], trial["bracket"], trial["rung"]), []).append(trial)
    rows = []
    for bracket in study.plan:
        for rung, (size, last) in enumerate(zip(bracket.sizes, bracket.epochs, strict=True)):
            here = at.get((bracket.iteration, bracket.bracket, rung), [])
            onward = at.get((bracket.iteration, bracket.bracket, rung + 1), [])
            ended = sum(t["status"] in ("completed", "failed") for t in here)
            rows.append(
                {
                    "iteration": bracket.iteration,
                    "bracket": bracket.bracket,
                    "rung": rung,
                    "epochs": last,
                    "planned": size,
                    "ended": ended,
                    "failed": sum(t["status"] == "failed" for t in here),
                    "state": _state(bool(here), ended >= size, study),
                    "promoted": tuple(str(t["configuration"]) for t in onward),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _state(begun: bool, filled: bool, study: Study) -> str:
    if filled:
        return "done"
    if study.state == "running":
        return "running" if begun else "waiting"
    return "cut off" if begun else "not reached"
