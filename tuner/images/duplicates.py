"""The same image twice: the same bytes, other bytes that decode to the same pixels, or nearly the same pixels.

Of two images that look the same although their pixels differ (saved again, resized, brightened, cropped a little) the
hashes differ little. A hash is the sign of the brightness steps between neighbours on a 12 x 12 grey reduction, across
and down (a difference hash, after Krawetz's dHash). Measured on 92 images of towns and countryside: two of them differ
in 66 of its 242 bits or more (two of the demo's drawings in 60), an image and its copy in at most 17 after JPEG at
quality 30, half the size or a tenth brighter, in at most 31 after a crop of 2 % on each side.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from tuner.artifacts.entries import Artifacts, Said, silent
from tuner.errors import DataError
from tuner.images import near
from tuner.images.decode import Pixels
from tuner.images.names import listed, shown
from tuner.images.records import ImageRecord

GRID = 11
BITS = 2 * GRID * GRID
ALIKE = 28  # bits that may differ; unrelated images lie about six standard deviations above it
FLAT = 4.0  # grey levels of spread under which the hash would tell of noise
BUDGET = 100_000_000  # bytes of all links that are kept
_FEW = 3000  # images: fewer are compared sooner than an answer is kept

Pairs = list[tuple[ImageRecord, ImageRecord]]
_Rows = tuple[int, int]


def look(pixels: Pixels) -> str:
    """The hash of uint8 (height, width, 3) as hex; "" for an image too flat to have one."""
    grey = Image.fromarray(pixels).convert("L").resize((GRID + 1, GRID + 1), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32)
    if values.std() < FLAT:
        return ""
    across, down = values[:GRID, 1:] > values[:GRID, :-1], values[1:, :GRID] > values[:-1, :GRID]
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes().hex()


@dataclass(frozen=True, eq=False)
class Alike:
    """What looks the same. contents: the images' different pixels, sha256, sorted. links: int64 (links, 2), rows of
    `contents` whose hashes differ in at most ALIKE bits, as few as join all such pairs, directly or through others:
    frames of a film make millions of pairs.
    """

    contents: Sequence[str]
    links: near.Index

    @cached_property
    def names(self) -> Mapping[str, str]:
        """{pixels: the smallest pixels of the set they are in}."""
        return dict(zip(self.contents, together(self.contents, self.links), strict=True))

    def apart(self, images: Sequence[ImageRecord], keys: Sequence[Hashable], copies: bool = False) -> list[_Rows]:
        """Of each set whose images differ in `keys`, (images,), two that do, by row: they look the same and differ in
        pixels too, or are `copies`.
        """
        held: dict[str, dict[Hashable, int]] = defaultdict(dict)
        for row, (image, key) in enumerate(zip(images, keys, strict=True)):
            held[image.verdict.pixels].setdefault(key, row)
        # Two of each tell whether any differ.
        few = {content: list(islice(rows.items(), 2)) for content, rows in held.items()}
        found: dict[str, _Rows] = {}
        linked = [(self.contents[a], self.contents[b]) for a, b in self.links.tolist()]
        for a, b in [*linked, *((content, content) for content in few if copies)]:
            pairs = [(min(i, j), max(i, j)) for k, i in few[a] for m, j in few[b] if k != m]
            if pairs:
                found[self.names[a]] = min(*pairs, found.get(self.names[a], pairs[0]))
        return sorted(found.values())


def alike(
    images: Sequence[ImageRecord], cache: Path, said: Said = silent, stop: threading.Event | None = None
) -> Alike:
    """What looks the same of them; of many images it is found out once and kept in `cache`. Raises OSError."""
    looks = {image.verdict.pixels: image.verdict.look for image in images}
    contents = sorted(looks)
    if len(contents) < _FEW:
        return Alike(contents, links([looks[content] for content in contents]))

    def make(folder: Path) -> str:
        np.save(folder / "links.npy", links([looks[content] for content in contents]))
        return ""

    artifacts = Artifacts(cache / "alike")
    of = "\n".join([f"at most {ALIKE} bits", *(f"{content} {looks[content]}" for content in contents)])
    entry = artifacts.made(hashlib.sha256(of.encode()).hexdigest(), make, "comparing the same photographs", said, stop)
    found = np.load(entry.folder / "links.npy", allow_pickle=False)
    artifacts.prune(BUDGET)
    return Alike(contents, found)


def links(looks: Sequence[str]) -> near.Index:
    """As of `Alike`, of hashes; those without one are in none."""
    known = np.array([row for row, text in enumerate(looks) if text], np.int64)
    if len(known) < 2:
        return np.empty((0, 2), np.int64)
    packed = np.frombuffer(bytes.fromhex("".join(filter(None, looks))), np.uint8).reshape(len(known), -1)
    return known[near.forest(packed, ALIKE)]


def together(names: Sequence[str], links: near.Index) -> list[str]:
    """For each the smallest name of those that `links`, rows of `names`, join it with."""
    root, least = near.sets(len(names), links).tolist(), dict[int, str]()
    for first, name in zip(root, names, strict=True):
        least[first] = min(name, least.get(first, name))
    return [least[first] for first in root]


def check_labels(images: Sequence[ImageRecord], classes: Sequence[str]) -> None:
    """Raises DataError when one image stands in two classes: one of the labels is wrong, whatever the split."""
    if pairs := _copies(images, lambda a, b: a.label != b.label):
        said = listed((f"{_pair(a, b)} ({classes[a.label]}, {classes[b.label]})" for a, b in pairs), between="; ")
        raise DataError(
            f"{_count(pairs)} in two classes: {said}. Expected one class for each photograph: move the wrong copy "
            "out of the data."
        )


def check_splits(images: Sequence[ImageRecord], alike: Alike, allow_leak: bool) -> list[str]:
    """Raises DataError when one image stands in two splits, unless allow_leak, which makes it a warning.

    Returns the warnings: leaks that are allowed, copies inside a split, and images in two splits that look the same and
    differ in pixels.
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
    if apart := [(images[i], images[j]) for i, j in alike.apart(images, [image.split for image in images])]:
        count = "Photographs" if len(apart) == 1 else f"{len(apart)} sets of photographs"
        warnings.append(
            f"{count} in different splits look the same: {_named(apart, '~')}. "
            "If they show the same scene, what is held out was seen in training: keep such photographs in one split."
        )
    return warnings


def _copies(images: Sequence[ImageRecord], which: Callable[[ImageRecord, ImageRecord], bool]) -> Pairs:
    """For each copy the first image of the same pixels that satisfies `which`, a question of label and split.

    Equal bytes decode to equal pixels, so the pixel hash finds both kinds of copy.
    """
    groups: dict[str, dict[tuple[int, str], ImageRecord]] = defaultdict(dict)
    pairs = []
    for image in images:
        same = groups[image.verdict.pixels]
        if (first := next((earlier for earlier in same.values() if which(earlier, image)), None)) is not None:
            pairs.append((first, image))
        same.setdefault((image.label, image.split), image)
    return pairs


def _named(pairs: Pairs, sign: str = "=") -> str:
    return listed((_pair(a, b, sign) for a, b in pairs), between="; ")


def _pair(a: ImageRecord, b: ImageRecord, sign: str = "=") -> str:
    return f"{shown(a.path)} {sign} {shown(b.path)}"


def _count(pairs: Pairs) -> str:
    return "one photograph stands" if len(pairs) == 1 else f"{len(pairs)} photographs stand"
