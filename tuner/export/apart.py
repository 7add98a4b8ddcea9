"""A model opened in a process of its own, which may take so much memory and so much time: whoever made the file, it can
neither hang the command nor fill the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.files import room
from tuner.errors import RunError, UsageError
from tuner.export.formats import Contents
from tuner.export.reading import Reader, format_of
from tuner.export.serving import receive, send

_LOOK = 0.05  # seconds between two looks at the process: what it may take too much meanwhile is 200 MB
_MOST = 50_000_000  # numbers in one answer


@dataclass(frozen=True)
class Limits:
    """seconds: to open the model, and again for each batch. memory: gigabytes that its process may take, seen where
    there is a /proc (Linux).
    """

    seconds: float
    memory: float


class Apart:
    """The process of a model. Starts at once; `reader` waits for it. Leaving the context ends it."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits, self._kind = path, limits, format_of(path)
        self._deadline, self._stopped, self._over = float("inf"), "", threading.Event()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open until this context ends
        package = str(Path(__file__).resolve().parents[2])  # this package, from wherever the command was run
        paths = [package, os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tuner.export.serving", str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self._process.wait()
        self._errors.close()

    def reader(self) -> Reader:
        """The open model. Raises UsageError as `open_model`, RunError when it takes too much."""
        with self._within("to be opened"):
            message, _ = receive(self._process.stdout, 0)  # type: ignore[arg-type]
            self._check(message)
            contents = Contents.from_json(message["contents"])
        return Reader(self._path, self._kind, contents, self._ask)

    def _ask(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._within(f"for {len(images)} image{'s' * (len(images) != 1)}"):
            send(self._process.stdin, {}, images)  # type: ignore[arg-type]
            message, found = receive(self._process.stdout, _MOST)  # type: ignore[arg-type]
            self._check(message)
            if found is None:
                raise ValueError("no numbers")
            return found

    def _check(self, message: dict[str, object]) -> None:
        if "error" in message:
            raise (UsageError if message.get("usage") else RunError)(str(message["error"]))

    @contextmanager
    def _within(self, what: str) -> Iterator[None]:
        self._deadline = time.monotonic() + self._limits.seconds
        try:
            yield
        except (EOFError, OSError) as error:
            raise RunError(f"{self._path}: {self._why(what)}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{self._path}: answered what is no answer ({error}). It is no model of ours.") from error
        finally:
            self._deadline = float("inf")

    def _why(self, what: str) -> str:
        """Why there was no answer: the process has ended, or is stopped when its time is over."""
        code = self._process.wait()
        if self._stopped == "time":
            return (
                f"took more than {self._limits.seconds:g} seconds {what} and was stopped. A model that tlstudy "
                "exported takes seconds; a large one on a slow machine may be given more: --timeout SECONDS."
            )
        if self._stopped == "memory":
            return (
                f"took more than {room(self._limits.memory * 1e9)} of memory {what} and was stopped. A ResNet-50 "
                "takes 1 or 2; a larger model may be given more: --memory GB."
            )
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if code == -signal.SIGKILL:
            return f"was killed while it took time {what}: memory may have run out. Free some, and try again."
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
        return f"ended {how} {what}: {said[-1][:300] if said else 'no message'}. It is damaged, or no model of ours."

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            if _resident(self._process.pid) > self._limits.memory * 1e9:
                self._stopped = "memory"
            elif time.monotonic() > self._deadline:
                self._stopped = "time"
            if self._stopped:
                self._process.kill()
                return


def _resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 where nothing tells."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
