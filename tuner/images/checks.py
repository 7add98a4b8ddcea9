"""What images must be before anything trains, and what is worth a warning: plain sentences, no printing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from tuner.errors import DataError
from tuner.images.folds import Rows, cross_validation
from tuner.images.names import listed, shown
from tuner.images.records import ImageRecord, LeftOut

FEW = 5
MAY_BE_LEFT_OUT = 0.05
MAY_ALWAYS_BE_LEFT_OUT = 3

_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif", ".avifs"},
    "HEIF": {".heic", ".heif", ".hif"},
}
_GREY = {"1", "L", "LA", "La", "I", "F"}


def check_left_out(left_out: Sequence[LeftOut], total: int, strict: bool = False) -> None:
    """Raises DataError when more than 5 % of `total` files (and more than 3) are left out; when strict, for any."""
    allowed = 0 if strict else max(MAY_ALWAYS_BE_LEFT_OUT, math.floor(MAY_BE_LEFT_OUT * total))
    if len(left_out) > allowed:
        said = listed((f"{shown(left.path)}: {left.reason}" for left in left_out), between="; ")
        raise DataError(
            f"{len(left_out)} of {total} files cannot be used: {said}. "
            + ("With data.strict none" if strict else f"At most {allowed}")
            + " may be left out; repair them, or move them out of the data."
        )


def check_counts(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Raises DataError under 2 images of a class in train or none elsewhere; returns warnings under 5.

    counts: {split: {class: number}}.
    """
    warnings = []
    for split, classes in counts.items():
        needed = 2 if split == "train" else 1
        for name, number in classes.items():
            if number < needed:
                raise DataError(
                    f"{split}, class {shown(name)}: usable photographs: {number}, expected at least {needed}. "
                    "Add photographs, or see the reasons of those left out."
                )
        if few := [f"{number} of {shown(name)}" for name, number in classes.items() if number < FEW]:
            step = f" One photograph more or less right moves its accuracy by {100 / sum(classes.values()):.1f} points."
            warnings.append(f"{split} holds few photographs: {listed(few)}." + step * (split != "train"))
    return warnings


def check_folds(
    labels: Rows,
    groups: Rows | None,
    train: Rows,
    validation: Rows,
    classes: Sequence[str],
    *,
    folds: int,
    repeats: int,
    seed: int,
    grouped: bool = False,
) -> list[str]:
    """Raises DataError when no repeat of a cross-validation can leave every class something to train on; a sentence
    when there are fewer folds than asked. Arrays as in `folds.cross_validation`; `grouped`: as in `Dataset`.
    """
    rows = np.concatenate([train, validation])
    alike = np.arange(len(labels)) if groups is None else groups
    each = {name: len(np.unique(alike[rows[labels[rows] == label]])) for label, name in enumerate(classes)}
    few = min(each, key=lambda name: each[name])
    what = "groups (data.groups)" if grouped else "images"
    once = "" if grouped else " (those that look the same count once)"
    said = f"class {shown(few)} has {each[few]} {what} to train and validate on{once}"

    def made(asked: int) -> int:
        found = (
            cross_validation(labels, groups, train, validation, folds=asked, seed=seed, repeat=repeat)
            for repeat in range(repeats)
        )
        return min(map(len, found))

    if (got := made(folds)) == 0:
        more = next((f"set confirm.folds = {number}, " for number in range(folds + 1, 6) if made(number)), "")
        raise DataError(
            f"confirm.folds: found {folds}, but {said}: too few to leave some out and still train and validate on the "
            f"rest. Add images{' of other groups' * grouped}, {more}or set confirm.folds = 0."
        )
    return [f"confirm.folds: {got} folds instead of {folds}, as {said}."] if got < folds else []


def left_out_warning(left_out: Sequence[LeftOut]) -> list[str]:
    """How many of each class folder."""
    if not left_out:
        return []
    counts = Counter(PurePosixPath(left.path).parent.as_posix() for left in left_out)
    said = listed(f"{number} in {shown(name)}" for name, number in sorted(counts.items()))
    return [f"{len(left_out)} file{'s' * (len(left_out) > 1)} left out: {said}."]


def content_warnings(images: Sequence[ImageRecord], classes: Sequence[str]) -> list[str]:
    """Wrong suffixes, uniform images, several frames, and ways of storing that give the class away."""

    def wrong(image: ImageRecord) -> bool:
        suffix = PurePosixPath(image.path).suffix.casefold()
        return bool(suffix) and suffix not in _SUFFIXES.get(image.verdict.format, {suffix})

    found = {
        "Suffixes that do not fit the content, read by content": [
            f"{image.path} is {image.verdict.format}" for image in images if wrong(image)
        ],
        "Images of a single colour": [image.path for image in images if image.verdict.uniform],
        "Several frames or pages, the first is used": [image.path for image in images if image.verdict.frames],
    }
    return [f"{what}: {listed(names)}." for what, names in found.items() if names] + _tell_tales(images, classes)


def _tell_tales(images: Sequence[ImageRecord], classes: Sequence[str]) -> list[str]:
    """A property that all images of one class have and none of the others': the network may learn that instead."""
    greys: dict[int, set[bool]] = defaultdict(set)
    formats: dict[int, set[str]] = defaultdict(set)
    for image in images:
        stored = image.verdict
        greys[image.label].add(stored.mode in _GREY or stored.mode.startswith("I;16"))
        formats[image.label].add("JPEG" if stored.format == "MPO" else stored.format)
    warnings, alone = [], []
    for label in sorted(formats):
        others = [other for other in formats if other != label]
        if greys[label] == {True} and all(greys[other] == {False} for other in others):
            warnings.append(
                f"All photographs of {shown(classes[label])} are grey and no others: the network may learn that."
            )
        if others and not any(formats[label] & formats[other] for other in others):
            alone.append(f"{shown(classes[label])} as {' and '.join(sorted(formats[label]))}")
    if alone:
        warnings.append(
            f"Classes that are stored in a format of their own: {listed(alone)}. Its traces may give the class away."
        )
    return warnings
