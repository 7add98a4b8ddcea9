"""The images of a study: found, checked, split and decoded, as one read-only array in a fixed order."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.entries import Said, silent
from tuner.artifacts.files import home
from tuner.errors import DataError
from tuner.images import archive, checks, duplicates, groups, suspects
from tuner.images.decode import Pixels, version
from tuner.images.folds import assign, assign_groups
from tuner.images.hashing import Hashed, Progress, hash_files
from tuner.images.names import shown
from tuner.images.reading import Cache, squares
from tuner.images.records import ImageRecord, LeftOut, Verdict
from tuner.images.scan import LAYOUTS, SPLITS, Scan, scan
from tuner.spec.spec import DataSpec
from tuner.spec.values import FOLDERS


@dataclass(frozen=True, eq=False)
class Dataset:
    """records: train, then val, then test; inside a split by class, then name. Rows of `images` follow that order.

    images: uint8 (n, size, size, 3), RGB, a read-only memory map. labels: int64 (n,). key: hex sha256 of what the
    pixels depend on. left_out: files in class folders. ignored: number of hidden and system entries. groups: images
    that look the same have the same number, or are of one group where `data.groups` names any (`grouped`). stamps: each
    file's size and time of change when it was read.
    """

    root: Path
    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    images: Pixels
    labels: NDArray[np.int64]
    key: str
    ignored: int
    groups: tuple[int, ...]
    stamps: tuple[tuple[int, int], ...]
    grouped: bool = False

    def changed(self) -> list[str]:
        """Images whose size or time of change is not what it was, or that are gone."""
        now = _stamps(self.root, self.records)
        return [p.path for p, was, is_ in zip(self.records, self.stamps, now, strict=True) if was != is_]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of a split, int64 (k,), ascending; empty for a split the data do not have."""
        return np.array([i for i, record in enumerate(self.records) if record.split == split], dtype=np.int64)

    def check_folds(self, *, folds: int, repeats: int, seed: int) -> list[str]:
        """`checks.check_folds` of these images, nothing for 0 folds."""
        if not folds:
            return []
        rows, groups = (self.indices("train"), self.indices("val")), np.array(self.groups, np.int64)
        return checks.check_folds(
            self.labels, groups, *rows, self.classes, folds=folds, repeats=repeats, seed=seed, grouped=self.grouped
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: number of images}}, only splits that the data have."""
        return _counts(self.records, self.classes, {record.split for record in self.records})

    def group_counts(self) -> dict[str, int]:
        """{split: number of groups}; empty where `data.groups` names none."""
        return groups.counts(self.records, self.groups) if self.grouped else {}


def prepare(
    data: DataSpec,
    base: Path,
    cache: Path,
    seed: int,
    on_progress: Progress | None = None,
    *,
    on_hashed: Progress | None = None,
    if_missing: str = "",
    said: Said = silent,
    stop: threading.Event | None = None,
) -> Dataset:
    """Finds, checks, splits and decodes the images that `data` names; what the cache holds is not decoded again.

    base: the folder a relative `data.path` counts from. on_progress(done, total) counts files as they are decoded or
    found decoded; on_hashed, before that, as they are read or found unchanged. if_missing: what to do where there is
    nothing, for the message. While another process decodes the same files this one waits, says so by `said`, and raises
    KeyboardInterrupt when `stop` is set. Raises DataError: before anything but checksums is written for every fault of
    the layout; after decoding for duplicates across splits or classes, too many unusable files and classes that are too
    small.
    """
    root = located(data.path, base, cache, if_missing=if_missing, said=said, stop=stop)
    try:
        found = scan(root, data.recursive or data.groups == FOLDERS)
    except DataError as error:
        # The user knows the zip, not where in the cache it was unpacked.
        text = str(error).replace(shown(root), shown(_named(data.path, base)))
        raise DataError(text) from error
    table = groups.table(data.groups, base, found.root)
    paths = [found.root / file.path for file in found.files]
    hashed = hash_files(found.root, [file.path for file in found.files], cache, on_hashed)
    store = Cache(cache, f"{version()}, look 1, size {data.image_size}, resize {data.resize}", data.image_size)
    try:
        with (
            store.alone([h.sha256 for h in hashed], said, stop),
            squares(paths, hashed, store, data.resize, on_progress) as known,
        ):
            try:
                usable, left_out = _sorted_out(found, hashed, {**known.verdicts, **known.passing})
                checks.check_left_out(left_out, len(found.files) + len(found.left_out), data.strict)
                warnings, given = checks.left_out_warning(left_out), None
                if data.groups:
                    given, said_of_groups = groups.named(data.groups, table, usable, left_out, found.split)
                    warnings += said_of_groups
                duplicates.check_labels(usable, found.classes)
                alike = duplicates.alike(usable, cache, said, stop)
                records, given, together = _ordered(usable, found, data, seed, given, alike)
                present = {file.split or "train" for file in found.files} | {record.split for record in records}
                warnings += checks.check_counts(_counts(records, found.classes, present))
                warnings += duplicates.check_splits(records, alike, data.allow_leak)
                if given is None:
                    warnings += suspects.suspected(records, alike, found.split)
                else:
                    warnings += groups.check_splits(records, given, alike, data.allow_leak)
                warnings += checks.content_warnings(records, found.classes)
            except DataError:  # what was decoded is kept: the user mends a file and comes again
                if decoded := [h.sha256 for h in hashed if h.sha256 in known.rows]:
                    store.keep(decoded, known)
                raise
            files = [record.sha256 for record in records]
            images = store.keep(files, known)
        store.prune()
    except OSError as error:
        raise DataError(
            f"{shown(cache)}: decoded photographs cannot be kept there ({error.strerror or error}); "
            f"about {len(paths) * data.image_size**2 * 6 / 1e6:.0f} MB are needed. Free space, or choose another cache."
        ) from error
    labels = np.array([record.label for record in records], dtype=np.int64)
    labels.flags.writeable = False
    return Dataset(
        root=found.root,
        classes=found.classes,
        records=tuple(records),
        left_out=tuple(left_out),
        warnings=tuple(warnings),
        images=images,
        labels=labels,
        key=store.key(files),
        ignored=found.ignored,
        groups=together,
        stamps=_stamps(found.root, records),
        grouped=given is not None,
    )


def located(
    named: str,
    base: Path,
    cache: Path,
    *,
    if_missing: str = "",
    said: Said = silent,
    stop: threading.Event | None = None,
) -> Path:
    """The folder of images that a study's `data.path` names, a .zip unpacked. Raises DataError.

    base, if_missing: as in `prepare`.
    """
    path = _named(named, base)
    if not os.path.exists(path):  # pathlib's raises for a name too long
        raise DataError(" ".join(filter(None, [f"{shown(path)}: no such folder or .zip.", if_missing, LAYOUTS])))
    return archive.unpack(path, cache, said, stop) if path.is_file() else path


def _named(named: str, base: Path) -> Path:
    return Path(os.path.realpath(base / home(named)))


def _stamps(root: Path, records: Iterable[ImageRecord]) -> tuple[tuple[int, int], ...]:
    def stamp(path: Path) -> tuple[int, int]:
        try:
            found = os.stat(path)
        except OSError:
            return (-1, -1)
        return found.st_size, found.st_mtime_ns

    return tuple(stamp(root / record.path) for record in records)


def _sorted_out(
    found: Scan, hashed: list[Hashed], verdicts: Mapping[str, Verdict]
) -> tuple[list[ImageRecord], list[LeftOut]]:
    """The usable images, in train what comes unsplit, and by path what the scan refused or could not be decoded."""
    records, left_out = [], list(found.left_out)
    for file, h in zip(found.files, hashed, strict=True):
        verdict = verdicts[h.sha256] if h.sha256 else Verdict(h.reason)
        if verdict.reason:
            left_out.append(LeftOut(file.path, verdict.reason))
        else:
            records.append(ImageRecord(file.path, file.split or "train", file.label, h.sha256, verdict))
    return records, sorted(left_out, key=lambda left: left.path)


def _ordered(
    records: list[ImageRecord],
    found: Scan,
    data: DataSpec,
    seed: int,
    given: list[str] | None,
    alike: duplicates.Alike,
) -> tuple[list[ImageRecord], list[str] | None, tuple[int, ...]]:
    """The images in the dataset's order, split if they come unsplit; the names of the groups that were `given`; and
    each one's group, a number: of those that look the same or were given together.
    """
    names = [alike.names[record.verdict.pixels] for record in records]
    if given is not None:
        names = groups.united(given, names)
    if not found.split:
        labels = [record.label for record in records]
        checks.check_counts({"all": {name: labels.count(i) for i, name in enumerate(found.classes)}})
        test = data.test_share(len(records), None if given is None else len(set(names)))
        to_splits = assign if given is None else assign_groups
        splits = to_splits(labels, names, data.validation_fraction, test, seed, found.classes)
        records = [replace(record, split=to) for record, to in zip(records, splits, strict=True)]

    def place(i: int) -> tuple[int, int, str]:
        return SPLITS.index(records[i].split), records[i].label, records[i].path

    order = sorted(range(len(records)), key=place)
    return (
        [records[i] for i in order],
        given and [given[i] for i in order],
        groups.by_number([names[i] for i in order]),
    )


def _counts(records: Sequence[ImageRecord], classes: tuple[str, ...], splits: set[str]) -> dict[str, dict[str, int]]:
    table = {name: dict.fromkeys(classes, 0) for name in SPLITS if name in splits}
    for record in records:
        table[record.split][classes[record.label]] += 1
    return table
