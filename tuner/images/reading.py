"""Files to hashes, and those not yet known to squares: in threads, each decoded once, few in memory at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tuner.errors import DataError
from tuner.images.cache import Cache, Known
from tuner.images.decode import Decoded, Pixels, Unreadable, decode, open_file, open_header, to_square
from tuner.images.duplicates import look
from tuner.images.mapped import Rows
from tuner.images.names import shown
from tuner.images.records import Verdict

_LARGE = 16_000_000  # pixels; larger images are decoded one at a time: 80 megapixels take about 700 MB
_one_large = threading.Lock()

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Hashed:
    """sha256: of the file's bytes, "" if it could not be read. stamp: size, time and inode it had then."""

    sha256: str
    stamp: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""


def hash_files(paths: Sequence[Path]) -> list[Hashed]:
    """sha256 of each file, in order; a file that cannot be read says why."""
    hashed = dict(_in_threads(_hash, paths))
    return [hashed[index] for index in range(len(paths))]


@contextlib.contextmanager
def squares(
    paths: Sequence[Path], hashed: Sequence[Hashed], cache: Cache, mode: str, on_progress: Progress | None
) -> Iterator[tuple[Known, dict[str, Verdict]]]:
    """What is known of every file, after decoding those of which nothing was; new squares live until the context ends.

    Yields rows and verdicts by sha256, and the passing verdicts (another day may differ) that must not be kept.
    on_progress(done, total) counts files. Raises DataError when a file changes meanwhile.
    """
    report = on_progress or (lambda done, total: None)
    copies = Counter(h.sha256 for h in hashed)
    first = {h.sha256: (path, h) for path, h in zip(reversed(paths), reversed(hashed), strict=True) if h.sha256}
    known = cache.known(first)
    todo = [sha for sha in first if sha not in known.rows and not known.verdicts.get(sha, Verdict()).reason]
    done = len(hashed) - sum(copies[sha] for sha in todo)
    report(done, len(hashed))
    passing: dict[str, Verdict] = {}
    with cache.staging(len(todo)) if todo else contextlib.nullcontext(np.empty(0, np.uint8)) as array:
        jobs = [(*first[sha], array[row]) for row, sha in enumerate(todo)]
        written = Rows(array)
        with quiet():
            for row, (verdict, lasting) in _in_threads(lambda job: _read_one(*job, mode), jobs):
                sha = todo[row]
                (known.verdicts if lasting else passing)[sha] = verdict
                if not verdict.reason:
                    known.rows[sha] = (array, row)
                written.touched(array[row].nbytes)
                done += copies[sha]
                report(done, len(hashed))
        yield known, passing
        known.rows.clear()


def _read_one(path: Path, hashed: Hashed, row: Pixels, mode: str) -> tuple[Verdict, bool]:
    """Decodes one image, writes its square into `row`, uint8 (size, size, 3); its verdict; whether it lasts."""
    try:
        with open_file(path) as stream:
            if _stamp(stream.fileno()) != hashed.stamp:
                raise DataError(
                    f"{shown(str(path))} changed while the photographs were read; expected files that stay. "
                    "Wait until the copying is over and start again."
                )
            with open_header(stream) as image, _room(image.width * image.height):
                decoded = decode(image)
                row[:] = to_square(decoded.pixels, row.shape[0], mode)
                return _verdict(decoded), True
    except Unreadable as error:
        return Verdict(reason=error.reason), error.lasting


def square(path: Path, size: int, mode: str) -> Pixels:
    """One image as uint8 (size, size, 3); large ones are decoded one at a time. Raises Unreadable."""
    with open_file(path) as stream, open_header(stream) as image, _room(image.width * image.height):
        return to_square(decode(image).pixels, size, mode)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns on standard error of what a verdict says better. Filters are the process's, so around all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _verdict(decoded: Decoded) -> Verdict:
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{height} {width} ".encode())
    digest.update(pixels.data)
    return Verdict(
        pixels=digest.hexdigest(),
        width=width,
        height=height,
        format=decoded.format,
        mode=decoded.mode,
        frames=decoded.frames,
        uniform=_uniform(pixels),
        look=look(pixels),
    )


def _uniform(pixels: Pixels) -> bool:
    """True when every pixel is the same; a coarse grid first, which settles nearly all images."""
    grid = pixels[:: max(1, pixels.shape[0] // 64), :: max(1, pixels.shape[1] // 64)]
    return bool((grid == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all())


def _hash(path: Path) -> Hashed:
    try:
        with open_file(path) as stream:
            stamp = _stamp(stream.fileno())
            return Hashed(hashlib.file_digest(stream, "sha256").hexdigest(), stamp)
    except Unreadable as error:
        return Hashed("", reason=error.reason)
    except OSError as error:
        return Hashed("", reason=f"cannot be read ({error.strerror})")


def _stamp(handle: int) -> tuple[int, int, int]:
    status = os.fstat(handle)
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def _room(pixels: int) -> Iterator[None]:
    with _one_large if pixels > _LARGE else contextlib.nullcontext():
        yield


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
    """(index, result) as they are finished; on an error or an interrupt what has not begun is dropped."""
    pool = ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1))
    try:
        futures: dict[Future[Result], int] = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
