"""Features: the frozen prefix's activations for every image, computed once and memory-mapped.

Of the image as decoded and, where both are predicted or trained on, of its mirror image; and of the augmented views of
the images that are trained on, each a view of its own, so that a killed process loses the one it was at.

One entry of `artifacts.entries` a view and cut, `<cache>/features/<key>/`, holding `features.npy` (float32, (images,
*shape of the cut), in the order of the dataset); the means over height and width at a cut are an entry of their own.
The key covers the images' bytes and order, image size, resize method, architecture, weights, cut, dtype, view, library
versions and the batch size of the pass, because kernels may round differently at another batch size. Missing cuts are
computed from the nearest stored cut below, so no frozen layer sees an image twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import resource
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from tuner.images.views import FLIP, NONE, View

BATCH = 32
NAME = "features.npy"
PLAIN, MIRRORED = "plain", "mirrored"
"""Views: the image as decoded, and with its columns reversed."""
MEAN = " mean"
"""After the name of a cut: the mean over height and width there."""

Pass = Callable[[np.ndarray], list[np.ndarray]]


class Views:
    """Views of images at one cut. numbers: those an epoch picks among, 0 for the plain image. parts: for each number
    the arrays that hold it, and the dataset's row that each begins at.
    """

    def __init__(self, parts: Mapping[int, Sequence[tuple[int, np.ndarray]]]) -> None:
        self.numbers = tuple(parts)
        # A map's own class makes each row that is taken of it slow.
        self._parts = {n: [(first, np.asarray(array)) for first, array in arrays] for n, arrays in parts.items()}
        self._readers = [Rows(array) for arrays in parts.values() for _, array in arrays]

    def take(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """A copy of view `numbers` int64 (n,) of the images `rows` int64 (n,), in that order. Raises ValueError for an
        image that has no such view.
        """
        every = [self._one(row, number) for row, number in zip(rows.tolist(), numbers.tolist(), strict=True)]
        found = np.stack(every)
        self._readers[0].touched(found.nbytes)
        return found

    def _one(self, row: int, number: int) -> np.ndarray:
        for first, array in self._parts[number]:
            if first <= row < first + len(array):
                found: np.ndarray = array[row - first]
                return found
        raise ValueError(f"view {number} of image {row} is not stored")


@dataclass(frozen=True)
class Picked:
    """One view of each image: `numbers` int64 (images,) says which."""

    views: Views
    numbers: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the picked views of `rows` int64 (n,)."""
        return self.views.take(rows, self.numbers[rows])


@dataclass(frozen=True)
class Features:
    """Stored activations by cut; "image" is the decoded images themselves (uint8). Arrays are read-only maps."""

    arrays: Mapping[str, np.ndarray]
    computed: tuple[str, ...]  # cuts that this call had to compute
    rate: float | None = None  # multiply-adds a second of that computing, its trace included
    means: Mapping[str, np.ndarray] = field(default_factory=dict)  # by cut, over height and width: (images, channels)
    mirror: Features | None = None  # of the mirror images, where predictions are averaged over both
    # By augmentation and cut, or cut + MEAN for the means over height and width there.
    augmented: Mapping[tuple[str, str], Views] = field(default_factory=dict)

    @property
    def views(self) -> tuple[Features, ...]:
        """What a prediction is averaged over: the images and, where they count, their mirror images."""
        return (self,) if self.mirror is None else (self, self.mirror)

    def cuts(self, augmentation: str) -> list[str]:
        """The cuts at which images that are seen so are stored."""
        if augmentation == NONE:
            return list(self.arrays)
        return [name for seen, name in self.augmented if seen == augmentation and not name.endswith(MEAN)]

    def looks(self, cut: str) -> tuple[np.ndarray, ...]:
        """The arrays of each view at a cut."""
        return tuple(view.arrays[cut] for view in self.views)

    def joined(self, cuts: Sequence[str], rows: np.ndarray, augmentation: str = NONE, number: int = 0) -> np.ndarray:
        """float32 (rows, sum of channels): the means at these cuts, "pooled" among them, of images `rows` int64 or of
        such a view of them, 0 for the images themselves.
        """
        if number:
            numbers = np.full(len(rows), number)
            each = [self.mean_views(augmentation, cut).take(rows, numbers) for cut in cuts]
        else:
            each = [np.asarray((self.arrays if cut == "pooled" else self.means)[cut][rows]) for cut in cuts]
        return np.concatenate(each, axis=1) if len(each) > 1 else each[0]

    def mean_views(self, augmentation: str, cut: str) -> Views:
        """The means over height and width of the views at a cut, which may be "pooled"."""
        return self.augmented[augmentation, cut if cut == "pooled" else cut + MEAN]

    @property
    def _named(self) -> dict[str, np.ndarray]:
        """What is stored by the name it is stored under."""
        return {**self.arrays, **{cut + MEAN: array for cut, array in self.means.items()}}


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


