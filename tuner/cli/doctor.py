"""`tlstudy doctor`: what this machine has and what it lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tuner import __version__
from tuner.artifacts.files import cache_root
from tuner.cli.console import out, status
from tuner.errors import TlstudyError

NEEDED = ("keras", "keras-tuner", "numpy", "pandas", "pillow", "matplotlib", "rich", "typer", "six")


def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of the cache and remove what is damaged; it is made again.")
    ] = False,
) -> None:
    """What this machine has: versions, backend, devices, weights, cache, disk and memory, and what is missing."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    with status("Reading the cache and starting the backend" if verify else "Starting the backend"):
        findings = _examine(Path.cwd(), verify)
    for row in findings:
        mark = {True: "ok", False: "!!", None: ""}[row.good]
        advice = f"\n{row.advice}" if row.advice and row.good is not True else ""
        style = "bold red" if row.good is False else "green"
        table.add_row(Text(row.name), Text(mark, style=style), Text(row.value + advice))
    out().print(table)
    if any(row.good is False and row.value.startswith(("missing", "none", "fails", "damaged")) for row in findings):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Finding:
    """One row. `good` is None for a plain fact; `advice` says what to do when it is False."""

    name: str
    value: str
    good: bool | None = None
    advice: str = ""


def _examine(cwd: Path, verify: bool) -> list[Finding]:
    """Every row, in reading order. Starts the backend; never raises for what is missing.

    verify: whether every byte of the cache is read too.
    """
    return [
        Finding("tlstudy", __version__),
        Finding("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *map(_package, NEEDED),
        *_backend(),
        _weights(),
        *_cache(verify),
        _disk("disk of this folder", cwd),
        _memory(),
    ]


def _cache(verify: bool) -> list[Finding]:
    try:
        cache = cache_root()
    except TlstudyError as error:
        return [Finding("cache", "none", False, str(error))]
    size = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file()) if cache.exists() else 0
    text = (
        f"{cache} ({size / 1e9:.2f} GB: decoded photographs, features, random weights; what is missing is made again, "
    )
    text += "so it can go while nothing runs)"
    where = next(p for p in [cache, *cache.parents] if p.exists())
    return [Finding("cache", text), _disk("disk of the cache", where), *(_verified(cache) if verify else [])]


def _verified(cache: Path) -> list[Finding]:
    from tuner.artifacts.entries import KINDS, Artifacts

    found = [one for kind in KINDS for one in Artifacts(cache / kind).verify()]
    damaged = [(path, done) for path, done in found if done]
    rows = [Finding("cache entry", f"damaged: {path}", False, f"{done}.") for path, done in damaged]
    return [*rows, Finding("cache entries", f"{len(found) - len(damaged)} whole, every byte read", True)]


def _disk(name: str, path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    advice = "Features and checkpoints may need more; free some or set TLSTUDY_CACHE."
    return Finding(name, f"{free / 1e9:.1f} GB free", free > 2e9, advice)


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", False, f"pip install {name}")


def _backend() -> list[Finding]:
    from tuner.backends import backend
    from tuner.backends.choosing import SUPPORTED

    installed = [b for b in SUPPORTED if importlib.util.find_spec(b)]
    try:
        facts = backend.environment()
    except TlstudyError as error:
        return [Finding("backend", "none", False, str(error))]
    except Exception as error:  # a broken installation: the row is the place to say so
        again = f"Reinstall it: pip install --force-reinstall {os.environ.get('KERAS_BACKEND', SUPPORTED[0])}"
        return [Finding("backend", f"fails to start: {type(error).__name__}: {error}", False, again)]
    name = facts["backend"]
    others = [b for b in installed if b != name]
    more = f"; {others[0]} is installed too, KERAS_BACKEND chooses" if others else ""
    rows = [Finding("backend", f"{name} {facts[name]}{more}", True)]
    gpu = facts["devices"] != ["CPU"]
    if gpu:
        rows.append(Finding("devices", ", ".join(facts["devices"]), True))
    else:
        advice = "A search runs on the CPU. For an NVIDIA GPU: pip install 'tlstudy[gpu]' or 'tlstudy[jax]'."
        rows.append(Finding("devices", f"{', '.join(facts['devices'])} ({facts['cores']} cores)", None, advice))
    if name == "tensorflow" and importlib.util.find_spec("tensorboard") is None:
        advice = "KerasTuner imports it without declaring it: pip install tensorboard"
        rows.append(Finding("tensorboard", "missing", False, advice))
    rows.append(Finding("precision", "float32 by default; " + _bfloat16(gpu)))
    return rows


def _bfloat16(gpu: bool) -> str:
    if gpu:
        return "mixed_bfloat16 is worth trying on GPUs since NVIDIA's Ampere"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "mixed_bfloat16 not looked for on this system"
    known = "avx512_bf16" in flags or "amx_bf16" in flags
    return "mixed_bfloat16 in hardware" if known else "no bfloat16 in this processor"


def _weights() -> Finding:
    from tuner.backbones.weights import DOWNLOAD, NOTOP, keras_cache

    path = keras_cache() / NOTOP
    if path.is_file():
        return Finding("ImageNet weights", str(path), True)
    advice = (
        f"The first search downloads them. Without a network: fetch {DOWNLOAD} elsewhere and put it there, or name it "
        "with --weights."
    )
    return Finding("ImageNet weights", f"not in {path.parent}", False, advice)


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "unknown")
    text, advice = (
        f"{available / 1e9:.1f} of {total / 1e9:.1f} GB free",
        "A search at 224 pixels takes about 2 to 3 GB.",
    )
    return Finding("memory", text, available > 3e9, advice)
