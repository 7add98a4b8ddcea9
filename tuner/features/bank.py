"""Features: the frozen prefix's activations for every image, computed once and memory-mapped.

Of the image as decoded and, where predictions are averaged over both, of its mirror image: the two views.

One entry of `artifacts.entries` a view and cut, `<cache>/features/<key>/`, holding `features.npy` (float32, (images,
*shape of the cut), in the order of the dataset). The key covers the images' bytes and order, image size, resize method,
architecture, weights, cut, dtype, view, library versions and the batch size of the pass, because kernels may round
differently at another batch size. Missing cuts are computed from the nearest stored cut below, so no frozen layer sees
an image twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.artifacts.entries import Artifacts, Said, silent
from tuner.artifacts.files import room
from tuner.backbones.architecture import Architecture
from tuner.backbones.backbone import Backbone
from tuner.backends import backend
from tuner.errors import RunError
from tuner.images.mapped import Rows

BATCH = 32
NAME = "features.npy"
PLAIN, MIRRORED = "plain", "mirrored"
"""Views: the image as decoded, and with its columns reversed."""


@dataclass(frozen=True)
class Features:
    """Stored activations by cut; "image" is the decoded images themselves (uint8). Arrays are read-only maps.

    `flipped`: the same of the mirror images, empty where none are predicted.
    """

    arrays: Mapping[str, np.ndarray]
    computed: tuple[str, ...]  # cuts that this call had to compute
    rate: float | None = None  # multiply-adds a second of that computing, its trace included
    flipped: Mapping[str, np.ndarray] = field(default_factory=dict)

    def looks(self, cut: str) -> tuple[np.ndarray, ...]:
        """What a prediction looks at, each by row: the images at a cut, and their mirror images where they count."""
        return (self.arrays[cut], self.flipped[cut]) if self.flipped else (self.arrays[cut],)


def worth_storing(needed: Mapping[str, int], images: int, of: Architecture, budget: float) -> tuple[str, ...]:
    """The cuts to store, at most `budget` bytes of them, for `needed` cuts weighted by how many choices use each.

    Greedy: again and again the cut that saves the most multiply-adds a byte, given those chosen. "pooled" always is.
    """
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


def views(mirrored: bool) -> tuple[str, ...]:
    """The views whose features are stored."""
    return (PLAIN, MIRRORED) if mirrored else (PLAIN,)


def stored(
    backbone: Backbone, images_key: str, wanted: Sequence[str], cache: Path, view: str = PLAIN
) -> tuple[str, ...]:
    """The cuts of `wanted` whose features of these images are there, by their manifests and sizes. A search checks them
    closer.
    """
    artifacts = Artifacts(cache / "features")
    return tuple(c for c in wanted if artifacts.about(_digest(_key_parts(backbone, images_key, c, view))) is not None)


def ensure(
    backbone: Backbone,
    images: np.ndarray,
    images_key: str,
    wanted: Sequence[str],
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: threading.Event | None = None,
    budget: float = float("inf"),
    said: Said = silent,
    mirrored: bool = False,
) -> Features:
    """The features at every cut of `wanted`, read from the cache where they are whole, else computed in one pass;
    `mirrored`: those of the mirror images too, in a pass of their own.

    `images`: uint8 (n, side, side, 3). The cache's features unused for longest go when all of them take more than
    `budget` bytes. While another process computes features of the same images this one waits, and says so by `said`.
    Raises RunError when the disk cannot take them, KeyboardInterrupt on request to stop; what was half-written is
    removed and what was whole stays.
    """
    artifacts, found = Artifacts(cache / "features"), list[Features]()
    for view in views(mirrored):
        seen = images if view == PLAIN else images[:, :, ::-1]
        parts = {cut: _key_parts(backbone, images_key, cut, view) for cut in wanted}
        found.append(_ensure(backbone, seen, parts, artifacts, on_progress, should_stop, said))
    artifacts.prune(budget)  # when all are in use: none of them goes
    plain, *others = found
    computed = tuple(dict.fromkeys(cut for one in found for cut in one.computed))
    rate = next((one.rate for one in found if one.rate), None)
    return Features(plain.arrays, computed, rate, others[0].arrays if others else {})


def _ensure(
    backbone: Backbone,
    images: np.ndarray,
    parts: Mapping[str, Any],
    artifacts: Artifacts,
    on_progress: Callable[[int, int], None] | None,
    should_stop: threading.Event | None,
    said: Said,
) -> Features:
    """The features of one view at every cut of `parts`, which holds their keys."""
    wanted = tuple(parts)
    arrays: dict[str, np.ndarray] = {"image": images}
    network = backbone.architecture

    def missing_after_a_look() -> list[str]:
        """The cuts that are still not there, from the lowest up; those that are there by now are mapped."""
        for cut in wanted:
            if cut not in arrays:
                shape = (len(images), *network.shape(cut))
                if (array := artifacts.map(_digest(parts[cut]), NAME, shape, np.float32)) is not None:
                    arrays[cut] = array
        return [c for c in network.cuts if c in wanted and c not in arrays]

    if not missing_after_a_look():
        return Features(arrays, ())
    same = _digest({name: part for name, part in parts[wanted[0]].items() if name != "cut"})
    with artifacts.alone(same, "computing features of the same photographs", said, should_stop):
        missing, rate = missing_after_a_look(), None
        began, work = time.perf_counter(), 0
        begins = {cut: network.nearest(cut, arrays) for cut in missing}
        # Missing cuts with stored ones between them are passes of their own: no layer sees an image twice.
        for start in dict.fromkeys(begins.values()):
            group = [c for c in missing if begins[c] == start]
            _compute(backbone, arrays[start], start, group, parts, artifacts, on_progress, should_stop)
            work += len(images) * network.macs(start, group[-1])
        if lost := missing_after_a_look():
            raise RunError(f"{artifacts.folder}: the features just written cannot be read back ({', '.join(lost)}).")
        if missing:
            rate = work / (time.perf_counter() - began)
    return Features(arrays, tuple(missing), rate)


def _compute(
    backbone: Backbone,
    source: np.ndarray,
    start: str,
    missing: Sequence[str],
    parts: Mapping[str, Any],
    artifacts: Artifacts,
    on_progress: Callable[[int, int], None] | None,
    should_stop: threading.Event | None,
) -> None:
    run = backend.forward(backbone.prefix(start, missing))
    need = sum(len(source) * backbone.architecture.bytes(c) for c in missing)
    cache = artifacts.folder.parent
    free = shutil.disk_usage(cache).free
    if need > 0.95 * free:
        raise RunError(
            f"{cache}: features need {room(need)}, {room(free)} are free. Free some, set TLSTUDY_CACHE to "
            "another disk, or lower search.feature_budget_gb."
        )
    try:
        with contextlib.ExitStack() as made:
            staged = {cut: made.enter_context(artifacts.staging()) for cut in missing}
            shapes = {cut: (len(source), *backbone.architecture.shape(cut)) for cut in missing}
            maps = {cut: staged[cut].array(NAME, shapes[cut], np.float32) for cut in missing}
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
            for cut in missing:
                maps[cut].flush()
                artifacts.publish(staged[cut], _digest(parts[cut]), parts[cut])
    except OSError as error:
        raise RunError(
            f"{cache}: features cannot be written ({error.strerror}); they need {room(need)}. Free some disk, set "
            "TLSTUDY_CACHE to another one, or lower search.feature_budget_gb."
        ) from error


def _key_parts(backbone: Backbone, images_key: str, cut: str, view: str) -> dict[str, Any]:
    env = backend.environment()
    return {
        "images": images_key,
        "image_size": backbone.image_size,
        "architecture": backbone.architecture.name,
        "weights": backbone.weights.key,
        "cut": cut,
        "dtype": "float32",
        "view": view,
        "batch": BATCH,
        "backend": env["backend"],
        "keras": env["keras"],
        "library": env.get(env["backend"]),
        "devices": env["devices"],
        "layout": 3,
    }


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
