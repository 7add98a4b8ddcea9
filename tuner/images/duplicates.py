"""The same image twice: the same bytes, other bytes that decode to the same pixels, or nearly the same pixels.

Of two images that look the same although their pixels differ (saved again, resized, brightened, cropped a little) the
hashes differ little. A hash is the sign of the brightness steps between neighbours on a 12 x 12 grey reduction, across
and down (a difference hash, after Krawetz's dHash). Measured on 92 images of towns and countryside: two of them differ
in 66 of its 242 bits or more (two of the demo's drawings in 60), an image and its copy in at most 17 after JPEG at
quality 30, half the size or a tenth brighter, in at most 31 after a crop of 2 % on each side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuner.errors import DataError
from tuner.images.decode import Pixels
from tuner.images.names import listed, shown
from tuner.images.records import ImageRecord

GRID = 11
BITS = 2 * GRID * GRID
ALIKE = 28  # bits that may differ; unrelated images lie about six standard deviations above it
FLAT = 4.0  # grey levels of spread under which the hash would tell of noise
_ROWS = 1000  # rows compared at a time: 40 MB for 10,000 images

Pairs = list[tuple[ImageRecord, ImageRecord]]


def look(pixels: Pixels) -> str:
    """The hash of uint8 (height, width, 3) as hex; "" for an image too flat to have one."""
    grey = Image.fromarray(pixels).convert("L").resize((GRID + 1, GRID + 1), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32)
    if values.std() < FLAT:
        return ""
    across, down = values[:GRID, 1:] > values[:GRID, :-1], values[1:, :GRID] > values[:-1, :GRID]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes().hex()


def alike(looks: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, in order, of images that look the same; those without a hash are in none.

    Signs instead of bits make the distances one matrix product: about a second for 10,000 images.
    """
    known = [i for i, text in enumerate(looks) if text]
    if len(known) < 2:
        return
    packed = np.frombuffer(bytes.fromhex("".join(looks[i] for i in known)), np.uint8).reshape(len(known), -1)
    signs = np.unpackbits(packed, axis=1)[:, :BITS].astype(np.float32) * 2 - 1
    for first in range(0, len(known), _ROWS):
        same = signs[first : first + _ROWS] @ signs[first:].T
        for row, column in zip(*np.nonzero(same >= BITS - 2 * ALIKE), strict=True):
            if column > row:
                yield known[first + row], known[first + column]


def together(names: Sequence[str], pairs: Iterable[tuple[int, int]] | NDArray[np.int64]) -> list[str]:
    """For each image the smallest name among those it is paired with by `alike`, directly or through others."""
    pairs, least = [(int(i), int(j)) for i, j in pairs], list(names)
    if not pairs:
        return least
    from scipy.cluster.hierarchy import DisjointSet  # half a second that most data need not wait for

    groups = DisjointSet({i for pair in pairs for i in pair})
    for i, j in pairs:
        groups.merge(i, j)
    for group in groups.subsets():
        name = min(names[i] for i in group)
        for i in group:
            least[i] = name
    return least


def check_labels(images: Sequence[ImageRecord], classes: Sequence[str]) -> None:
    """Raises DataError when one image stands in two classes: one of the labels is wrong, whatever the split."""
    if pairs := _copies(images, lambda a, b: a.label != b.label):
        said = listed((f"{_pair(a, b)} ({classes[a.label]}, {classes[b.label]})" for a, b in pairs), between="; ")
        raise DataError(
            f"{_count(pairs)} in two classes: {said}. Expected one class for each photograph: move the wrong copy "
            "out of the data."
        )


def check_splits(images: Sequence[ImageRecord], pairs: NDArray[np.int64], allow_leak: bool) -> list[str]:
    """Raises DataError when one image stands in two splits, unless allow_leak, which makes it a warning.

    Returns the warnings: leaks that are allowed, copies inside a split, and those of `pairs`, which look the same, that
    stand in two splits and differ in pixels.
    """
    warnings = []
    if leaks := _copies(images, lambda a, b: a.split != b.split):
        said = f"{_count(leaks)} in two splits: {_named(leaks)}."
        if not allow_leak:
            raise DataError(
                f"{said} Expected no photograph in more than one split: what was trained on cannot be held out. "
                "Move one of each pair out of the data, or set data.allow_leak = true (--allow-leak) to go on, every "
                "result marked."
            )
        warnings.append(f"{said} Results on the held-out photographs are too good by an unknown amount.")
    if copies := _copies(images, lambda a, b: a.split == b.split):
        warnings.append(f"{_count(copies)} twice inside a split: {_named(copies)}. Copies count twice.")
    alike = [(images[i], images[j]) for i, j in pairs]
    if near := [(a, b) for a, b in alike if a.split != b.split and a.verdict.pixels != b.verdict.pixels]:
        count = "Two photographs" if len(near) == 1 else f"{len(near)} pairs of photographs"
        warnings.append(
            f"{count} in different splits look the same: {_named(near, '~')}. "
            "If they show the same scene, what is held out was seen in training: keep such pairs in one split."
        )
    return warnings


def _copies(images: Sequence[ImageRecord], which: Callable[[ImageRecord, ImageRecord], bool]) -> Pairs:
    """For each copy the first image of the same pixels that satisfies `which`; linear but for large groups.

    Equal bytes decode to equal pixels, so the pixel hash finds both kinds of copy.
    """
    groups: dict[str, list[ImageRecord]] = defaultdict(list)
    pairs = []
    for image in images:
        same = groups[image.verdict.pixels]
        if (first := next((earlier for earlier in same if which(earlier, image)), None)) is not None:
            pairs.append((first, image))
        same.append(image)
    return pairs


def _named(pairs: Pairs, sign: str = "=") -> str:
    return listed((_pair(a, b, sign) for a, b in pairs), between="; ")


def _pair(a: ImageRecord, b: ImageRecord, sign: str = "=") -> str:
    return f"{shown(a.path)} {sign} {shown(b.path)}"


def _count(pairs: Pairs) -> str:
    return "one photograph stands" if len(pairs) == 1 else f"{len(pairs)} photographs stand"
