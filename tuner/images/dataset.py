"""The photographs of a study: found, checked, split and decoded, as one read-only array in a fixed order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.entries import Said, silent
from tuner.artifacts.files import home
from tuner.errors import DataError
from tuner.images import archive, checks, duplicates, split
from tuner.images.cache import Cache, Known, Verdict
from tuner.images.decode import Pixels, version
from tuner.images.likeness import alike, together
from tuner.images.names import shown
from tuner.images.reading import Hashed, hash_files, squares
from tuner.images.records import ImageRecord, LeftOut
from tuner.images.scan import LAYOUTS, SPLITS, Found, Scan, scan
from tuner.spec.spec import DataSpec


@dataclass(frozen=True, eq=False)
class Dataset:
    """photographs: train, then val, then test; inside a split by class, then name. Rows of `images` follow that order.

    images: uint8 (n, size, size, 3), RGB, a read-only memory map. labels: int64 (n,). key: hex sha256 of what the
    pixels depend on. left_out: files in class folders. beside: entries outside them, which count as nothing. ignored:
    number of hidden and system entries. groups: photographs that look the same have the same number.
    stamps: each file's size and time of change when it was read.
    """

    root: Path
    classes: tuple[str, ...]
    photographs: tuple[ImageRecord, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    images: Pixels
    labels: NDArray[np.int64]
    key: str
    beside: tuple[LeftOut, ...] = ()
    ignored: int = 0
    groups: tuple[int, ...] = ()
    stamps: tuple[tuple[int, int], ...] = ()

    def changed(self) -> list[str]:
        """Photographs whose size or time of change is not what it was, or that are gone."""
        now = [_stamp(self.root / p.path) for p in self.photographs]
        return [p.path for p, was, is_ in zip(self.photographs, self.stamps, now, strict=True) if was != is_]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of a split, int64 (k,), ascending; empty for a split the data do not have."""
        return np.array([i for i, p in enumerate(self.photographs) if p.split == split], dtype=np.int64)

    def check_folds(self, *, folds: int, repeats: int, seed: int) -> list[str]:
        """`checks.check_folds` of these photographs, nothing for 0 folds."""
        if not folds:
            return []
        rows, groups = (self.indices("train"), self.indices("val")), np.array(self.groups, np.int64)
        return checks.check_folds(self.labels, groups, *rows, self.classes, folds=folds, repeats=repeats, seed=seed)

    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: number of photographs}}, only splits that the data have."""
        return _counts(self.photographs, self.classes)


def prepare(
    data: DataSpec,
    base: Path,
    cache: Path,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    if_missing: str = "",
    said: Said = silent,
    stop: threading.Event | None = None,
) -> Dataset:
    """Finds, checks, splits and decodes the photographs that `data` names; what the cache holds is not decoded again.

    base: the folder a relative `data.path` counts from. on_progress(done, total) counts files as they are decoded or
    found decoded. if_missing: what to do where there is nothing, for the message. While another process decodes the
    same files this one waits, says so by `said`, and raises KeyboardInterrupt when `stop` is set. Raises DataError:
    before anything is written for every fault of the layout; after decoding for duplicates across splits or classes,
    too many unusable files and classes that are too small.
    """
    found = _scanned(data, base, cache, if_missing, said, stop)
    paths = [found.root / file.path for file in found.files]
    hashed = hash_files(paths)
    store = Cache(cache, f"{version()}, look 1, size {data.image_size}, resize {data.resize}", data.image_size)
    try:
        with (
            store.alone([h.sha256 for h in hashed], said, stop),
            squares(paths, hashed, store, data.resize, on_progress) as (known, passing),
        ):
            verdicts = {**known.verdicts, **passing}
            try:
                left_out = _left_out(found, hashed, verdicts, data.strict)
                photographs, pairs, groups = _photographs(found, hashed, verdicts, data, seed)
                warnings = _checked(found, photographs, pairs, left_out, verdicts, data)
            except DataError:  # what was decoded is kept: the user mends a file and comes again
                if decoded := [h.sha256 for h in hashed if h.sha256 in known.rows]:
                    _keep(store, decoded, known, hashed)
                raise
            files = [photograph.sha256 for photograph in photographs]
            images = _keep(store, files, known, hashed)
        store.prune()
    except OSError as error:
        raise DataError(
            f"{shown(str(cache))}: decoded photographs cannot be kept there ({error.strerror or error}); "
            f"about {len(paths) * data.image_size**2 * 6 / 1e6:.0f} MB are needed. Free space, or choose another cache."
        ) from error
    key = store.key(files)
    labels = np.array([photograph.label for photograph in photographs], dtype=np.int64)
    labels.flags.writeable = False
    beside = tuple(LeftOut(path, reason) for path, reason in found.beside)
    return Dataset(
        found.root,
        found.classes,
        tuple(photographs),
        tuple(left_out),
        tuple(warnings),
        images,
        labels,
        key,
        beside,
        found.ignored,
        groups,
        tuple(_stamp(found.root / p.path) for p in photographs),
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def _scanned(
    data: DataSpec, base: Path, cache: Path, if_missing: str, said: Said, stop: threading.Event | None
) -> Scan:
    root = located(data.path, base, cache, if_missing=if_missing, said=said, stop=stop)
    try:
        return scan(root, data.recursive)
    except DataError as error:
        # The user knows the zip, not where in the cache it was unpacked.
        text = str(error).replace(shown(str(root)), shown(str(_named(data.path, base))))
        raise DataError(text) from error


def _named(named: str, base: Path) -> Path:
    return Path(os.path.realpath(base / home(named)))


def located(
    named: str,
    base: Path,
    cache: Path,
    *,
    if_missing: str = "",
    said: Said = silent,
    stop: threading.Event | None = None,
) -> Path:
    """The folder of photographs that a study's `data.path` names, a .zip unpacked. Raises DataError.

    base, if_missing: as in `prepare`.
    """
    path = _named(named, base)
    if not os.path.exists(path):  # pathlib's raises for a name too long
        raise DataError(" ".join(filter(None, [f"{shown(str(path))}: no such folder or .zip.", if_missing, LAYOUTS])))
    return archive.unpack(path, cache, said, stop) if path.is_file() else path


def _keep(store: Cache, files: list[str], known: Known, hashed: list[Hashed]) -> Pixels:
    """The published array for these photographs; what was learnt about the other files is kept beside it."""
    mine = {h.sha256: known.verdicts[h.sha256] for h in hashed if h.sha256 in known.verdicts}
    images = store.open(store.key(files))
    if images is None:
        return store.publish(files, Known(known.rows, mine))
    store.remember(store.key(files), mine)
    return images


def _left_out(found: Scan, hashed: list[Hashed], verdicts: Mapping[str, Verdict], strict: bool) -> list[LeftOut]:
    """By path: what the scan refused, what could not be read or decoded. Raises DataError for too many."""
    left_out = [LeftOut(path, reason) for path, reason in found.left_out]
    for file, h in zip(found.files, hashed, strict=True):
        reason = verdicts[h.sha256].reason if h.sha256 else h.reason
        if reason:
            left_out.append(LeftOut(file.path, reason))
    left_out.sort(key=lambda left: left.path)
    checks.check_left_out(left_out, len(found.files) + len(found.left_out), strict)
    return left_out


def _photographs(
    found: Scan, hashed: list[Hashed], verdicts: Mapping[str, Verdict], data: DataSpec, seed: int
) -> tuple[list[ImageRecord], NDArray[np.int64], tuple[int, ...]]:
    """The usable files in the dataset's order, split if they come unsplit; the pairs of them that look the same, int64
    (pairs, 2), in order; and each one's group, a number. Comparing all with all takes longest, so it is done once.
    """
    usable = [
        (file, h.sha256, verdicts[h.sha256])
        for file, h in zip(found.files, hashed, strict=True)
        if h.sha256 and not verdicts[h.sha256].reason
    ]
    photographs = [_photograph(file, sha, verdict, file.split or "train") for file, sha, verdict in usable]
    duplicates.check_labels(photographs, found.classes)
    # Frames of a film may make millions of pairs: 16 bytes each.
    found_alike = alike([verdict.look for _, _, verdict in usable])
    pairs = np.asarray(np.fromiter(found_alike, np.dtype((np.int64, 2))), np.int64)
    names = together([p.pixels for p in photographs], pairs)
    if not found.split:
        labels = [p.label for p in photographs]
        checks.check_counts({"all": {name: labels.count(i) for i, name in enumerate(found.classes)}})
        test = data.test_share(len(photographs))
        splits = split.assign(labels, names, data.validation_fraction, test, seed, found.classes)
        photographs = [_photograph(*one, to) for one, to in zip(usable, splits, strict=True)]

    def place(i: int) -> tuple[int, int, str]:
        return SPLITS.index(photographs[i].split), photographs[i].label, photographs[i].path

    order = sorted(range(len(photographs)), key=place)
    pairs = np.sort(np.argsort(order)[pairs], axis=1)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names[i] for i in order))}
    return (
        [photographs[i] for i in order],
        pairs[np.lexsort(pairs.T[::-1])],
        tuple(numbers[names[i]] for i in order),
    )


def _photograph(file: Found, sha: str, verdict: Verdict, split: str) -> ImageRecord:
    return ImageRecord(
        file.path, split, file.label, sha, verdict.pixels, verdict.width, verdict.height, verdict.format, verdict.mode
    )


def _checked(
    found: Scan,
    photographs: list[ImageRecord],
    pairs: NDArray[np.int64],
    left_out: list[LeftOut],
    verdicts: Mapping[str, Verdict],
    data: DataSpec,
) -> list[str]:
    """All warnings; raises DataError for leaks and for classes that are too small."""
    folders = {left.path: PurePosixPath(left.path).parent.as_posix() for left in left_out}
    warnings = checks.left_out_warning(left_out, folders)
    warnings += checks.check_counts(_counts(photographs, found.classes, found))
    warnings += duplicates.check_splits(photographs, data.allow_leak)
    warnings += duplicates.near_warning(photographs, pairs)
    return warnings + checks.content_warnings(photographs, verdicts, found.classes)


def _counts(
    photographs: tuple[ImageRecord, ...] | list[ImageRecord], classes: tuple[str, ...], found: Scan | None = None
) -> dict[str, dict[str, int]]:
    """`found` adds the splits that exist on disk although nothing in them is usable."""
    present = {p.split for p in photographs} | ({file.split or "train" for file in found.files} if found else set())
    table = {name: dict.fromkeys(classes, 0) for name in SPLITS if name in present}
    for photograph in photographs:
        table[photograph.split][classes[photograph.label]] += 1
    return table