def names(cuts: Sequence[str], means: Sequence[str]) -> tuple[str, ...]:
    """The names under which features at `cuts` and means at the cuts `means` are stored."""
    return (*cuts, *(cut + MEAN for cut in means))


def bytes_of(of: Architecture, name: str) -> int:
    """Bytes that one image takes under a name."""
    return 4 * of.shape(_cut(name))[-1] if name.endswith(MEAN) else of.bytes(name)


def macs(of: Architecture, missing: Sequence[str], found: Collection[str]) -> int:
    """Multiply-adds of one image's passes to the names `missing`, from the nearest cuts below that are `found`."""
    return sum(max(of.macs(start, _cut(name)) for name in to) for start, to in _passes(of, missing, found).items())


def _passes(of: Architecture, missing: Sequence[str], found: Collection[str]) -> dict[str, list[str]]:
    """By the cut that each pass begins at, where it goes: missing cuts with stored ones between them are passes of
    their own, so that no layer sees an image twice.
    """
    starts = [of.nearest(_cut(name), found) for name in missing]
    return {start: [n for n, s in zip(missing, starts, strict=True) if s == start] for start in dict.fromkeys(starts)}


def stored(
    backbone: Backbone, images_key: str, wanted: Sequence[str], *, cache: Path, view: str = PLAIN
) -> tuple[str, ...]:
    """The names of `wanted` under which features of these images are there, by their manifests and sizes. A search
    checks them closer.
    """
    artifacts = Artifacts(cache / "features")
    return tuple(n for n in wanted if artifacts.about(_digest(_key_parts(backbone, images_key, n, view))) is not None)


def ensure(
    backbone: Backbone,
    images: np.ndarray,
    images_key: str,
    *,
    wanted: Sequence[str],
    cache: Path,
    means: Sequence[str] = (),
    mirrored: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: threading.Event | None = None,
    budget: float = float("inf"),
    said: Said = silent,
) -> Features:
    """The features at every cut of `wanted` and the means at every cut of `means`, read from the cache where they are
    whole, else computed in one pass; `mirrored`: those of the mirror images too, in a pass of their own.

    `images`: uint8 (n, side, side, 3). The cache's features unused for longest go when all of them take more than
    `budget` bytes. While another process computes features of the same images this one waits, and says so by `said`.
    Raises RunError when the disk cannot take them, KeyboardInterrupt on request to stop; what was half-written is
    removed and what was whole stays.
    """
    artifacts, found, passes = Artifacts(cache / "features"), list[Features](), dict[tuple[str, ...], Pass]()
    for view in views(mirrored):
        seen = images if view == PLAIN else images[:, :, ::-1]
        parts = {name: _key_parts(backbone, images_key, name, view) for name in names(wanted, means)}
        found.append(
            _ensure(
                backbone,
                seen,
                parts,
                artifacts,
                on_progress=on_progress,
                should_stop=should_stop,
                said=said,
                passes=passes,
            )
        )
    artifacts.prune(budget)  # when all are in use: none of them goes
    plain, *others = found
    computed = tuple(dict.fromkeys(cut for one in found for cut in one.computed))
    rate = next((one.rate for one in found if one.rate), None)
    return replace(plain, computed=computed, rate=rate, mirror=others[0] if others else None)


