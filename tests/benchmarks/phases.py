"""Where the seconds of `tlstudy search` go: import, decode, features, trace, train, evaluate, checkpoint, store, ...

    python tests/benchmarks/phases.py [--runs 1] [--data DIR --weights FILE] [--image-size 224] [--json FILE]

The command runs in a process whose functions carry timers (SPANS); every moment belongs to the innermost one, so the
rows add up to the whole command. "trace" is what the first call of each compiled function takes longer than a later
one with the same shapes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path

import measuring

SPANS = (
    ("decode", "call", "tuner.images.dataset:prepare"),
    ("decode", "call", "tuner.search.setup:images"),
    ("weights", "call", "tuner.search.session:_backbone"),
    ("weights", "call", "tuner.backbones.weights:known"),
    ("weights", "call", "tuner.backbones.resnet50.numbers:_whole"),
    ("features", "call", "tuner.features.bank:ensure"),
    ("features", "maker", "tuner.backends.backend:forward"),
    ("build", "call", "tuner.backbones.resnet50.lean:prefix"),
    ("build", "call", "tuner.training.network:Networks.get"),
    ("reset", "call", "tuner.training.trial:_Trainer.prepare"),
    ("train", "call", "tuner.training.trial:_Trainer._train"),
    ("train", "compiled", "tuner.backends.seam:Stepper.train"),
    ("evaluate", "call", "tuner.training.trial:logits_of"),
    ("evaluate", "compiled", "tuner.backends.seam:Stepper.logits"),
    ("checkpoint", "call", "tuner.training.trial:_Trainer._save"),
    ("checkpoint", "call", "tuner.training.trial:save_arrays"),
    ("checkpoint", "call", "tuner.training.network:Network.weights"),
    ("checkpoint", "call", "tuner.search.checkpoints:Checkpoints.whole"),
    ("checkpoint", "call", "tuner.search.checkpoints:Checkpoints.sweep"),
    ("store", "call", "tuner.store.store:Store.__init__"),
    ("store", "context", "tuner.store.store:Store.transaction"),
    ("store", "call", "tuner.store.store:Store.rows"),
    ("store", "call", "tuner.store.store:Store.close"),
    ("plan", "call", "tuner.search.setup:make_plan"),
    ("schedule", "call", "tuner.search.schedule:ready"),
    ("schedule", "call", "tuner.search.schedule:stage"),
    ("schedule", "call", "tuner.search.schedule:bars"),
    ("schedule", "call", "tuner.search.schedule:needed"),
    ("schedule", "call", "tuner.search.costs:seconds_left"),
    ("logistic", "call", "tuner.training.trial:fit_rows"),
    ("report", "call", "tuner.cli.search:_show"),
)
"""Phase, how it is timed (a method of inside.Clock), and which function it is."""

ORDER = (
    "import",
    "decode",
    "weights",
    "features",
    "build",
    "trace",
    "reset",
    "train",
    "evaluate",
    "checkpoint",
    "store",
    "plan",
    "schedule",
    "logistic",
    "report",
)


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        timed(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = measuring.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1)
    o = parser.parse_args()
    runs = []
    with measuring.material(o) as scratch:
        for _ in range(o.runs):
            folder, told = scratch / "run", scratch / "phases.json"
            folder.mkdir()
            command = [sys.executable, str(measuring.HERE / "phases.py"), "--inside", str(told)]
            command += measuring.search_arguments(o)
            found, _ = measuring.measure(command, measuring.ours(o, folder)[1], folder)
            runs.append({**found, **json.loads(told.read_text(encoding="utf-8"))})
            shutil.rmtree(folder)
        print(f"\n{measuring.heading(o)}")
    show(runs)
    measuring.write_json(o.json, o, phases={"runs": runs})


def show(runs: list[dict]) -> None:
    """Median seconds of each phase and their share of the wall time."""
    wall = statistics.median(r["wall"] for r in runs)
    names = [*ORDER, *sorted(set().union(*(r["seconds"] for r in runs)) - {*ORDER, "other"}), "other"]
    rows = []
    for name in names:
        values = [r["seconds"].get(name, 0.0) for r in runs]
        rows.append([name, measuring.spread(values, 2), f"{100 * statistics.median(values) / wall:.0f} %"])
    outside = [r["wall"] - sum(r["seconds"].values()) for r in runs]
    rows.append(
        ["Python's start and end", measuring.spread(outside, 2), f"{100 * statistics.median(outside) / wall:.0f} %"]
    )
    rows.append(["**whole command**", measuring.spread([r["wall"] for r in runs], 2), "100 %"])
    print(measuring.table(["phase", "s", "share"], rows))
    first = runs[0]
    print(f"\n{first['traces']} compiled functions were traced")
    for name, seconds in first["beside"].items():
        print(f"beside it, in other threads: {name} {seconds:.2f} s")
    if first["missing"]:
        print(f"Not in this version, so in another row: {', '.join(first['missing'])}")


def timed(told: Path, arguments: list[str]) -> None:
    """Runs the command here under timers and writes what they found."""
    import inside

    clock = inside.Clock()
    with clock.inside("import"):
        inside.load()
    missing = [name for phase, how, name in SPANS if not inside.replace(name, getattr(clock, how)(phase))]
    inside.run(arguments)
    seconds = clock.finished()
    facts = {"seconds": seconds, "traces": len(clock.calls), "beside": dict(clock.beside), "missing": missing}
    told.write_text(json.dumps(facts), encoding="utf-8")
    inside.leave()


if __name__ == "__main__":
    main()
