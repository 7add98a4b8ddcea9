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

from tuner.errors import DataError
from tuner.images import likeness
from tuner.images.cache import Cache, Known, Verdict
from tuner.images.decode import Decoded, Pixels, Unreadable, decode, open_file, open_header, to_square
from tuner.images.mapped import Rows
from tuner.images.names import shown

_LARGE = 16_000_000  # pixels; larger photographs are decoded one at a time: 80 megapixels take about 700 MB
_one_large = threading.Lock()

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Hashed:
    """sha256: of the file's bytes, "" if it could not be read. stamp: size, time and inode it had then."""

    sha256: str
    stamp: tuple[int, int, int]
    reason: str = ""


def hash_files(paths: Sequence[Path]) -> list[Hashed]:
    """sha256 of each file, in order; a file that cannot be read says why."""
    results: list[Hashed] = [Hashed("", (0, 0, 0))] * len(paths)
    for index, hashed in _in_threads(_hash, paths):
        results[index] = hashed
    return results


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
    todo = [sha for sha in first if sha not in known.rows and not _left_out(known, sha)]
    done = len(hashed) - sum(copies[sha] for sha in todo)
    report(done, len(hashed))
    if not todo:
        yield known, {}
        known.rows.clear()
        return
    passing: dict[str, Verdict] = {}
    with cache.staging(len(todo)) as array:
        jobs = [(*first[sha], array[row]) for row, sha in enumerate(todo)]
        written = Rows(array)
        with quiet():
            for row, (verdict, lasting) in _in_threads(lambda job: read_one(*job, mode), jobs):
                (known.verdicts if lasting else passing)[todo[row]] = verdict
                if not verdict.reason:
                    known.rows[todo[row]] = (array, row)
                written.touched(array[row].nbytes)
                done += copies[todo[row]]
                report(done, len(hashed))
        yield known, passing
        known.rows.clear()


def read_one(path: Path, hashed: Hashed, row: Pixels, mode: str) -> tuple[Verdict, bool]:
    """Decodes one photograph, writes its square into `row`, uint8 (size, size, 3); its verdict; whether it lasts."""
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
    """One photograph as uint8 (size, size, 3); large ones are decoded one at a time. Raises Unreadable."""
    with open_file(path) as stream, open_header(stream) as image, _room(image.width * image.height):
        return to_square(decode(image).pixels, size, mode)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns on standard error of what a verdict says better. Filters are the process's, so around all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _verdict(decoded: Decoded) -> Verdict:
    height, width = decoded.pixels.shape[:2]
    digest = hashlib.sha256(f"{height} {width} ".encode())
    digest.update(decoded.pixels.data)
    uniform = _uniform(decoded.pixels)
    look = likeness.look(decoded.pixels)
    return Verdict("", digest.hexdigest(), width, height, decoded.format, decoded.mode, decoded.frames, uniform, look)


def _uniform(pixels: Pixels) -> bool:
    """True when every pixel is the same; a coarse grid first, which settles nearly all photographs."""
    grid = pixels[:: max(1, pixels.shape[0] // 64), :: max(1, pixels.shape[1] // 64)]
    return bool((grid == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all())


def _left_out(known: Known, sha: str) -> bool:
    return sha in known.verdicts and bool(known.verdicts[sha].reason)


def _hash(path: Path) -> Hashed:
    try:
        with open_file(path) as stream:
            stamp = _stamp(stream.fileno())
            return Hashed(hashlib.file_digest(stream, "sha256").hexdigest(), stamp)
    except Unreadable as error:
        return Hashed("", (0, 0, 0), error.reason)
    except OSError as error:
        return Hashed("", (0, 0, 0), f"cannot be read ({error.strerror})")


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
