"""tlstudy search beside its KerasTuner peers: whole commands, in turn, on the very same list of trials.

    python tests/benchmarks/bench.py [--runs 3] [--data DIR --weights FILE] [--image-size 224] [--json FILE] [--own]

Without --data it draws 72 + 20 photographs, without --weights it makes random ones; nothing else is needed. DIR holds
`train/<class>/` and `val/<class>/`. Each run measures the machine's rate (rate.py), runs tlstudy with a cold cache,
reads the list of its Hyperband trials out of study.db, and lets plain_kerastuner.py and informed_kerastuner.py run that
list. tlstudy's figures also hold the frozen baseline, the reference and logistic regression, which the peers do not
have. `--own`: each peer runs what its own Hyperband draws, as a user would see it. `--only tlstudy,informed` leaves a
peer out. `--only tlstudy,augmented` asks whether augmentation helps too, of tlstudy and of augmented_kerastuner.py; as
plain and informed have none, it is a question of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import floor
import measuring
from measuring import SEARCHED

from tuner.backbones.architecture import architecture

PEERS = {
    "plain": "plain_kerastuner.py",
    "informed": "informed_kerastuner.py",
    "augmented": "augmented_kerastuner.py",
}
FIGURES = {
    "wall s": "wall",
    "CPU s": "cpu",
    "peak memory MB": "memory",
    "study folder MB": "study",
    "with the feature cache MB": "disk",
    "head-only trial s (median)": "head",
}


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--own", action="store_true", help="the peers search what their own Hyperband draws")
    parser.add_argument("--only", default="tlstudy,plain,informed")
    parser.add_argument("--again", action="store_true", help="also a second search on the same photographs")
    o = parser.parse_args()
    names = [n for n in ("tlstudy", *PEERS) if n in o.only.split(",")]
    if "augmented" in names:
        if {"plain", "informed"} & set(names):
            parser.error("plain and informed do not augment: run them without the augmented peer")
        o.set.append(f"space.augmentation={measuring.AUGMENTATIONS}")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names} | {"floor": []}
    again = None
    with measuring.material(o) as scratch:
        for number in range(o.runs):
            one_run(o, scratch, number, names, results)
        if o.again:
            again = second_search(o, scratch / "twice")
        print(f"\n{measuring.heading(o)}", flush=True)
    show(o, names, results)
    if again is not None:
        print(f"\nA second search on the same photographs, features in the cache: {again['wall']:.1f} s")
    part = "augmented" if "augmented" in names else "peers"
    measuring.write_json(o.json, o, **{part: {"runs": results, "again": again, "own": o.own}})


def one_run(
    o: argparse.Namespace, scratch: Path, number: int, names: list[str], results: dict[str, list[dict[str, Any]]]
) -> None:
    """Rate, ours, the peers, one after the other; the figures go into `results`."""
    folder, trials = scratch / "run", scratch / "trials.json"
    speeds = [rate(o)]
    for name in names:
        folder.mkdir()
        if name == "tlstudy":
            found, _ = measuring.measure(*measuring.ours(o, folder), folder)
            database = measuring.database(folder)
            mine = floor.trained(database)
            trials.write_text(json.dumps(mine), encoding="utf-8")
            work = {
                "work": floor.multiply_adds(database),
                "everything": floor.multiply_adds(database, floor.EVERYTHING),
            }
            results["floor"].append(work)
            found |= {"head": head_only(mine), "trials": mine, "phases": floor.sessions(database)}
        else:
            given = None if o.own else trials
            found, said = measuring.measure(*measuring.peer(PEERS[name], o, folder, given), folder)
            told = measuring.last_json(said)
            if not o.own:
                check(name, mine, told["trials"])
            found |= {"head": head_only(told["trials"]), "trials": told["trials"], "search": told["search_s"]}
        results[name].append(found)
        print(f"  run {number + 1} of {o.runs}: {name}: {found['wall']:.1f} s", flush=True)
        shutil.rmtree(folder)
    speeds.append(rate(o))
    results["floor"][-1]["rate"] = statistics.mean(speeds)


def rate(o: argparse.Namespace) -> float:
    """Multiply-adds a second, now, in the convolutions of the stages that the deepest trials run."""
    of = architecture(image_size=o.image_size)
    lowest = min(of.index(of.cut_for(int(depth), "frozen")) for depth in o.depths.split(","))
    stages = list(dict.fromkeys(block[:5] for block in of.cuts[max(2, lowest + 1) : -1])) or ["conv5"]
    options = ["--image-size", str(o.image_size), "--batch-size", str(o.batch_size), "--seconds", "4"]
    options += ["--stages", ",".join(stages)]
    command = [sys.executable, str(measuring.HERE / "rate.py"), *options]
    _, said = measuring.measure(command, {}, measuring.HERE)
    return float(measuring.last_json(said)["rate"])


def second_search(o: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The same search in a new study: no image is decoded and no frozen layer runs."""
    folder.mkdir()
    measuring.measure(*measuring.ours(o, folder), folder)
    shutil.rmtree(folder / "studies")
    return measuring.measure(*measuring.ours(o, folder), folder)[0]


