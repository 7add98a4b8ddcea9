"""Augmented views of training images: each drawn once, by name, from the file itself, and kept as a square on disk.

View k of an image depends on the augmentation, the study's seed, the file's SHA-256 and k, so every configuration,
session and study of that seed has the same ones. "flip" draws nothing: an image and its mirror image are its two views.
Validation and test images are always seen plain.

    random-resized crop     Szegedy et al., CVPR 2015; here the share is of the largest crop of the drawn aspect ratio,
                            so that no draw has to be made again, however long and narrow an image is
    brightness, contrast, saturation, in this order     Howard 2013, as in torchvision's ColorJitter; grey: Chen et al.,
                            ICML 2020
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, cos, radians, sin, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from tuner.artifacts.entries import Said, silent
from tuner.errors import DataError
from tuner.images.dataset import Dataset
from tuner.images.decode import Pixels, Unreadable, version
from tuner.images.hashing import in_threads
from tuner.images.mapped import Rows as Mapped
from tuner.images.names import shown
from tuner.images.reading import Cache, original, quiet
from tuner.spec.seeds import generator
from tuner.spec.spec import DataSpec

VERSION = "views 1"
"""Raise it when any view would come out differently: it is part of every cache key."""
NONE, FLIP = "none", "flip"


@dataclass(frozen=True)
class Policy:
    """What a view may look like. area: a crop's least share of the largest one of its shape. aspect: of a crop, its
    width over its height and the inverse at most. colour: brightness, contrast and saturation are multiplied by 1 -
    colour to 1 + colour. rotation: degrees to either side. grey: the chance of no colour. Half of all views are
    mirrored.
    """

    area: float
    aspect: float
    colour: float
    rotation: float = 0.0
    grey: float = 0.0


POLICIES = {
    "light": Policy(area=0.6, aspect=4 / 3, colour=0.1),
    "strong": Policy(area=0.25, aspect=4 / 3, colour=0.4, rotation=10.0, grey=0.1),
}


def numbers(augmentation: str, views: int) -> range:
    """The views that an epoch picks among, 0 for the plain image. All are as likely."""
    return {NONE: range(1), FLIP: range(2)}.get(augmentation, range(1, views + 1))


def view(image: Image.Image, augmentation: str, size: int, mode: str, *, seed: int, sha256: str, number: int) -> Pixels:
    """View `number` of an upright RGB image of any size as uint8 (size, size, 3). sha256: of its file.

    mode: as of `to_square`. "crop": a crop's shape is its own; "squash", "pad": it is that of the image, varied.
    """
    policy = POLICIES[augmentation]
    draw = generator(seed, "view", augmentation, sha256, number).random(10).tolist()
    share, shape, left, top, flip, *colours, grey, turn = draw
    width, height = image.size
    aspect = (1.0 if mode == "crop" else width / height) * policy.aspect ** (2 * shape - 1)
    side = sqrt(policy.area + (1 - policy.area) * share)
    wide, high = side * min(width, height * aspect), side * min(height, width / aspect)
    x, y = left * (width - wide), top * (height - high)
    across, down = size, size
    if mode == "pad":  # the longer side fills the square, the rest is black
        across, down = (max(1, round(size * s / max(wide, high))) for s in (wide, high))
    box = (x, y, min(x + wide, width), min(y + high, height))
    made = image.resize((across, down), Image.Resampling.BILINEAR, box)
    if mode == "pad":
        square = Image.new("RGB", (size, size))
        square.paste(made, ((size - across) // 2, (size - down) // 2))
        made = square
    if flip < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if policy.rotation:
        made = _turned(made, policy.rotation, turn)
    factors = [1 + policy.colour * (2 * c - 1) for c in colours]
    if grey < policy.grey:
        factors[-1] = 0.0
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        made = enhance(made).enhance(factor)
    return np.asarray(made)


def _turned(square: Image.Image, most: float, turn: float) -> Image.Image:
    """Turned by -most to most degrees; the corners show the image's reflection, as Keras's RandomRotation has it."""
    size = square.width
    margin = ceil(size * (sin(radians(most)) + cos(radians(most)) - 1) / 2) + 2
    wider = np.pad(np.asarray(square), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    turned = Image.fromarray(wider).rotate(most * (2 * turn - 1), Image.Resampling.BILINEAR)
    return turned.crop((margin, margin, margin + size, margin + size))


# ---- of a whole split ----


@dataclass(frozen=True)
class Named:
    """A view of all `images` of a split, drawn or not. key: hex sha256 of what its squares depend on. bytes: of the
    squares in the cache.
    """

    augmentation: str
    number: int
    images: int
    key: str
    bytes: int

    @property
    def name(self) -> str:
        return f"{self.augmentation} {self.number}"


@dataclass(frozen=True, eq=False)
class View(Named):
    """Drawn: squares uint8 (n, size, size, 3), read-only. first: the dataset's row of the first one."""

    first: int
    squares: Pixels


