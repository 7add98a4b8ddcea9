"""What an exported model says of photographs: any number of files, decoded as a study decodes them, in batches.

Memory holds one batch of squares, whatever the number of files. A file that cannot be read is an answer too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.export.reading import Reader
from tuner.images import reading
from tuner.images.decode import Pixels, Unreadable
from tuner.images.names import ignored

BATCH = 32


@dataclass(frozen=True)
class File:
    """A file to judge; `reason` when it is known beforehand that it cannot be read."""

    path: str
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Prediction:
    """probabilities: float32 (classes,), None for a file that could not be read, for this reason."""

    path: str
    probabilities: NDArray[np.float32] | None
    reason: str = ""


def files(paths: Iterable[str]) -> list[File]:
    """The files that are meant, as often as they are meant: folders stand for all files in them and below, by name;
    hidden and system files there are passed over, links to folders not followed.
    """
    found: list[File] = []
    for path in paths:
        found += _inside(path) if os.path.isdir(path) else [File(path)]
    return found


def predict(reader: Reader, asked: Sequence[File]) -> Iterator[Prediction]:
    """One answer a file, in order. Raises UsageError when the model's answers are no probabilities."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        for first in range(0, len(asked), BATCH):
            batch = asked[first : first + BATCH]
            with reading.quiet():
                read = list(pool.map(lambda file: _square(reader, file), batch))
            squares = [square for square in read if not isinstance(square, str)]
            said = iter(reader.probabilities(np.stack(squares)) if squares else ())
            for file, square in zip(batch, read, strict=True):
                if isinstance(square, str):
                    yield Prediction(file.path, None, square)
                else:
                    yield Prediction(file.path, next(said))


def _square(reader: Reader, file: File) -> Pixels | str:
    """The square the model takes, or why there is none."""
    if file.reason:
        return file.reason
    try:
        return reading.square(Path(file.path), reader.contents.image_size, reader.contents.resize)
    except Unreadable as error:
        return error.reason


def _inside(folder: str) -> list[File]:
    found, waiting = list[File](), [folder]
    while waiting:  # not os.walk, which recurses before Python 3.12: folders may be nested deeper than its stack
        place = waiting.pop()
        try:
            with os.scandir(place) as listing:
                entries = sorted((e for e in listing if not ignored(e.name)), key=lambda e: e.name)
        except OSError as error:
            found.append(File(place, f"cannot be read ({error.strerror})"))
            continue
        found += [File(entry.path) for entry in entries if not entry.is_dir()]
        waiting += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
    return found
