"""The process of a command: what it does not import, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, **more: object) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120, **more)  # type: ignore[call-overload, no-any-return]


ENDING = """
    import atexit, sys
    atexit.register(lambda: print("last words"))
    sys.modules["jax"] = sys  # as if a backend had been loaded
    from tuner import __main__, cli
    class Slow:
        def __del__(self):
            print("taken apart")
    kept = Slow()
    sys.argv = ["tlstudy", *{arguments}]
    __main__.program()
"""


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["best", "nowhere"], 2), (["--nonsense"], 2)])
def test_a_process_with_a_backend_ends_at_once_and_loses_nothing(arguments: list[str], status: int) -> None:
    done = run(ENDING.format(arguments=arguments))
    assert done.returncode == status, done.stderr
    assert "last words" in done.stdout and "taken apart" not in done.stdout
    assert "Traceback" not in done.stderr and (done.stderr or status == 0)


def test_without_a_backend_it_ends_as_any_program() -> None:
    done = run(ENDING.format(arguments=["--version"]).replace('sys.modules["jax"] = sys', "pass"))
    assert done.returncode == 0 and "taken apart" in done.stdout


def test_a_thread_that_still_works_is_waited_for() -> None:
    done = run(
        ENDING.format(arguments=["--version"]).replace(
            "kept = Slow()",
            "import threading; threading.Timer(1, lambda: print('done', flush=True)).start()",
        )
    )
    assert done.returncode == 0 and "done" in done.stdout


def test_main_returns_to_whoever_calls_it() -> None:
    code = """
        import sys
        from tuner.__main__ import main
        sys.modules["jax"] = sys
        sys.argv = ["tlstudy", "--version"]
        try:
            main()
        except SystemExit:
            pass
        print("still here")
    """
    assert "still here" in run(code).stdout


def test_a_command_imports_its_backend_without_what_nobody_uses() -> None:
    """And what was hidden from the backend can be imported afterwards."""
    done = run(
        """
        import gc, sys
        from tuner.backends import backend, choosing
        choosing.spare()
        backend.start()
        from tuner.search import draws
        assert not set(choosing.UNUSED) - {"scipy"} & set(sys.modules), set(choosing.UNUSED) & set(sys.modules)
        assert None not in [sys.modules.get(name, 0) for name in choosing.UNUSED]
        assert gc.isenabled()
        import pandas, sklearn.linear_model
        print("done")
        """
    )
    assert done.stdout.strip() == "done", done.stderr
