"""Two ways to run the command line: the real `main()` in this process, and a real process of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import forks

from tuner.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = ["--weights", "random", "--image-size", "32", "--max-epochs", "4", "--factor", "2", "--unfrozen-layers", "0"]
SMALL += ["--set", "space.head_width=[0, 16]", "--set", "confirm.seeds=2"]
"""The options of the smallest search worth the name."""


@dataclass(frozen=True)
class Outcome:
    """What the user gets."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams with every run of blanks as one, as the console breaks long lines."""
        return " ".join((self.out + " " + self.err).split())


Tlstudy = Callable[..., Outcome]
"""`tlstudy("report", "x", cwd=folder)`: the fixture that runs `main()` here."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tuner", *map(str, arguments)]


def process(
    *arguments: object, cwd: Path, before: Callable[[], None] | None = None, stdin: str = "", **more: str
) -> Outcome:
    """`python -m tuner` to its end. Bytes that are not UTF-8 come back as surrogates. `before` runs in the new process,
    ahead of the program."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        timeout=120,
        input=stdin.encode(),
        preexec_fn=before,
    )
    return Outcome(done.returncode, _text(done.stdout), _text(done.stderr))


def forked(*arguments: object, cwd: Path) -> Outcome:
    """`tlstudy` to its end in a process of its own that has imported Keras before; both streams are one."""
    with tempfile.NamedTemporaryFile() as said:
        process = forks.start(_main, str(cwd), [str(a) for a in arguments], said=Path(said.name))
        process.join(120)
        return Outcome(-1 if process.exitcode is None else process.exitcode, _text(said.read()), "")


def _main(cwd: str, arguments: list[str]) -> None:
    os.chdir(cwd)
    sys.argv = ["tlstudy", *arguments]
    main()


def as_anybody() -> None:
    """Takes from root what lets it read every file (Linux: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE, _READ_SEARCH)."""
    if os.geteuid() == 0:
        kernel = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):
            if kernel.prctl(24, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "a capability cannot be dropped")


class Started:
    """`tlstudy`, or another function of a module, in a process of its own that has imported Keras before, to be
    signalled; both its streams are one."""

    def __init__(self, *arguments: object, cwd: Path, main: Callable[[str, list[str]], None] | None = None) -> None:
        self._said = cwd / ".said"
        self.process = forks.start(main or _main, str(cwd), [str(a) for a in arguments], said=self._said)
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()

    def until(self, beginning: str) -> None:
        """Waits for a line that begins so."""
        while self.process.is_alive():
            if any(line.startswith(beginning) for line in self._text().splitlines()):
                return
            time.sleep(0.01)
        raise AssertionError(f"it ended before {beginning!r}: {self._text()}")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> Outcome:
        self.process.join(120)
        return Outcome(-1 if self.process.exitcode is None else self.process.exitcode, "", self._text())

    def _text(self) -> str:
        return _text(self._said.read_bytes()) if self._said.exists() else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """`python -m tuner` as a process to be signalled."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
