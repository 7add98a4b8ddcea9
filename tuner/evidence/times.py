"""Where the time went: the phases of all sessions, and training against the floor that its multiply-adds set."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from tuner.backbones import cuts
from tuner.evidence.merging import table
from tuner.evidence.snapshot import Study

COLUMNS = ("unfrozen_layers", "epochs", "seconds", "operations")


@dataclass(frozen=True)
class Times:
    """Seconds of all sessions together. An operation is a multiply-add; a head's own are too few to count.

    `depths`: one row a depth, all kinds of configurations together, with the epochs trained, the seconds they took and
    the operations that they cannot do without. `prefix`: those of one pass of all photographs through the backbone.
    """

    phases: tuple[tuple[str, float], ...]
    depths: pd.DataFrame
    prefix: int
    rate: float | None  # operations a second of the fastest epoch: what this machine can do on this kind of work

    @property
    def floor(self) -> float | None:
        """Seconds that nothing can beat at this rate (design, "Numbers to know"); None while the rate is not known."""
        return None if not self.rate else (self.prefix + int(self.depths["operations"].sum())) / self.rate

    @property
    def spent(self) -> float:
        """Seconds of the two phases that the floor is the floor of."""
        return sum(seconds for name, seconds in self.phases if name in ("features", "training"))


def times(study: Study, configurations: pd.DataFrame, epochs: pd.DataFrame) -> Times:
    """`configurations` and `epochs`: the tables of `Results`."""
    size, batch_norm = study.spec.data.image_size, study.spec.backbone.batch_norm
    train = sum(study.counts.get("train", ()))
    starts = {str(row["id"]): str(row["cut"]) for row in configurations.to_dict(orient="records")}
    spent: dict[int, dict[str, float]] = {}
    rate = 0.0
    for row in epochs.to_dict(orient="records"):
        depth = int(row["unfrozen_layers"])
        each, checked = cuts.step_cost(starts[row["configuration"]], depth, size, batch_norm)
        here = spent.setdefault(depth, {"unfrozen_layers": depth, "epochs": 0, "seconds": 0.0, "operations": 0})
        here["epochs"] += 1
        here["seconds"] += row["seconds"]
        operations = train * each + study.validation * checked
        here["operations"] += operations
        rate = max(rate, operations / row["seconds"] if row["seconds"] > 0 else 0.0)
    rows = [dict(spent[depth]) for depth in sorted(spent)]
    photographs = sum(sum(counts) for counts in study.counts.values())
    return Times(
        phases=tuple(study.phases.items()),
        depths=table(rows, COLUMNS),
        prefix=photographs * cuts.multiply_adds("image", "pooled", size),
        rate=rate or None,
    )
