"""The same photograph twice: the same bytes, other bytes that decode to the same pixels, or nearly the same pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError
from tuner.images.names import listed, shown
from tuner.images.records import ImageRecord


def check_labels(photographs: Sequence[ImageRecord], classes: Sequence[str]) -> None:
    """Raises DataError when one photograph stands in two classes: one of the labels is wrong, whatever the split."""
    pairs = _pairs(photographs, lambda a, b: a.label != b.label)
    if pairs:
        said = listed((f"{_pair(a, b)} ({classes[a.label]}, {classes[b.label]})" for a, b in pairs), between="; ")
        raise DataError(
            f"{_count(pairs)} in two classes: {said}. Expected one class for each photograph: remove the wrong copy."
        )


def check_splits(photographs: Sequence[ImageRecord], allow_leak: bool) -> list[str]:
    """Raises DataError when one photograph stands in two splits, unless allow_leak, which makes it a warning.

    Returns the warnings: leaks that are allowed, and copies inside a split, named.
    """
    warnings = []
    leaks = _pairs(photographs, lambda a, b: a.split != b.split)
    if leaks:
        said = f"{_count(leaks)} in two splits: {listed((_pair(a, b) for a, b in leaks), between='; ')}."
        if not allow_leak:
            raise DataError(
                f"{said} Expected no photograph in more than one split: what was trained on cannot be held out. "
                "Remove one of each pair, or set data.allow_leak = true (--allow-leak) to go on, every result marked."
            )
        warnings.append(f"{said} Results on the held-out photographs are too good by an unknown amount.")
    copies = _pairs(photographs, lambda a, b: a.split == b.split)
    if copies:
        warnings.append(
            f"{_count(copies)} twice inside a split: {listed((_pair(a, b) for a, b in copies), between='; ')}. "
            "Copies count twice."
        )
    return warnings


def near_warning(photographs: Sequence[ImageRecord], pairs: NDArray[np.int64]) -> list[str]:
    """A warning that names those of `pairs`, which look the same, that stand in two splits and differ in pixels."""
    across = [
        (photographs[i], photographs[j])
        for i, j in pairs
        if photographs[i].split != photographs[j].split and photographs[i].pixels != photographs[j].pixels
    ]
    if not across:
        return []
    count = "Two photographs" if len(across) == 1 else f"{len(across)} pairs of photographs"
    return [
        f"{count} in different splits look the same: {listed((_pair(a, b, '~') for a, b in across), between='; ')}. "
        "If they show the same scene, what is held out was seen in training: keep such pairs in one split."
    ]


def _pairs(
    photographs: Sequence[ImageRecord], differ: Callable[[ImageRecord, ImageRecord], bool]
) -> list[tuple[ImageRecord, ImageRecord]]:
    """For each copy the first photograph of the same pixels that satisfies `differ`; linear but for large groups.

    Equal bytes decode to equal pixels, so the pixel hash finds both kinds of copy.
    """
    groups: dict[str, list[ImageRecord]] = defaultdict(list)
    pairs = []
    for photograph in photographs:
        same = groups[photograph.pixels]
        other = next((earlier for earlier in same if differ(earlier, photograph)), None)
        if other is not None:
            pairs.append((other, photograph))
        same.append(photograph)
    return pairs


def _pair(a: ImageRecord, b: ImageRecord, sign: str = "=") -> str:
    return f"{shown(a.path)} {sign} {shown(b.path)}"


def _count(pairs: Sequence[object]) -> str:
    return "one photograph stands" if len(pairs) == 1 else f"{len(pairs)} photographs stand"
