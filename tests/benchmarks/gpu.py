"""tlstudy alone on JAX, for example on a GPU: a search from nothing, a second one, and how often anything was compiled.

    KERAS_BACKEND=jax python tests/benchmarks/gpu.py [--runs 3] [--data DIR --weights FILE] [--image-size 224]

Needs no TensorFlow and no peer. "cold" has neither features nor compiled programs; "second" is a new study on the same
photographs, whose features are stored, in a new process. JAX's persistent compilation cache lies in the run's folder,
so that "second" shows what it saves (--no-compilation-cache leaves it out). Traces are counted at the training steps,
compilations at XLA itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import floor
import measuring

COMPILED = "/jax/core/compile/backend_compile_duration"
FETCHED = "/jax/compilation_cache/cache_retrieval_time_sec"
"""Names under which JAX reports what it compiled and what it found in its cache."""

FIGURES = {
    "wall s": ("wall", 1),
    "CPU s": ("cpu", 1),
    "peak memory of the process MB": ("memory", 0),
    "peak memory of the device MB": ("device_memory", 0),
    "study folder MB": ("study", 1),
    "with the caches MB": ("disk", 0),
    "training steps traced": ("traces", 0),
    "XLA compilations": ("compilations", 0),
    "their seconds": ("compiling", 1),
    "found in JAX's cache": ("fetched", 0),
    "training phase s": ("training", 1),
    "features s": ("features", 1),
}


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if sys.argv[1:2] == ["--inside"]:
        counted(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = measuring.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-compilation-cache", action="store_true")
    o = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {"cold": [], "second": []}
    with measuring.material(o) as scratch:
        for number in range(o.runs):
            folder = scratch / "run"
            folder.mkdir()
            for name, found in runs.items():
                found.append(one(o, folder, scratch / "counted.json"))
                print(f"  run {number + 1} of {o.runs}: {name}: {found[-1]['wall']:.1f} s", flush=True)
            shutil.rmtree(folder)
        print(f"\n{measuring.heading(o)}on {', '.join(runs['cold'][0]['devices'])}\n")
    show(runs)
    measuring.write_json(o.json, o, gpu={"runs": runs})


def one(o: argparse.Namespace, folder: Path, told: Path) -> dict[str, Any]:
    """A search in the folder, whose caches stay for the next one."""
    shutil.rmtree(folder / "studies", ignore_errors=True)
    command = [sys.executable, str(measuring.HERE / "gpu.py"), "--inside", str(told), *measuring.search_arguments(o)]
    extra = measuring.ours(o, folder)[1]
    if not o.no_compilation_cache:
        extra["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache" / "jax")
        extra["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    found: dict[str, Any] = measuring.measure(command, extra, folder)[0]
    database = measuring.database(folder)
    work = floor.multiply_adds(database, floor.EVERYTHING)
    epochs = sum(t["trained_epochs"] for t in floor.trained(database, floor.EVERYTHING))
    phases = {k: floor.sessions(database).get(k) for k in ("training", "features")}
    return {**found, **json.loads(told.read_text(encoding="utf-8")), **phases, "epochs": epochs, "work": work}


def show(runs: dict[str, list[dict[str, Any]]]) -> None:
    rows = []
    for title, (key, digits) in FIGURES.items():
        found = [[r[key] for r in each if r.get(key) is not None] for each in runs.values()]
        if all(found):
            rows.append([title, *(measuring.spread(values, digits) for values in found)])
    print(measuring.table([f"{len(runs['cold'])} runs, median (range)", *runs], rows))
    speeds = [f"{statistics.median(r['work'] / r['wall'] for r in each) / 1e9:.0f}" for each in runs.values()]
    print(
        f"\n{runs['cold'][0]['epochs']} epochs, the baseline's among them; G multiply-adds/s over the whole command: "
        f"{speeds[0]} cold, {speeds[1]} the second time"
    )


def counted(told: Path, arguments: list[str]) -> None:
    """Runs the command here, counting traces and compilations."""
    import inside

    durations: dict[str, list[float]] = {}
    if os.environ["KERAS_BACKEND"] == "jax":
        from jax import monitoring

        monitoring.register_event_duration_secs_listener(
            lambda event, seconds, **_: durations.setdefault(event, []).append(seconds)
        )
    inside.load()
    steppers: list[Any] = []

    def make(original: Any) -> Any:
        def start(self: Any, *given: Any, **named: Any) -> None:
            original(self, *given, **named)
            steppers.append(self)

        return start

    inside.replace("tuner.backends.seam:Stepper.__init__", make)
    inside.run(arguments)
    compiled = durations.get(COMPILED, [])
    facts = {"traces": sum(s.traces for s in steppers), "compilations": len(compiled), "compiling": sum(compiled)}
    facts |= {"fetched": len(durations.get(FETCHED, [])), **device()}
    told.write_text(json.dumps(facts), encoding="utf-8")


def device() -> dict[str, Any]:
    """What Keras runs on, and the most of its memory that was used, where JAX can say."""
    from tuner.backends import backend

    facts: dict[str, Any] = {"devices": backend.environment()["devices"], "device_memory": None}
    if backend.start() == "jax":
        import jax

        used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        facts["device_memory"] = used / 1e6 if used else None
    return facts


if __name__ == "__main__":
    main()
