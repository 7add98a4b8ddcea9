"""Features: the frozen prefix's activations for every photograph, computed once and memory-mapped.

One folder `<cache>/features/<key>/` a cut, holding `features.npy` (float32, (images, *shape of the cut), in the order
of the dataset) and `manifest.json` (its SHA-256 and everything the key was made of). The key covers the photographs'
bytes and order, image size, resize method, architecture, weights, cut, dtype, view, library versions and the batch size
of the pass, because kernels may round differently at another batch size. An entry is published by renaming a finished
folder; one that is damaged is made again. Missing cuts are computed from the nearest stored cut below, so no frozen
layer sees an image twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts.files import room, sha256_of, sync_folder
from tuner.backbones.architecture import Architecture, architecture
from tuner.backbones.backbone import Backbone
from tuner.backends import backend
from tuner.errors import RunError
from tuner.images.mapped import Rows

BATCH = 32
LOCK = "lock"  # held by the process that fills a folder
VIEW = "plain"  # augmentation will add views; the plain one is the photograph as decoded


@dataclass(frozen=True)
class Features:
    """Stored activations by cut; "image" is the decoded photographs themselves (uint8). Arrays are read-only maps."""

    arrays: Mapping[str, np.ndarray]
    computed: tuple[str, ...]  # cuts that this call had to compute
    rate: float | None = None  # multiply-adds a second of that computing, its trace included

    def start_for(self, cut: str) -> str:
        """The nearest cut at or below `cut` that is stored."""
        return architecture(image_size=224).nearest(cut, self.arrays)  # until its callers ask their architecture


def worth_storing(needed: Mapping[str, int], images: int, asked: Architecture | int, budget: float) -> tuple[str, ...]:
    """The cuts to store, at most `budget` bytes of them, for `needed` cuts weighted by how many choices use each.

    Greedy: again and again the cut that saves the most multiply-adds a byte, given those chosen. "pooled" always is.
    """
    # A side alone until the search asks with its architecture.
    of = asked if isinstance(asked, Architecture) else architecture(image_size=asked)
    chosen = ["image"] + (["pooled"] if "pooled" in needed else [])
    left = budget - images * of.bytes("pooled")

    def cost(stored: Sequence[str]) -> int:
        return sum(times * of.macs(of.nearest(cut, stored), cut) for cut, times in needed.items())

    candidates = [c for c in needed if c not in ("image", "pooled")]
    while True:
        fitting = [c for c in candidates if c not in chosen and images * of.bytes(c) <= left]
        gains = [((cost(chosen) - cost([*chosen, c])) / of.bytes(c), c) for c in fitting]
        best = max(gains, default=(0.0, ""))
        if best[0] <= 0:
            return tuple(c for c in of.cuts if c in chosen and c != "image")
        chosen.append(best[1])
        left -= images * of.bytes(best[1])


def ensure(
    backbone: Backbone,
    images: np.ndarray,
    images_key: str,
    wanted: Sequence[str],
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: threading.Event | None = None,
    budget: float = float("inf"),
) -> Features:
    """The features at every cut of `wanted`, read from the cache where they are whole, else computed in one pass.

    `images`: uint8 (n, side, side, 3). The cache's features unused for longest go when all of them take more than
    `budget` bytes. Raises RunError when the disk cannot take them, KeyboardInterrupt on request to stop; what was
    half-written is removed and what was whole stays.
    """
    parts = {cut: _key_parts(backbone, images_key, cut) for cut in wanted}
    folders = {cut: cache / "features" / _digest(part) for cut, part in parts.items()}
    arrays: dict[str, np.ndarray] = {"image": images}
    for cut in wanted:
        stored = _open(folders[cut], (len(images), *backbone.architecture.shape(cut)))
        if stored is not None:
            arrays[cut] = stored
    missing = [c for c in backbone.architecture.cuts if c in wanted and c not in arrays]
    rate = None
    if missing:
        began, work = time.perf_counter(), 0
        begins = {cut: backbone.architecture.nearest(cut, arrays) for cut in missing}
        # Missing cuts with stored ones between them are passes of their own: no layer sees an image twice.
        for start in dict.fromkeys(begins.values()):
            group = [c for c in missing if begins[c] == start]
            _compute(backbone, arrays[start], start, group, folders, parts, cache, on_progress, should_stop)
            work += len(images) * backbone.architecture.macs(start, group[-1])
        for cut in missing:
            shape = (len(images), *backbone.architecture.shape(cut))
            stored = _open(folders[cut], shape, hashed=True)
            if stored is None:
                raise RunError(f"{folders[cut]}: the features just written cannot be read back; check the disk.")
            arrays[cut] = stored
        rate = work / (time.perf_counter() - began)
        _prune(cache / "features", budget, {folder.name for folder in folders.values()})
    return Features(arrays, tuple(missing), rate)


def _compute(
    backbone: Backbone,
    source: np.ndarray,
    start: str,
    missing: Sequence[str],
    folders: Mapping[str, Path],
    parts: Mapping[str, Any],
    cache: Path,
    on_progress: Callable[[int, int], None] | None,
    should_stop: threading.Event | None,
) -> None:
    run = backend.forward(backbone.prefix(start, missing))
    need = sum(len(source) * backbone.architecture.bytes(c) for c in missing)
    (cache / "features").mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if need > 0.95 * free:
        raise RunError(
            f"{cache}: features need {room(need)}, {room(free)} are free. Free some, set "
            "TLSTUDY_CACHE to "
            "another disk, or lower search.feature_budget_gb."
        )
    _sweep(cache / "features")
    working = {cut: cache / "features" / f".{folders[cut].name}.{os.getpid()}.part" for cut in missing}
    held: list[int] = []
    try:
        maps = {}
        for cut, folder in working.items():
            shutil.rmtree(folder, ignore_errors=True)  # of a killed process that had this number
            folder.mkdir(parents=True)
            held.append(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600))
            fcntl.flock(held[-1], fcntl.LOCK_EX)
            shape = (len(source), *backbone.architecture.shape(cut))
            maps[cut] = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=shape)
            _reserve(folder / "features.npy")
        reading, writing = Rows(source), {cut: Rows(array) for cut, array in maps.items()}
        for first in range(0, len(source), BATCH):
            if should_stop is not None and should_stop.is_set():
                raise KeyboardInterrupt
            batch = reading.take(slice(first, first + BATCH))
            rows = len(batch)
            if rows < BATCH and len(source) > BATCH:
                # The same batch size throughout: one trace, and the same rounding for every image.
                batch = np.concatenate([batch, np.repeat(batch[-1:], BATCH - rows, axis=0)])
            for cut, values in zip(missing, run(batch), strict=True):
                maps[cut][first : first + rows] = values[:rows]
                writing[cut].touched(values[:rows].nbytes)
            if on_progress:
                on_progress(first + rows, len(source))
        for cut, folder in working.items():
            maps[cut].flush()
            _publish(folder, folders[cut], parts[cut])
    except OSError as error:
        raise RunError(
            f"{cache}: features cannot be written ({error.strerror}); they need {room(need)}. Free some "
            "disk, set "
            "TLSTUDY_CACHE to another one, or lower search.feature_budget_gb."
        ) from error
    finally:
        for folder in working.values():
            shutil.rmtree(folder, ignore_errors=True)
        for handle in held:
            os.close(handle)


def _reserve(path: Path) -> None:
    """Takes the file's blocks now: a full disk is an OSError here, on writing to the map it would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed left behind: the kernel let go of its lock."""
    for part in folder.glob(".*.part"):
        try:
            handle = os.open(part / LOCK, os.O_RDWR)
        except OSError:
            continue  # just made, or its owner was quicker
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(part, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _publish(working: Path, final: Path, parts: Mapping[str, Any]) -> None:
    data = working / "features.npy"
    with open(data, "rb") as file:
        os.fsync(file.fileno())
    manifest = {"sha256": sha256_of(data), "made of": dict(parts)}
    with open(working / "manifest.json", "w", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        text.flush()
        os.fsync(text.fileno())
    sync_folder(working)
    if final.exists():
        shutil.rmtree(final)  # a damaged entry, or the same one by another process: either way ours is whole
    os.replace(working, final)
    sync_folder(final.parent)
    (final / LOCK).unlink()  # last: a folder without it that is not whole would never be swept


def _open(folder: Path, shape: tuple[int, ...], hashed: bool = False) -> np.ndarray | None:
    """The stored array, or None when there is none or it is not whole; `hashed`: its bytes were read a moment ago."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not hashed and sha256_of(folder / "features.npy") != manifest["sha256"]:
            return None
        array: np.ndarray = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype != np.float32:
            return None
        os.utime(folder)  # so that a clean-up can tell what is still used
        return array
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _prune(folder: Path, budget: float, used: set[str]) -> None:
    """Removes the entries unused for longest until at most `budget` bytes are left; never one in `used`.

    A search that still maps a removed file goes on reading it (POSIX); its next session computes it again.
    """
    entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.glob("*")) for p in entries}
    total = sum(sizes.values())
    for entry in entries:
        if total > budget and entry.name not in used:
            shutil.rmtree(entry, ignore_errors=True)
            total -= sizes[entry]


def _key_parts(backbone: Backbone, images_key: str, cut: str) -> dict[str, Any]:
    env = backend.environment()
    return {
        "images": images_key,
        "image_size": backbone.image_size,
        "architecture": backbone.architecture.name,
        "weights": backbone.weights.key,
        "cut": cut,
        "dtype": "float32",
        "view": VIEW,
        "batch": BATCH,
        "backend": env["backend"],
        "keras": env["keras"],
        "library": env.get(env["backend"]),
        "devices": env["devices"],
        "layout": 2,
    }


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
