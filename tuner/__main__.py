"""`python -m tuner` is `tlstudy`; the way in, so light that a Ctrl-C finds nothing to interrupt before it is minded."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading


def main(alone: bool = False) -> None:
    """Runs the command line. Ctrl-C while its modules are imported ends with 130, wherever in them it comes.

    `alone`: the process does nothing else, so that backends are imported without what no command uses.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody wants it ignored
    if ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # nothing is begun yet, so nothing is to be finished
    from tuner import cli
    from tuner.backends import choosing

    if alone:
        choosing.spare()
    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def program() -> None:
    """`main` for a process that does nothing else: what no command uses is not imported, and it ends at once."""
    status: object = 0
    try:
        main(alone=True)
    except SystemExit as end:
        status = end.code or 0
    if isinstance(status, int):
        _leave(status)
    sys.exit(status)  # type: ignore[arg-type]


def _leave(status: int) -> None:
    """Ends the process once everything is flushed: Python would spend a second taking a backend apart, object by
    object. Does nothing where that is not worth it, or where output could be lost.
    """
    if not {"tensorflow", "jax"} & set(sys.modules):
        return
    try:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        os._exit(130)
    except (OSError, ValueError):
        return  # nobody reads any more: Python says so in its own way
    os._exit(status)


if __name__ == "__main__":
    program()
