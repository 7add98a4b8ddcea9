"""How a search grows: with the photographs, their size, the trials, and the cuts. One table each.

    python tests/benchmarks/scaling.py [--quick] [--only images,size,trials,cuts] [--weights FILE] [--json FILE]

Photographs are drawn, as many as a row asks for (four fifths for training). Each row is a whole `tlstudy search` with a
cold cache. "ms an image" is the time of all epochs with a trained backbone over the photographs they saw; a trial's
first epoch, which may hold a trace, is left out where there are others. --quick: small photographs, few of them.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import floor
import measuring

WHOLE = {
    "images": ("train", (72, 500, 2000)),
    "size": ("image_size", (96, 160, 224)),
    "trials": ("iterations", (1, 3)),
    "cuts": ("depths", ("0,10", "0,10,20,32", "0,10,20,32,42,52,62,72,82,94", "0,32,62,94,136,174")),
}
QUICK = {
    "images": ("train", (36, 144)),
    "size": ("image_size", (64, 96)),
    "trials": ("iterations", (1, 2)),
    "cuts": ("depths", ("0,10", "0,10,20,32", "0,32,94,174")),
}
"""What a table varies: an option and its values."""

TITLES = {"train": "training images", "image_size": "pixels", "iterations": "iterations", "depths": "depths"}


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="images,size,trials,cuts")
    o = parser.parse_args()
    if o.data:
        sys.exit("scaling.py draws its photographs; leave --data out.")
    tables = QUICK if o.quick else WHOLE
    if o.quick:
        o.image_size, o.max_epochs = min(o.image_size, 64), min(o.max_epochs, 3)
    results: dict[str, list[dict[str, Any]]] = {}
    with measuring.material(o) as scratch:
        print(measuring.heading(o), flush=True)
        for name in (n for n in tables if n in o.only.split(",")):
            option, values = tables[name]
            results[name] = [row(o, option, value, scratch) for value in values]
            show(name, option, results[name])
    measuring.write_json(o.json, o, scaling={"tables": results})


def row(given: argparse.Namespace, option: str, value: Any, scratch: Path) -> dict[str, Any]:
    """One search with one option changed, measured."""
    o = copy.copy(given)
    setattr(o, option, value)
    if option == "train":
        o.data, o.val = str(scratch / f"photos-{value}"), max(value // 4, 20)
        measuring.make("photos", o.data, "--train", str(o.train), "--val", str(o.val))
    folder = scratch / "run"
    folder.mkdir()
    found, _ = measuring.measure(*measuring.ours(o, folder), folder)
    database = measuring.database(folder)
    found |= {"value": value, "features": floor.sessions(database).get("features", 0.0), **epochs(database)}
    trials = floor.trained(database)
    found |= {"trials": len(trials), "epochs": sum(t["trained_epochs"] for t in trials)}
    found["work"] = floor.multiply_adds(database)
    shutil.rmtree(folder)
    return found


def epochs(database: Path) -> dict[str, float]:
    """Milliseconds an image of the epochs that train part of the backbone, and of head-only ones."""
    query = (
        "SELECT e.seconds, e.images, json_extract(c.hyperparameters, '$.unfrozen_layers') > 0 AS deep, "
        "e.epoch = (SELECT MIN(epoch) FROM epochs WHERE trial = e.trial) AS first "
        "FROM epochs e JOIN configurations c ON c.id = e.configuration WHERE c.kind <> 'logistic'"
    )
    rows = floor.rows(database, query)
    found = {}
    for key, deep in (("deep", 1), ("head", 0)):
        mine = [r for r in rows if r["deep"] == deep]
        mine = [r for r in mine if not r["first"]] or mine
        images = sum(r["images"] for r in mine)
        found[key] = 1000 * sum(r["seconds"] for r in mine) / images if images else float("nan")
    return found


def show(name: str, option: str, found: list[dict[str, Any]]) -> None:
    head = [TITLES[option], "trials", "epochs", "wall s", "CPU s", "features s", "ms an image, trained", "head only"]
    head += ["peak memory MB", "study folder MB", "with cache MB", "G multiply-adds/s"]
    rows = []
    for r in found:
        rows.append([r["value"], r["trials"], r["epochs"], f"{r['wall']:.1f}", f"{r['cpu']:.1f}"])
        rows[-1] += [f"{r['features']:.1f}", f"{r['deep']:.2f}", f"{r['head']:.3f}", f"{r['memory']:.0f}"]
        rows[-1] += [f"{r['study']:.1f}", f"{r['disk']:.0f}", f"{r['work'] / r['wall'] / 1e9:.0f}"]
    print(f"\n{name}\n\n{measuring.table(head, rows)}", flush=True)


if __name__ == "__main__":
    main()
