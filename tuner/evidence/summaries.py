"""The study along its other axes: a row a rung, a depth, a validation image; and where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tuner.evidence.configurations import rank, table, usable, with_objective
from tuner.evidence.study import Study
from tuner.store import ids
from tuner.store.tables import Tables

Records = list[dict[Any, Any]]


class Costs(Protocol):
    """What is asked here of a backbone at the study's image size; `batch_norm`: "frozen" or "trained"."""

    def canonical(self, unfrozen_layers: int, batch_norm: str) -> int:
        """The smallest `unfrozen_layers` that trains the same variables."""

    def macs(self, below: str, above: str) -> int:
        """Multiply-adds of one image's way between two cuts, "image" the lowest and "pooled" the highest."""

    def weight_bytes(self, unfrozen_layers: int, batch_norm: str) -> int:
        """Bytes of the float32 arrays of the trained layers."""

    def step_macs(self, start: str, unfrozen_layers: int, batch_norm: str) -> tuple[int, int]:
        """Multiply-adds of (one training image, one validation image) from the stored cut `start`."""


# ---- rungs ----

RUNG_COLUMNS = ("iteration", "bracket", "rung", "epochs", "planned", "ended", "failed", "state", "promoted")


def rungs(study: Study, trials: pd.DataFrame) -> pd.DataFrame:
    """One row a planned rung: `planned` configurations train to epoch `epochs`; `ended` of them have, `failed` in vain.

    `state`: done, running, cut off, out of time (the time budget left some out), waiting or not reached. `promoted`:
    the configurations that went on from here.
    """
    at: dict[tuple[Any, ...], Records] = {}
    for trial in trials[trials["bracket"].notna()].to_dict(orient="records"):
        at.setdefault((trial["iteration"], trial["bracket"], trial["rung"]), []).append(trial)
    rows, number = [], 0
    for bracket in study.plan:
        drawn = {ids.searched(number + place) for place in range(bracket.sizes[0])}
        number += bracket.sizes[0]
        narrower = study.state == "finished" and not drawn.isdisjoint(study.out_of_time)
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
                    "state": "out of time" if narrower and ended < size else _state(bool(here), ended >= size, study),
                    "promoted": tuple(str(t["configuration"]) for t in onward),
                }
            )
    return pd.DataFrame(rows, columns=list(RUNG_COLUMNS))


def _state(begun: bool, filled: bool, study: Study) -> str:
    if filled:
        return "done"
    if study.state == "running":
        return "running" if begun else "waiting"
    return "cut off" if begun else "not reached"


# ---- depths ----