def with_views(
    features: Features,
    backbone: Backbone,
    sets: Sequence[View],
    *,
    wanted: Sequence[str],
    cache: Path,
    means: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: threading.Event | None = None,
    budget: float = float("inf"),
    said: Said = silent,
) -> Features:
    """`features` with those of all views at every cut of `wanted` and their means at every cut of `means`, each view
    in a pass like the plain images'; the views' own squares are at "image". The mirror images, where there are any, are
    views too, at the cuts and means that `features` has.

    Parameters and errors are those of `ensure`.
    """
    artifacts, passes = Artifacts(cache / "features"), dict[tuple[str, ...], Pass]()
    _allow_files(2 * len(sets) * (1 + len(wanted) + len(means)))
    total, done, rate, told = sum(len(v.squares) for v in sets), 0, features.rate, set[str]()
    found: dict[tuple[str, str], dict[int, list[tuple[int, np.ndarray]]]] = {}
    if features.mirror is not None:
        looks = [view._named for view in features.views]
        found = {(FLIP, name): {k: [(0, look[name])] for k, look in enumerate(looks)} for name in looks[0]}

    def progress(number: int, _: int) -> None:
        if on_progress:
            on_progress(done + number, total)

    def say(text: str) -> None:
        if text not in told:
            said(text)
        told.add(text)

    for v in sets:
        parts = {name: _key_parts(backbone, v.key, name, v.name) for name in names(wanted, means)}
        here = _ensure(
            backbone,
            v.squares,
            parts,
            artifacts,
            on_progress=progress,
            should_stop=should_stop,
            said=say,
            passes=passes,
        )
        done, rate = done + len(v.squares), rate or here.rate
        for name, array in here._named.items():
            found.setdefault((v.augmentation, name), {}).setdefault(v.number, []).append((v.first, array))
    artifacts.prune(budget)
    return replace(features, rate=rate, augmented={key: Views(parts) for key, parts in found.items()})