def named(dataset: Dataset, split: str, augmentation: str, data: DataSpec, seed: int) -> list[Named]:
    """Every view but the plain one of a split's images, by name alone."""
    rows = dataset.indices(split).tolist()
    store, size = _store(data, augmentation, seed, Path()), len(rows) * data.image_size**2 * 3
    every = numbers(augmentation, data.views)
    return [Named(augmentation, n, len(rows), store.key(_rows(dataset, rows, [n])), size) for n in every]


def kept(dataset: Dataset, split: str, augmentation: str, data: DataSpec, seed: int, cache: Path) -> bool:
    """Whether these views are drawn, as far as their manifest tells."""
    names = _rows(dataset, dataset.indices(split).tolist(), numbers(augmentation, data.views))
    return _store(data, augmentation, seed, cache).holds(names)


def drawn(
    dataset: Dataset,
    split: str,
    augmentation: str,
    data: DataSpec,
    seed: int,
    cache: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    said: Said = silent,
    stop: threading.Event | None = None,
) -> list[View]:
    """`named`, drawn; what the cache holds is not drawn again.

    on_progress(done, total) counts images. While another process draws the same ones this one waits, says so by `said`,
    and raises KeyboardInterrupt when `stop` is set. Raises DataError for a file that is gone or another one by now.
    """
    rows = dataset.indices(split).tolist()
    every, views = numbers(augmentation, data.views), named(dataset, split, augmentation, data, seed)
    store, size = _store(data, augmentation, seed, cache), data.image_size
    wanted = [(number, row) for number in every for row in rows]

    def draw(array: Pixels, missing: list[int]) -> None:
        """Writes the missing rows of `array`; a file is decoded once for all of its views."""
        of: dict[int, list[tuple[int, int]]] = {}
        for at in missing:
            number, row = wanted[at]
            of.setdefault(row, []).append((number, at))

        def one(row: int) -> None:
            record = dataset.records[row]
            path, sha256 = dataset.root / record.path, record.sha256
            try:
                with original(path, sha256) as image:
                    for number, at in of[row]:
                        array[at] = view(
                            image, augmentation, size, data.resize, seed=seed, sha256=sha256, number=number
                        )
            except (Unreadable, OSError) as error:
                raise DataError(
                    f"{shown(path)} went away or changed since it was read ({error}); expected the same file, whose "
                    "augmented views are drawn from it. Put it back and run the same command again."
                ) from error

        written = Mapped(array)
        on_progress(0, len(of))
        with quiet():
            for done, _ in enumerate(in_threads(one, list(of)), 1):
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt
                written.touched(len(missing) * array[0].nbytes // len(of))
                on_progress(done, len(of))

    try:
        array = store.made(_rows(dataset, rows, every), draw, said, stop)
        store.prune()
    except OSError as error:
        raise DataError(
            f"{shown(cache)}: augmented views cannot be kept there ({error.strerror or error}); they need "
            f"{sum(v.bytes for v in views) / 1e6:.0f} MB. Free space, choose another cache, or lower data.views."
        ) from error
    parts = np.split(array, len(every))
    return [View(**vars(v), first=rows[0], squares=part) for v, part in zip(views, parts, strict=True)]


def _store(data: DataSpec, augmentation: str, seed: int, cache: Path) -> Cache:
    settings = f"{version()}, {VERSION}, {augmentation}, seed {seed}, size {data.image_size}, resize {data.resize}"
    return Cache(cache, settings, data.image_size)


def _rows(dataset: Dataset, rows: list[int], every: Sequence[int]) -> list[str]:
    """A name for each (view, image): the file's and the view's number."""
    return [f"{dataset.records[row].sha256} {number}" for number in every for row in rows]