DEPTH_COLUMNS = (
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


def depths(study: Study, configurations: pd.DataFrame, costs: Costs | None) -> pd.DataFrame:
    """One row a depth of the space, shallow first: searched configurations `tried`, those that `finished`
    max_epochs, and the best one's id, epochs and metrics (missing while it has none).
    """
    tried: dict[int, Records] = {}
    for record in configurations[configurations["kind"] == "search"].to_dict(orient="records"):
        tried.setdefault(int(record["unfrozen_layers"]), []).append(record)
    columns, rows = with_objective(DEPTH_COLUMNS, study.rule), []
    for depth in _asked(study, tried, costs):
        here = tried.get(depth, [])
        best = min((r for r in here if usable(r)), key=lambda r: rank(r, study.rule), default=None)
        row: dict[str, Any] = {
            "unfrozen_layers": depth,
            "tried": len(here),
            "finished": sum(bool(r["full"]) for r in here),
            "validation": study.validation,
        }
        if best is not None:
            row |= {"best": best["id"]} | {n: best[n] for n in columns if n in best and n not in row}
        rows.append(row)
    return table(rows, columns)


def _asked(study: Study, tried: Mapping[int, Any], costs: Costs | None) -> list[int]:
    """Depths listed in the space, those that train the same variables once, and whatever a range has drawn."""

    def variables(depth: int) -> int:
        return costs.canonical(depth, study.spec.backbone.batch_norm) if costs else depth

    listed = study.spec.space.unfrozen_layers
    found = {variables(depth): depth for depth in tried}
    for depth in listed if isinstance(listed, tuple) else ():
        found.setdefault(variables(int(depth)), int(depth))
    return sorted(found.values())


# ---- images ----


def images(tables: Tables, study: Study, said: Mapping[str, NDArray[np.float32] | None]) -> pd.DataFrame:
    """One row a validation image, in the study's order: `photograph` (path in the data), `class`, and for each name in
    `said` (class probabilities, (images, classes)) `NAME` the class it chose, `NAME_right`, and `NAME_chance`, the
    probability it gave the true class.
    """
    columns: dict[str, Any] = {
        "photograph": [image.path for image in tables.images if image.split == "val"],
        "class": [study.classes[label] for label in study.val_labels],
    }
    truth = np.array(study.val_labels, dtype=np.int64)
    for name, chances in said.items():
        if chances is None or len(chances) != len(truth):
            continue
        chosen = chances.argmax(axis=1)
        columns[name] = [study.classes[i] for i in chosen]
        columns[f"{name}_right"] = chosen == truth
        columns[f"{name}_chance"] = chances[np.arange(len(truth)), truth].astype(float)
    return pd.DataFrame(columns)


# ---- time ----

TIME_COLUMNS = ("unfrozen_layers", "epochs", "seconds", "operations")


@dataclass(frozen=True)
class Times:
    """Seconds of all sessions together. An operation is a multiply-add; a head's own are too few to count.

    `depths`: one row a depth, all kinds of configurations together, with the epochs trained, the seconds they took and
    the operations that they cannot do without. `prefix`: those of one pass through the backbone of all images, of the
    mirror images that are predicted or trained on, and of drawn views. Without the backbone's costs operations are
    missing and `prefix` is 0.
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


def _squares(study: Study) -> int:
    """How many squares the frozen layers have to see: images, mirror images and drawn views of those trained on."""
    spec, images = study.spec, {split: sum(counts) for split, counts in study.counts.items()}
    seen = spec.space.augmentations
    drawn = spec.data.views * sum(name != "flip" for name in seen)
    trained = images.get("train", 0) + (images.get("val", 0) if spec.confirm.folds or "test" in images else 0)
    return sum(images.values()) * (1 + (spec.search.mirrored or "flip" in seen)) + trained * drawn


def times(tables: Tables, study: Study, costs: Costs | None) -> Times:
    """Where the time of all sessions went."""
    train, rate = sum(study.counts.get("train", ())), 0.0
    passes = 1 + study.spec.search.mirrored
    configurations = {id: (c.cut, int(c.hyperparameters["unfrozen_layers"])) for id, c in tables.configurations.items()}
    operations: dict[tuple[str, int], int] = {}
    if costs is not None:
        for cut, depth in set(configurations.values()):
            each, checked = costs.step_macs(cut, depth, study.spec.backbone.batch_norm)
            operations[cut, depth] = train * each + passes * study.validation * checked
    spent: dict[int, dict[str, float]] = {}
    for epoch in tables.epochs:
        cut, depth = configurations[epoch.configuration]
        here = spent.setdefault(depth, {"unfrozen_layers": depth, "epochs": 0, "seconds": 0.0})
        here["epochs"] += 1
        here["seconds"] += epoch.seconds
        if (needed := operations.get((cut, depth))) is not None:
            here["operations"] = here.get("operations", 0) + needed
            rate = max(rate, needed / epoch.seconds if epoch.seconds > 0 else 0.0)
    return Times(
        phases=tuple(study.phases.items()),
        depths=table([dict(spent[depth]) for depth in sorted(spent)], TIME_COLUMNS),
        prefix=costs.macs("image", "pooled") * _squares(study) if costs is not None else 0,
        rate=rate or None,
    )
