"""Photographs that look the same although their pixels differ: saved again, resized, brightened, cropped a little.

The hash is the sign of the brightness steps between neighbours on a 12 x 12 grey reduction, across and down (a
difference hash, after Krawetz's dHash). Measured on 92 photographs of towns and countryside: two of them differ in 66
of its 242 bits or more (two of the demo's drawings in 60), a photograph and its copy in at most 17 after JPEG at
quality 30, half the size or a tenth brighter, in at most 31 after a crop of 2 % on each side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuner.images.decode import Pixels

GRID = 11
BITS = 2 * GRID * GRID
ALIKE = 28  # bits that may differ; unrelated photographs lie about six standard deviations above it
FLAT = 4.0  # grey levels of spread under which the hash would tell of noise
_ROWS = 1000  # rows compared at a time: 40 MB for 10,000 photographs


def look(pixels: Pixels) -> str:
    """The hash of uint8 (height, width, 3) as hex; "" for an image too flat to have one."""
    grey = Image.fromarray(pixels).convert("L").resize((GRID + 1, GRID + 1), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32)
    if values.std() < FLAT:
        return ""
    across, down = values[:GRID, 1:] > values[:GRID, :-1], values[1:, :GRID] > values[:-1, :GRID]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes().hex()


def alike(looks: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, in order, of photographs that look the same; those without a hash are in none.

    Signs instead of bits make the distances one matrix product: about a second for 10,000 photographs.
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
