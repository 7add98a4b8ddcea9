"""Real processes that begin with everything imported: forks of one server, which has imported and done nothing else.

Importing Keras takes a process longer than what most tests have it do.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["faults.stock", "faults.torture", "search.killing", "search.waiting"])


def start(target: Callable[..., object], *arguments: Any, said: Path, **environment: str) -> BaseProcess:
    """A process that calls a function of a module; both its streams go to the file `said`."""
    process = _CONTEXT.Process(target=_call, args=(str(said), environment, target, arguments), daemon=True)
    with mock.patch.dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}"):  # the server's, once
        process.start()
    return process


def program(name: str, *options: str, said: Path, timeout: float) -> int | None:
    """Runs a module's `main` as a program with these options to its end and returns its exit status."""
    process = start(_main, name, options, said=said)
    process.join(timeout)
    return process.exitcode


def _main(name: str, options: tuple[str, ...]) -> None:
    sys.argv = [name, *options]
    import_module(name).main()


def _call(said: str, environment: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    target(*arguments)
