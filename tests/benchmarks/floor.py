"""What a search had to compute at least, read from its study.db: the trials it trained, and the floor in multiply-adds.

    python tests/benchmarks/floor.py STUDY.db [--rate 1.2e11]

A trial costs, for every epoch, each training photograph once forward and backward through what is trained and each
validation photograph once forward, from its cut; one pass of the frozen layers over all photographs, and over augmented
views where there are any, comes on top. Heads are left out: a thousandth of it. Divided by the rate that rate.py
measures, these are seconds nothing can beat.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tuner.backbones.architecture import architecture  # noqa: E402
from tuner.images.views import numbers  # noqa: E402

HYPERBAND = "c.kind = 'search'"
EVERYTHING = "c.kind <> 'logistic'"
FLOORS = {"work": HYPERBAND, "everything": EVERYTHING}
"""Which configurations count: what the peers train too, or the baseline and the reference as well."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path)
    parser.add_argument("--rate", type=float, help="multiply-adds a second")
    o = parser.parse_args()
    for name, which in (("Hyperband's trials", HYPERBAND), ("with baseline and reference", EVERYTHING)):
        work, epochs = multiply_adds(o.database, which), sum(t["trained_epochs"] for t in trained(o.database, which))
        seconds = f", {work / o.rate:.1f} s" if o.rate else ""
        print(f"{name}: {epochs} epochs, {work / 1e9:.0f} G multiply-adds{seconds}")


def rows(database: Path, query: str) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(f"file:{database.absolute()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


def trained(database: Path, which: str = HYPERBAND) -> list[dict[str, Any]]:
    """The trials in the order they ran: id, searched values, epochs from and to, the parent, what they took.

    This is the list that the peers replay.
    """
    found = rows(
        database,
        "SELECT t.*, c.kind, c.hyperparameters, (SELECT COUNT(*) FROM epochs e WHERE e.trial = t.id) AS trained "
        f"FROM trials t JOIN configurations c ON c.id = t.configuration WHERE {which} ORDER BY t.position",
    )
    return [
        {
            **json.loads(r["hyperparameters"]),
            "id": r["id"],
            "initial_epoch": r["first_epoch"],
            "epochs": r["last_epoch"],
            "bracket": r["bracket"],
            "rung": r["rung"],
            "parent": r["parent"],
            "status": r["status"],
            "score": r["score"],
            "seconds": r["seconds"],
            "trained_epochs": r["trained"],
        }
        for r in found
    ]


def multiply_adds(database: Path, which: str = HYPERBAND) -> float:
    """Of all epochs trained, and of one pass of the frozen layers over the photographs and their augmented views."""
    counts = {r["split"]: r["n"] for r in rows(database, "SELECT split, COUNT(*) AS n FROM images GROUP BY 1")}
    spec = json.loads(rows(database, "SELECT value FROM meta WHERE key = 'spec'")[0][0])
    side, batch_norm = spec["data"]["image_size"], spec["backbone"]["batch_norm"]
    of = architecture(image_size=side)
    work, highest, seen = 0.0, "image", set[tuple[str, int]]()
    for trial in trained(database, which):
        augmentation = trial.get("augmentation", "none")
        seen |= {(augmentation, view) for view in numbers(augmentation, spec["data"].get("views", 0)) if view}
        depth = int(trial["unfrozen_layers"])
        cut = of.cut_for(depth, batch_norm)
        highest = max(highest, cut, key=of.index)
        train, val = of.step_macs(cut, depth, batch_norm)
        work += trial["trained_epochs"] * (counts["train"] * train + counts["val"] * val)
    return work + (counts["train"] * (1 + len(seen)) + counts["val"]) * of.macs("image", highest)


def sessions(database: Path) -> dict[str, float]:
    """Seconds of each phase that the last session recorded, and of all of it."""
    last = rows(database, "SELECT seconds, phases FROM sessions ORDER BY id DESC LIMIT 1")[0]
    return {"session": last["seconds"], **json.loads(last["phases"] or "{}")}


if __name__ == "__main__":
    main()
