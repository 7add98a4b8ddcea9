"""What every program of the benchmark shares: the options, the commands that are compared, how a run is measured.

Nothing here imports Keras: Linux counts the memory of whoever starts a program into that program's peak.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

NEUTRAL = {
    "space.learning_rate": "{min = 1e-5, max = 1e-2, sampling = 'log'}",
    "space.dropout": "0.0",
    "space.weight_decay": "0.0",
    "space.label_smoothing": "0.0",
    "space.backbone_lr_multiplier": "1.0",
    "space.head_init": "random",
    "space.layer_decay": "1.0",
    "space.augmentation": "none",
    "space.mixup": "0.0",
    "search.schedule": "constant",
    "search.warmup_epochs": "0.0",
    "space.head_features": "pooled",
    "search.patience": "0",
    "search.ema": "0.0",
    "search.checkpoint": "best",
    "search.tta": "none",
    "search.objective": "val_loss",
    "search.optimizer": "adam",
    "search.class_weight": "none",
    "search.precision": "float32",
    "backbone.batch_norm": "frozen",
    "data.resize": "squash",
}
"""What the peers do not have is off, and what they have is the same: then a trial's numerics are equal in all."""

AUGMENTATIONS = ["none", "light"]
"""What is searched beside the peer that augments."""

SEARCHED = ("unfrozen_layers", "learning_rate", "head_width", "augmentation")
"""What a trial of the peers takes from the list."""

PEER_OPTIONS = ("data", "weights", "image_size", "max_epochs", "factor", "depths", "widths", "batch_size", "seed")


def parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options of a benchmark's study; `defaults` replaces some of the defaults."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", help="folder with train/<class>/ and val/<class>/ (default: drawn)")
    made.add_argument("--weights", default="", help="weights file of a ResNet-50 (default: random, one file for all)")
    made.add_argument("--train", type=int, default=72, help="photographs to draw")
    made.add_argument("--val", type=int, default=20)
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--max-epochs", type=int, default=9)
    made.add_argument("--factor", type=int, default=3)
    made.add_argument("--iterations", type=int, default=1, help="Hyperband's iterations")
    made.add_argument("--depths", default="0,10,20,32")
    made.add_argument("--widths", default="0,64,128,256")
    made.add_argument("--batch-size", type=int, default=24)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="further keys for tlstudy alone")
    made.add_argument("--json", type=Path, help="also write every figure into this file")
    made.set_defaults(**defaults)
    return made


@contextmanager
def material(o: argparse.Namespace, photographs: bool = True) -> Any:
    """A folder for the runs, gone afterwards; `o.data` and `o.weights` name what is there, made if nobody gave any."""
    with tempfile.TemporaryDirectory(prefix="tlstudy-bench-") as made:
        scratch = Path(made)
        if not o.data and photographs:
            o.data = str(scratch / "photos")
            make("photos", o.data, "--train", str(o.train), "--val", str(o.val))
        if not o.weights or o.weights == "random":
            o.weights = str(scratch / "random.weights.h5")
            make("weights", o.weights, "--photos", o.data, "--image-size", str(o.image_size))
        for name in ("data", "weights"):
            if getattr(o, name) and Path(getattr(o, name)).exists():
                setattr(o, name, str(Path(getattr(o, name)).resolve()))
        yield scratch


def make(*arguments: str) -> None:
    """Draws photographs or makes weights, in a process of its own."""
    subprocess.run([sys.executable, str(HERE / "material.py"), *arguments], check=True, env=environment())


def environment(**extra: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | extra


# ---- the commands ----


def search_arguments(o: argparse.Namespace) -> list[str]:
    """`tlstudy`'s own arguments for the study of these options."""
    from tuner.spec import spec

    words = ["search", "--data", o.data, "--weights", o.weights, "--no-confirm", "--quiet"]
    words += ["--image-size", str(o.image_size), "--max-epochs", str(o.max_epochs), "--factor", str(o.factor)]
    words += ["--batch-size", str(o.batch_size), "--seed", str(o.seed), "--unfrozen-layers", o.depths]
    known = spec.Spec().to_dict()
    keys = {k: v for k, v in NEUTRAL.items() if k.split(".")[1] in known[k.split(".")[0]]}
    keys |= {"space.head_width": f"[{o.widths}]", "search.hyperband_iterations": str(o.iterations)}
    for key, value in keys.items():
        words += ["--set", f"{key}={value}"]
    return words + [word for pair in o.set for word in ("--set", pair)]


def ours(o: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and its environment; the feature cache lies in the folder, so that it is counted and cold."""
    return [sys.executable, "-m", "tuner", *search_arguments(o)], {"TLSTUDY_CACHE": str(folder / "cache")}


def peer(script: str, o: argparse.Namespace, folder: Path, trials: Path | None) -> tuple[list[str], dict[str, str]]:
    """A peer's command: with `trials` it runs that list, else what its own Hyperband draws."""
    command = [sys.executable, str(HERE / script), "--folder", str(folder)]
    for name in PEER_OPTIONS:
        command += [f"--{name.replace('_', '-')}", str(getattr(o, name))]
    # KerasTuner 1.4.8 runs on TensorFlow here; our own backend may be another.
    return command + (["--trials", str(trials)] if trials else []), {"KERAS_BACKEND": "tensorflow"}


def database(folder: Path) -> Path:
    """The study.db that `ours` left in the folder."""
    return next(folder.glob("studies/*/study.db"))


# ---- measuring ----


def measure(command: Sequence[str], extra: dict[str, str], folder: Path) -> tuple[dict[str, float], str]:
    """A whole command: wall and CPU seconds, peak resident memory (MB), what lies in `folder` afterwards, and without
    the cache (MB); and what it printed. A command that fails ends the benchmark with its last lines.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment(**extra), stdout=said, stderr=complained)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would look for a process that is gone
        wall = time.perf_counter() - began
        texts = []
        for stream in (said, complained):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    if status:
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{''.join(texts)[-3000:]}")
    kilo = 1024 if sys.platform == "darwin" else 1
    disk = size(folder)
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024 / kilo,
        "disk": disk,
        "study": disk - size(folder / "cache"),
    }, texts[0]


def size(folder: Path) -> float:
    """MB that the files of a folder take."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def last_json(text: str) -> Any:
    """What a program printed as its last line."""
    return json.loads(text.strip().splitlines()[-1])


# ---- telling ----


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, and the worst and best where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def heading(o: argparse.Namespace) -> str:
    """Date, machine, versions and the question: what a figure holds for."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {', '.join(f'{n} {v}' for n, v in versions().items())}; "
        f"backend {os.environ.get('KERAS_BACKEND', 'default')}\n"
        f"{Path(o.data or 'drawn').name}, {o.image_size} px, {Path(o.weights or 'random').name}, "
        f"depths {o.depths}, widths {o.widths}, max_epochs {o.max_epochs}, factor {o.factor}, iterations "
        f"{o.iterations}, batch {o.batch_size}, float32{''.join(f', {pair}' for pair in o.set)}\n"
    )


def versions() -> dict[str, str]:
    found = {}
    for name in ("keras", "keras-tuner", "tensorflow", "jax", "jaxlib", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_json(file: Path | None, o: argparse.Namespace, **parts: Any) -> None:
    """Adds the parts to a results file; what other programs wrote there stays."""
    if file is None:
        return
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    asked = {k: v for k, v in vars(o).items() if isinstance(v, (str, int, float)) and k not in ("data", "weights")}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    facts = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine, "versions": versions()}
    whole = {**before, **{name: {**facts, "options": asked, **value} for name, value in parts.items()}}
    file.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
