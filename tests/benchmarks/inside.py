"""tlstudy in this process, with functions of it replaced: how phases are timed and techniques are switched off.

A function is named as text, "module:function" or "module:Class.method", and replaced wherever tlstudy's modules hold
it, so that `from x import y` is found too. A name that this version does not have is left out, not an error: the
programs that use this must outlive changes inside tlstudy.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

MODULES = (
    "tuner.cli",
    "tuner.cli.search",
    "tuner.search.session",
    "tuner.search.draws",
    "tuner.search.driver",
    "tuner.search.executors.inline",
    "tuner.training.trial",
)
"""What a search imports, Keras with it."""


def load() -> None:
    """Imports everything a search needs, as the command does piece by piece."""
    from tuner.backends import backend, choosing

    choosing.spare()
    backend.start()
    for module in MODULES:
        importlib.import_module(module)


def run(arguments: list[str]) -> None:
    """`tlstudy ARGUMENTS` here; ends the process only if the command fails."""
    from tuner.__main__ import main

    sys.argv = ["tlstudy", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def leave() -> None:
    """Ends this process as the command ends its own."""
    from tuner.__main__ import _leave

    _leave(0)


def find(name: str) -> tuple[Any, str, Any] | None:
    """The owner (module or class), the attribute's name and its value; None when this version has no such thing."""
    module, _, path = name.partition(":")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return None
    *way, last = path.split(".")
    for step in way:
        owner = getattr(owner, step, None)
    if owner is None or last not in vars(owner):
        return None
    return owner, last, vars(owner)[last]


def replace(name: str, make: Callable[[Any], Any]) -> bool:
    """Puts `make(original)` in the place of a function, method or value. False when there is none of that name."""
    found = find(name)
    if found is None:
        return False
    owner, last, original = found
    new = make(original)
    setattr(owner, last, new)
    for module in [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == "tuner"]:
        for attribute, value in list(vars(module).items()):
            if value is original and callable(value):
                setattr(module, attribute, new)
    return True


class Clock:
    """Seconds by phase. Every moment belongs to the innermost phase, so nothing is counted twice; `beside` is what
    other threads did meanwhile.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.beside: Counter[str] = Counter()
        self.calls: dict[tuple[str, Any], list[float]] = {}
        self._stack, self._since, self._thread = ["other"], time.perf_counter(), threading.get_ident()

    @contextmanager
    def inside(self, phase: str) -> Iterator[None]:
        if threading.get_ident() != self._thread:
            began = time.perf_counter()
            try:
                yield
            finally:
                self.beside[phase] += time.perf_counter() - began
            return
        self._switch()
        self._stack.append(phase)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def finished(self) -> dict[str, float]:
        """Seconds of each phase; of a compiled function's first call what a later one does not take is "trace"."""
        self._switch()
        for (phase, _), times in self.calls.items():
            extra = times[0] - (statistics.median(times[1:]) if len(times) > 1 else 0.0)
            if extra > 0:
                self.seconds[phase] -= extra
                self.seconds["trace"] += extra
        return dict(self.seconds)

    # ---- what can be timed ----

    def call(self, phase: str) -> Callable[[Any], Any]:
        """For `replace`: times a function, or a property."""

        def make(original: Any) -> Any:
            if isinstance(original, property):
                return property(make(original.fget))

            @functools.wraps(original)
            def timed(*arguments: Any, **keywords: Any) -> Any:
                with self.inside(phase):
                    return original(*arguments, **keywords)

            return timed

        return make

    def context(self, phase: str) -> Callable[[Any], Any]:
        """For `replace`: times a context manager, its body included."""

        def make(original: Any) -> Any:
            @contextmanager
            def timed(*arguments: Any, **keywords: Any) -> Iterator[Any]:
                with self.inside(phase), original(*arguments, **keywords) as value:
                    yield value

            return timed

        return make

    def compiled(self, phase: str) -> Callable[[Any], Any]:
        """For `replace`: times a compiled function, the first call for each object and shapes apart."""

        def make(original: Any) -> Any:
            @functools.wraps(original)
            def timed(*arguments: Any, **keywords: Any) -> Any:
                with self.inside(phase):
                    began = time.perf_counter()
                    try:
                        return original(*arguments, **keywords)
                    finally:
                        key = (phase, (_number(arguments[:1]), _shapes(arguments)))
                        self.calls.setdefault(key, []).append(time.perf_counter() - began)

            return timed

        return make

    def maker(self, phase: str) -> Callable[[Any], Any]:
        """For `replace`: a function that returns a compiled function."""

        def make(original: Any) -> Any:
            @functools.wraps(original)
            def timed(*arguments: Any, **keywords: Any) -> Any:
                with self.inside(phase):
                    return self.compiled(phase)(original(*arguments, **keywords))

            return timed

        return make


def _shapes(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(getattr(a, "shape", None) for a in arguments)


_numbers = iter(range(sys.maxsize))


def _number(objects: tuple[Any, ...]) -> int | None:
    """A number of an object's own, for its life: `id` is given again when an object is gone."""
    if not objects or not hasattr(objects[0], "__dict__"):
        return None
    return int(vars(objects[0]).setdefault("_benchmark_number", next(_numbers)))
