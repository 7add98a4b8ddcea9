"""Image files to squares: decoded once in threads, few in memory at a time, and kept on disk.

    <cache>/images/<key>/images.npy      uint8 (n, size, size, 3), one entry of `artifacts.entries` per set of images

Rows and verdicts are looked up by a file's sha256 over all entries of the same settings: a file that was renamed, moved
to another split or joined by others is not decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tuner.artifacts.entries import Artifacts, Said
from tuner.errors import DataError
from tuner.images.decode import Decoded, Pixels, Unreadable, decode, open_file, open_header, to_square
from tuner.images.duplicates import look
from tuner.images.hashing import Hashed, Progress, in_threads, stamped
from tuner.images.mapped import Rows
from tuner.images.names import shown
from tuner.images.records import Verdict

BUDGET = 20_000_000_000  # bytes of all entries together; those unused for longest go
_NAME = "images.npy"
_LARGE = 16_000_000  # pixels; larger images are decoded one at a time: 80 megapixels take about 700 MB
_one_large = threading.Lock()

Draw = Callable[[Pixels, list[int]], None]


# ---- what is on disk ----


@dataclass
class Known:
    """rows: {file sha256: (array, row)}, arrays checked against their checksum. verdicts: {file sha256: verdict}.
    passing: those that must not be kept, another day may differ.
    """

    rows: dict[str, tuple[Pixels, int]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    passing: dict[str, Verdict] = field(default_factory=dict)


class Cache:
    """The entries of one setting. settings: all that a row depends on beside the file's bytes."""

    def __init__(self, folder: Path, settings: str, size: int) -> None:
        self._artifacts = Artifacts(folder / "images")
        self.settings = settings
        self.size = size

    def key(self, files: Iterable[str]) -> str:
        """Hex sha256 of the settings and the images' sha256 in order."""
        return hashlib.sha256("\n".join([self.settings, *files]).encode()).hexdigest()

    def alone(
        self, files: Iterable[str], said: Said, stop: threading.Event | None
    ) -> contextlib.AbstractContextManager[None]:
        """One process at a time decodes these files, in whatever order and splits; as `Artifacts.alone`."""
        return self._artifacts.alone(self.key(sorted(set(files))), "reading the same photographs", said, stop)

    def known(self, files: Iterable[str]) -> Known:
        """The verdicts on `files`, and the rows for as many as sound entries hold; few entries, the fullest first."""
        files, known, rows = set(files), Known(), dict[str, list[str]]()
        for key in self._artifacts.listed():  # one after another: of many images each takes 100 MB
            about = self._artifacts.about(key)
            if about is not None and about["settings"] == self.settings:
                rows[key], verdicts = about["files"], about["verdicts"]
                known.verdicts.update({sha: Verdict(**verdicts[sha]) for sha in files.intersection(verdicts)})
        missing = set(files)
        for key in sorted(rows, key=lambda key: -len(files.intersection(rows[key]))):
            useful = missing.intersection(rows[key])
            if useful and (array := self._open(key)) is not None:
                known.rows.update({sha: (array, row) for row, sha in enumerate(rows[key]) if sha in useful})
                missing -= useful
        return known

    @contextlib.contextmanager
    def staging(self, rows: int) -> Iterator[Pixels]:
        """A writable uint8 (rows, size, size, 3) whose file goes when the context ends."""
        with self._artifacts.staging() as staged:
            yield staged.array("new.npy", self._shape(rows), np.uint8)

    def keep(self, files: list[str], known: Known) -> Pixels:
        """The read-only array of these images in this order, written from known rows where there is none.

        The verdicts are kept with it, also those on other files: one that is left out is not tried again.
        """
        key = self.key(files)
        verdicts = {sha: vars(verdict) for sha, verdict in known.verdicts.items()}
        if (array := self._open(key)) is not None:
            about = self._artifacts.about(key)
            if about is not None and not set(verdicts) <= set(about["verdicts"]):
                self._artifacts.amend(key, {**about, "verdicts": {**about["verdicts"], **verdicts}})
            return array
        return self._publish(key, files, known.rows, verdicts)

    def holds(self, names: list[str]) -> bool:
        """Whether there is an entry of just these rows, by its manifest."""
        return self._artifacts.about(self.key(names)) is not None

    def made(self, names: list[str], draw: Draw, said: Said, stop: threading.Event | None) -> Pixels:
        """The read-only array of rows that these names stand for; `draw(array, rows)` writes those that no entry holds.

        One process at a time draws; another one waits, as in `alone`.
        """
        key = self.key(names)
        if (array := self._open(key)) is None:
            with self.alone(names, said, stop):
                array = self._open(key)  # another process may have made it meanwhile
                return self._publish(key, names, self.known(names).rows, {}, draw) if array is None else array
        return array

    def prune(self) -> None:
        """Removes the entries unused for longest when all take more than BUDGET; those that are mapped stay."""
        self._artifacts.prune(BUDGET)

    def _open(self, key: str) -> Pixels | None:
        about = self._artifacts.about(key)
        return about and self._artifacts.map(key, _NAME, self._shape(len(about["files"])), np.uint8)

    def _publish(
        self,
        key: str,
        files: list[str],
        rows: Mapping[str, tuple[Pixels, int]],
        verdicts: Mapping[str, object],
        draw: Draw | None = None,
    ) -> Pixels:
        with self._artifacts.staging() as staged:
            array = staged.array(_NAME, self._shape(len(files)), np.uint8)
            written, read = Rows(array), {id(source): Rows(source) for source, _ in rows.values()}
            missing = [] if draw is None else [row for row, sha in enumerate(files) if sha not in rows]
            for row in sorted(set(range(len(files))).difference(missing)):
                source, at = rows[files[row]]
                array[row] = source[at]
                written.touched(array[row].nbytes)
                read[id(source)].touched(array[row].nbytes)
            if draw is not None and missing:
                draw(array, missing)
            array.flush()
            del array, written
            self._artifacts.publish(staged, key, {"settings": self.settings, "files": files, "verdicts": verdicts})
        if (found := self._open(key)) is None:
            raise OSError(f"{self._artifacts.folder / key} cannot be read back")
        return found

    def _shape(self, rows: int) -> tuple[int, int, int, int]:
        return (rows, self.size, self.size, 3)