def _allow_files(number: int) -> None:
    """Lets this process open so many files more, as far as it may: each map holds its entry's lock and itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + number if hard == resource.RLIM_INFINITY else min(soft + number, hard)
    if wanted > soft != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ensure(
    backbone: Backbone,
    images: np.ndarray,
    parts: Mapping[str, Any],
    artifacts: Artifacts,
    *,
    on_progress: Callable[[int, int], None] | None,
    should_stop: threading.Event | None,
    said: Said,
    passes: dict[tuple[str, ...], Pass],
) -> Features:
    """The features of one view under every name of `parts`, which holds their keys. `passes`: compiled ones, kept."""
    found: dict[str, np.ndarray] = {"image": images}
    network = backbone.architecture

    def features(computed: Sequence[str] = (), rate: float | None = None) -> Features:
        arrays = {name: array for name, array in found.items() if not name.endswith(MEAN)}
        means = {_cut(name): array for name, array in found.items() if name.endswith(MEAN)}
        return Features(arrays, tuple(computed), rate, means)

    def missing_after_a_look() -> list[str]:
        """What is still not there, the cuts from the lowest up, then the means; what is there by now is mapped."""
        for name in parts:
            if name not in found:
                shape = (len(images), *_shape(network, name))
                if (array := artifacts.map(_digest(parts[name]), NAME, shape, np.float32)) is not None:
                    found[name] = array
        return [name for name in names(network.cuts, network.cuts) if name in parts and name not in found]

    if not missing_after_a_look():
        return features()
    same = _digest({name: part for name, part in next(iter(parts.values())).items() if name != "cut"})
    with artifacts.alone(same, "computing features of the same photographs", said, should_stop):
        missing, rate = missing_after_a_look(), None
        began, work = time.perf_counter(), len(images) * macs(network, missing, found)
        for start, group in _passes(network, missing, found).items():
            if (start, *group) not in passes:
                passes[start, *group] = _pass(backbone, start, group)
            _compute(
                found[start],
                passes[start, *group],
                keys={name: parts[name] for name in group},
                shapes={name: (len(images), *_shape(network, name)) for name in group},
                artifacts=artifacts,
                on_progress=on_progress,
                should_stop=should_stop,
            )
        if lost := missing_after_a_look():
            raise RunError(f"{artifacts.folder}: the features just written cannot be read back ({', '.join(lost)}).")
        if work:
            rate = work / (time.perf_counter() - began)
    return features([name for name in missing if not name.endswith(MEAN)], rate)


def _pass(backbone: Backbone, start: str, names: Sequence[str]) -> Pass:
    """From the cut `start` to cuts and, after them, means."""
    cuts = [name for name in names if not name.endswith(MEAN)]
    means = [_cut(name) for name in names[len(cuts) :]]
    return backend.forward(backbone.prefix_with_means(start, cuts, means) if means else backbone.prefix(start, cuts))


def _compute(
    source: np.ndarray,
    run: Pass,
    *,
    keys: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    artifacts: Artifacts,
    on_progress: Callable[[int, int], None] | None,
    should_stop: threading.Event | None,
) -> None:
    """Writes what `run` makes of `source` under every name of `keys` and `shapes`, in their order."""
    need = sum(4 * math.prod(shape) for shape in shapes.values())
    cache = artifacts.folder.parent
    free = shutil.disk_usage(cache).free
    if need > 0.95 * free:
        raise RunError(
            f"{cache}: features need {room(need)}, {room(free)} are free. Free some, set TLSTUDY_CACHE to "
            "another disk, or lower search.feature_budget_gb."
        )
    try:
        with contextlib.ExitStack() as made:
            staged = {name: made.enter_context(artifacts.staging()) for name in keys}
            maps = {name: staged[name].array(NAME, shapes[name], np.float32) for name in keys}
            reading, writing = Rows(source), {name: Rows(array) for name, array in maps.items()}
            for first in range(0, len(source), BATCH):
                if should_stop is not None and should_stop.is_set():
                    raise KeyboardInterrupt
                batch = reading.take(slice(first, first + BATCH))
                rows = len(batch)
                if rows < BATCH and len(source) > BATCH:
                    # The same batch size throughout: one trace, and the same rounding for every image.
                    batch = np.concatenate([batch, np.repeat(batch[-1:], BATCH - rows, axis=0)])
                for name, values in zip(keys, run(batch), strict=True):
                    maps[name][first : first + rows] = values[:rows]
                    writing[name].touched(values[:rows].nbytes)
                if on_progress:
                    on_progress(first + rows, len(source))
            for name, parts in keys.items():
                maps[name].flush()
                artifacts.publish(staged[name], _digest(parts), parts)
    except OSError as error:
        raise RunError(
            f"{cache}: features cannot be written ({error.strerror}); they need {room(need)}. Free some disk, set "
            "TLSTUDY_CACHE to another one, or lower search.feature_budget_gb."
        ) from error


def _cut(name: str) -> str:
    return name.removesuffix(MEAN)


def _shape(of: Architecture, name: str) -> tuple[int, ...]:
    """Of what is stored of one image under this name."""
    shape = of.shape(_cut(name))
    return shape[-1:] if name.endswith(MEAN) else shape


def _key_parts(backbone: Backbone, images_key: str, name: str, view: str) -> dict[str, Any]:
    env = backend.environment()
    return {
        "images": images_key,
        "image_size": backbone.image_size,
        "architecture": backbone.architecture.name,
        "weights": backbone.weights.key,
        "cut": name,
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
