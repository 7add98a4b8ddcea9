"""What joins bit strings that are near each other, found without comparing all with all and without a list of all
pairs, of which frames of a film make millions.

Multi-index hashing (Norouzi, Punjani and Fleet 2012): of strings that differ in at most `2 BANDS - 1` bits, spread over
BANDS bands, one band differs in one bit at most. So only those are compared that have a band in common but for one bit.
Where nearly all have, each is compared with all that it is not yet joined to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

BANDS, WIDTH = 15, 16
MOST = 2 * BANDS - 1
"""Bits that may differ."""

Index = NDArray[np.int64]
_Band = tuple[Index, Index, Index]

_CHUNK = 1 << 20  # pairs compared at a time: some 100 MB
_GATHERING = 4  # how much longer a pair takes whose strings lie anywhere in memory
_MASKS = (0, *(1 << bit for bit in range(WIDTH)))


def forest(strings: NDArray[np.uint8], most: int) -> Index:
    """int64 (links, 2), rows of `strings`, uint8 (n, bytes), that differ in at most `most` bits: as few as join all
    such pairs, directly or through others. The same for the same strings; raises ValueError above MOST bits.
    """
    if most > MOST or 8 * strings.shape[1] < BANDS * WIDTH:
        raise ValueError(f"{most} bits of {8 * strings.shape[1]}")
    bands = [_band(strings, band) for band in range(BANDS)]
    compared = sum(int(_partners(band, mask)[1].sum()) for band in bands for mask in _MASKS)
    rows, links = np.arange(len(strings)), [np.empty((0, 2), np.int64)]
    root = rows.copy()
    many = _GATHERING * compared > len(strings) ** 2 // 2
    whole = np.pad(strings, ((0, 0), (0, -strings.shape[1] % 8)))
    words = np.ascontiguousarray(np.ascontiguousarray(whole).view(np.uint64).T)
    pairs: Iterable[tuple[int | Index, Index | slice]] = _all(root) if many else _in_bands(bands, root)
    for i, j in pairs:
        differ = _ones(words[0][i] ^ words[0][j])
        for row in words[1:]:
            differ += _ones(row[i] ^ row[j])
        close = np.flatnonzero(differ <= most)
        if len(close):
            links.append(_join(root, np.broadcast_to(i, differ.shape)[close], rows[j][close]))
    return np.concatenate(links)


def sets(n: int, links: Index) -> Index:
    """For each of n things the smallest one that `links`, int64 (links, 2), join it with, int64 (n,)."""
    root = np.arange(n)
    _join(root, links[:, 0], links[:, 1])
    return root


def _band(strings: NDArray[np.uint8], band: int) -> _Band:
    """The strings by one band: its keys, ascending; the rows they are of; where each key's begin, (2^WIDTH + 1,).

    Its bits lie far apart: neighbours tell the same.
    """
    bits = np.unpackbits(strings, axis=1, count=BANDS * WIDTH)[:, band::BANDS]
    keys = bits @ (1 << np.arange(WIDTH))
    rows = np.argsort(keys, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=1 << WIDTH))])
    return keys[rows], rows, starts


def _partners(band: _Band, mask: int) -> tuple[Index, Index]:
    """For each string, in the band's order, where those begin whose key differs in `mask`, and how many there are; each
    pair once.
    """
    keys, _, starts = band
    begin = starts[keys ^ mask] if mask else np.arange(1, len(keys) + 1)
    number = starts[(keys ^ mask) + 1] - begin
    number[keys & mask != 0] = 0
    return begin, number


def _in_bands(bands: Sequence[_Band], root: Index) -> Iterator[tuple[Index, Index]]:
    """Pairs that have a band in common but for one bit and are not yet joined."""
    for band in bands:
        for mask in _MASKS:
            begin, number = _partners(band, mask)
            before = np.concatenate([[0], np.cumsum(number)])
            first = 0
            while before[first] < before[-1]:
                last = max(first + 1, int(np.searchsorted(before, before[first] + _CHUNK, side="right")) - 1)
                of = number[first:last]
                at = np.arange(before[first], before[last]) + np.repeat(begin[first:last] - before[first:last], of)
                i, j = np.repeat(band[1][first:last], of), band[1][at]
                apart = root[i] != root[j]
                yield i[apart], j[apart]
                first = last


def _all(root: Index) -> Iterator[tuple[int, Index | slice]]:
    """Each string and those after it to which it is not yet joined; all after it where those are most."""
    for i in range(len(root) - 1):
        apart = root[i + 1 :] != root[i]
        yield i, slice(i + 1, None) if 2 * np.count_nonzero(apart) > len(apart) else np.flatnonzero(apart) + i + 1


def _join(root: Index, i: Index, j: Index) -> Index:
    """Joins i and j, int64 (pairs,), in `root`, the smallest row of each one's set; (links, 2), those that did it."""
    links = [np.empty((0, 2), np.int64)]
    while len(i):
        low, high = np.minimum(root[i], root[j]), np.maximum(root[i], root[j])
        apart = low != high
        i, j, low, high = i[apart], j[apart], low[apart], high[apart]
        hung, by = np.unique(high, return_index=True)  # each set once, to one before it: no circle can come about
        root[hung] = low[by]
        links.append(np.stack([i[by], j[by]], axis=1))
        while (root[root] != root).any():
            root[:] = root[root]
    return np.concatenate(links)


def _ones(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits are set in each."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        found: NDArray[np.uint8] = np.bitwise_count(words)
        return found
    return np.asarray(np.unpackbits(words[:, None].view(np.uint8), axis=1).sum(axis=1), np.uint8)
