"""The same photograph twice: the same bytes, other bytes that decode to the same pixels, or nearly the same pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tuner.errors import DataError
from tuner.images.likeness import alike
from tuner.images.names import listed, shown

if TYPE_CHECKING:
    from tuner.images.dataset import Photograph


def check_labels(photographs: Sequence[Photograph], classes: Sequence[str]) -> None:
    """Raises DataError when one photograph stands in two classes: one of the labels is wrong, whatever the split."""
    pairs = _pairs(photographs, lambda a, b: a.label != b.label)
    if pairs:
        said = listed((f"{_pair(a, b)} ({classes[a.label]}, {classes[b.label]})" for a, b in pairs), between="; ")
        raise DataError(
            f"{_count(pairs)} in two classes: {said}. Expected one class for each photograph: remove the wrong copy."
        )


def check_splits(photographs: Sequence[Photograph], allow_leak: bool) -> list[str]:
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


def near_warning(photographs: Sequence[Photograph], looks: Sequence[str]) -> list[str]:
    """A warning that names photographs of two splits that look the same although their pixels differ."""
    pairs = [
        (photographs[i], photographs[j])
        for i, j in alike(looks)
        if photographs[i].split != photographs[j].split and photographs[i].pixels != photographs[j].pixels
    ]
    if not pairs:
        return []
    count = "Two photographs" if len(pairs) == 1 else f"{len(pairs)} pairs of photographs"
    return [
        f"{count} in different splits look the same: {listed((_pair(a, b, '~') for a, b in pairs), between='; ')}. "
        "If they show the same scene, what is held out was seen in training: keep such pairs in one split."
    ]


def _pairs(
    photographs: Sequence[Photograph], differ: Callable[[Photograph, Photograph], bool]
) -> list[tuple[Photograph, Photograph]]:
    """For each copy the first photograph of the same pixels that satisfies `differ`; linear but for large groups.

    Equal bytes decode to equal pixels, so the pixel hash finds both kinds of copy.
    """
    groups: dict[str, list[Photograph]] = defaultdict(list)
    pairs = []
    for photograph in photographs:
        same = groups[photograph.pixels]
        other = next((earlier for earlier in same if differ(earlier, photograph)), None)
        if other is not None:
            pairs.append((other, photograph))
        same.append(photograph)
    return pairs


def _pair(a: Photograph, b: Photograph, sign: str = "=") -> str:
    return f"{shown(a.path)} {sign} {shown(b.path)}"


def _count(pairs: Sequence[object]) -> str:
    return "one photograph stands" if len(pairs) == 1 else f"{len(pairs)} photographs stand"
