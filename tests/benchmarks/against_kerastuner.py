"""tlstudy search beside plain KerasTuner: whole commands, in turn, on the same photographs, with their ratios.

    python tests/benchmarks/against_kerastuner.py [--data DIR --weights FILE --image-size 224] [--runs 3] [--only-ours]

Without --data it draws the demo's photographs and uses no pretraining, so it needs nothing outside this project. DIR
holds `train/<class>/` and `val/<class>/` with two classes. Both search the same space with the same Hyperband budget
and seed; the trials drawn differ, so read the ratio as what a study costs. Ours includes imports, decoding, features
and the frozen baseline's trials; the peer has no baseline. `--only-ours` runs on a machine without TensorFlow (JAX, for
example a GPU).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

FIGURES = {"wall s": "wall", "CPU s": "cpu", "peak memory MB": "memory", "folder MB": "disk"}


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="tlstudy-bench-") as scratch:
        if options.data is None:
            from tuner.images.demo import draw

            draw(Path(scratch) / "photos")
            options.data = str(Path(scratch) / "photos")
        commands = {"tlstudy": ours} if options.only_ours else {"tlstudy": ours, "plain KerasTuner": plain}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(options.runs):
            for name, command in commands.items():
                folder = Path(scratch) / f"{name}-{number}".replace(" ", "-")
                folder.mkdir()
                runs[name].append(measure(*command(options, folder), folder))
                print(f"  run {number + 1} of {options.runs}: {name}: {runs[name][-1]['wall']:.1f} s", flush=True)
                shutil.rmtree(folder)
        again = None
        if options.only_ours or options.again:
            folder = Path(scratch) / "twice"
            folder.mkdir()
            measure(*ours(options, folder), folder)
            shutil.rmtree(folder / "studies")
            again = measure(*ours(options, folder), folder)
    show(options, runs, again)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--factor", type=int, default=3)
    parser.add_argument("--depths", default="0,10,20,32")
    parser.add_argument("--widths", default="0,64,128,256")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--again", action="store_true", help="also time a second study on the same photographs")
    options = parser.parse_args()
    for name in ("data", "weights"):
        value = getattr(options, name)
        if value is not None and Path(value).exists():
            setattr(options, name, str(Path(value).resolve()))
    return options


def ours(o: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and its environment; the feature cache lies in the folder, so that it is counted and cold."""
    command = [sys.executable, "-m", "tuner", "search", "--data", o.data, "--weights", o.weights, "--quiet"]
    command += ["--image-size", str(o.image_size), "--max-epochs", str(o.max_epochs), "--factor", str(o.factor)]
    command += ["--batch-size", str(o.batch_size), "--seed", str(o.seed), "--unfrozen-layers", o.depths]
    command += ["--set", f"space.head_width=[{o.widths}]"]
    return command, {"TLSTUDY_CACHE": str(folder / "cache"), "PYTHONPATH": str(HERE.parents[1])}


def plain(o: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, str(HERE / "plain_kerastuner.py"), "--folder", str(folder), "--data", o.data]
    for name in ("weights", "image_size", "max_epochs", "factor", "depths", "widths", "batch_size", "seed"):
        command += [f"--{name.replace('_', '-')}", str(getattr(o, name))]
    return command, {}


def measure(command: list[str], extra: dict[str, str], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds, peak resident memory of the process (MB), and what lies in `folder` afterwards (MB)."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=os.environ | extra, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status:
            said.seek(0)
            sys.exit(
                f"{' '.join(command)}\nended with status {status}:\n{said.read().decode(errors='replace')[-3000:]}"
            )
    kilo = 1024 if sys.platform == "darwin" else 1
    disk = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "cpu": cpu, "memory": usage.ru_maxrss / 1024 / kilo, "disk": disk / 1e6}


def show(o: argparse.Namespace, runs: dict[str, list[dict[str, float]]], again: dict[str, float] | None) -> None:
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("keras", "keras-tuner", *backends()))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {machine}")
    print(f"{versions}; backend {os.environ.get('KERAS_BACKEND', 'default')}")
    print(f"{o.image_size} px, weights {Path(o.weights).name}, depths {o.depths}, ", end="")
    print(f"max_epochs {o.max_epochs}, batch {o.batch_size}")
    print(
        f"\n| median of {o.runs} | " + " | ".join(runs) + (" | ratio (worst to best run) |" if len(runs) > 1 else " |")
    )
    print("| --- " * (len(runs) + 1 + (len(runs) > 1)) + "|")
    for title, key in FIGURES.items():
        row = [f"{statistics.median(r[key] for r in each):.0f}" for each in runs.values()]
        if len(runs) > 1:
            a, b = runs.values()
            ratios = sorted(y[key] / x[key] for x, y in zip(a, b, strict=True))
            row.append(f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")
        print(f"| {title} | " + " | ".join(row) + " |")
    if again is not None:
        print(f"\nA second study on the same photographs, features in the cache: {again['wall']:.1f} s")


def backends() -> list[str]:
    found = []
    for name in ("tensorflow", "jax"):
        try:
            importlib.metadata.version(name)
            found.append(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
