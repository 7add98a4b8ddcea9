"""`python -m tuner` is `tlstudy`; the way in, so light that a Ctrl-C finds nothing to interrupt before it is minded."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Runs the command line. Ctrl-C while its modules are imported ends with 130, wherever in them it comes."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody wants it ignored
    if ours:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # nothing is begun yet, so nothing is to be finished
    from tuner import cli

    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