def check(name: str, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Ends the benchmark unless the peer trained the same configurations for the same epochs."""
    if len(mine) != len(theirs):
        sys.exit(f"{name} ran {len(theirs)} trials, the list has {len(mine)}.")
    for ours, other in zip(mine, theirs, strict=True):
        for key in (*SEARCHED, "trained_epochs"):
            if ours[key] != other[key]:
                sys.exit(f"{name}: trial {ours['id']}: {key} is {other[key]}, in the list {ours[key]}.")


def head_only(trials: list[dict[str, Any]]) -> float:
    """Seconds of a head-only trial: the median, so that the few that trace a network do not count."""
    found = [t["seconds"] for t in trials if t["unfrozen_layers"] == 0]
    return statistics.median(found) if found else float("nan")


def show(o: argparse.Namespace, names: list[str], results: dict[str, list[dict[str, Any]]]) -> None:
    """The table of medians and ratios, the floor, and what the trials were."""
    peers = [n for n in names if n != "tlstudy"]
    rows = []
    for title, key in FIGURES.items():
        row: list[object] = [title]
        digits = 3 if key == "head" else 1 if key in ("wall", "cpu", "study") else 0
        row += [measuring.spread([r[key] for r in results[n]], digits) for n in names]
        for peer in peers:
            pairs = zip(results["tlstudy"], results[peer], strict=True)
            row.append(measuring.spread([theirs[key] / max(ours[key], 1e-9) for ours, theirs in pairs]))
        rows.append(row)
    print(measuring.table([f"{o.runs} runs, median (range)", *names, *(f"{p} / tlstudy" for p in peers)], rows))
    trials = results["tlstudy"][0]["trials"]
    trained = sum(t["trained_epochs"] for t in trials)
    heads = sum(t["unfrozen_layers"] == 0 for t in trials)
    same = "each peer its own draw" if o.own else "the same list in all, epochs checked"
    print(f"\n{len(trials)} Hyperband trials, {heads} of them head-only, {trained} epochs; {same}")
    if peers:
        timers = [f"{p} {measuring.spread([r['search'] for r in results[p]])}" for p in peers]
        print(f"Search alone, imports and the first reading left out, s: {', '.join(timers)}")
    show_floor(results)


def show_floor(results: dict[str, list[dict[str, Any]]]) -> None:
    rates = [f["rate"] for f in results["floor"]]
    print(f"\nRate measured in the same runs: {measuring.spread([r / 1e9 for r in rates])} G multiply-adds/s\n")
    rows = []
    for title, key in (("Hyperband's trials", "work"), ("with baseline and reference", "everything")):
        floors = [f[key] / f["rate"] for f in results["floor"]]
        ratios = [ours["wall"] / seconds for ours, seconds in zip(results["tlstudy"], floors, strict=True)]
        rows.append(
            [title, f"{results['floor'][0][key] / 1e9:.0f}", measuring.spread(floors), measuring.spread(ratios)]
        )
    print(measuring.table(["floor", "G multiply-adds", "floor s", "tlstudy wall / floor"], rows))


if __name__ == "__main__":
    main()