# ---- reading ----


@contextlib.contextmanager
def squares(
    paths: Sequence[Path], hashed: Sequence[Hashed], cache: Cache, mode: str, on_progress: Progress | None
) -> Iterator[Known]:
    """What is known of every file, after decoding those of which nothing was; new squares live until the context ends.

    on_progress(done, total) counts files. Raises DataError when a file changes meanwhile.
    """
    report = on_progress or (lambda done, total: None)
    copies = Counter(h.sha256 for h in hashed)
    first = {h.sha256: (path, h) for path, h in zip(reversed(paths), reversed(hashed), strict=True) if h.sha256}
    known = cache.known(first)
    todo = [sha for sha in first if sha not in known.rows and not known.verdicts.get(sha, Verdict()).reason]
    done = len(hashed) - sum(copies[sha] for sha in todo)
    report(done, len(hashed))
    with cache.staging(len(todo)) if todo else contextlib.nullcontext(np.empty(0, np.uint8)) as array:
        jobs = [(*first[sha], array[row]) for row, sha in enumerate(todo)]
        written = Rows(array)
        with quiet():
            for row, (verdict, lasting) in in_threads(lambda job: _read_one(*job, mode), jobs):
                sha = todo[row]
                (known.verdicts if lasting else known.passing)[sha] = verdict
                if not verdict.reason:
                    known.rows[sha] = (array, row)
                written.touched(array[row].nbytes)
                done += copies[sha]
                report(done, len(hashed))
        yield known
        known.rows.clear()


def _read_one(path: Path, hashed: Hashed, row: Pixels, mode: str) -> tuple[Verdict, bool]:
    """Decodes one image, writes its square into `row`, uint8 (size, size, 3); its verdict; whether it lasts."""
    try:
        with open_file(path) as stream:
            if stamped(stream.fileno())[:3] != hashed.stamp[:3]:  # not the inode's time: a backup may link to the file
                raise DataError(
                    f"{shown(path)} changed while the photographs were read; expected files that stay. "
                    "Wait until the copying is over and run the same command again."
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
def original(path: Path, sha256: str) -> Iterator[Image.Image]:
    """A file at its full size, RGB and upright; large ones are decoded one at a time.

    Raises Unreadable, also for a file of another hex SHA-256; OSError.
    """
    with open_file(path) as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
            raise Unreadable("another file than the study saw", lasting=False)
        stream.seek(0)
        with open_header(stream) as image, _room(image.width * image.height):
            yield Image.fromarray(decode(image).pixels)


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


def _room(pixels: int) -> contextlib.AbstractContextManager[object]:
    return _one_large if pixels > _LARGE else contextlib.nullcontext()
