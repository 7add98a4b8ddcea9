"""The commands: the only room that prints, asks or sets an exit code.

Keras, pandas and matplotlib are imported by the commands that use them, so `--help`, `report` and a plain `best` stay
quick. Exit codes: 0 done, 1 failed while running, 2 wrong use or input, 130 interrupted (143 by SIGTERM).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from tuner import __version__
from tuner.cli.console import err, out, reader_left
from tuner.cli.doctor import doctor
from tuner.cli.plan import plan
from tuner.cli.predict import predict
from tuner.cli.search import confirm, search
from tuner.cli.show import best, report
from tuner.cli.start import init
from tuner.errors import Interrupted, TlstudyError
from tuner.report.words import visible

app = typer.Typer(
    name="tlstudy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="An honest hyperparameter study of a pretrained ResNet-50 on your own photographs.",
)
for command in (init, plan, search, confirm, report, best, predict, doctor):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        out().print(f"tlstudy {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line; every error of ours is one message and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names may hold what the terminal's encoding, or even UTF-8, has no character for.
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="tlstudy")
    except TlstudyError as error:
        _say(str(error), "" if isinstance(error, Interrupted) else "bold red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (BrokenPipeError, SystemExit) as error:
        if not reader_left(error):
            raise
        # The reader of our output went away (`tlstudy report | head`): nothing is wrong.
        _drop_output()
        sys.exit(0)
    except OSError as error:
        _drop_output()
        _say(f"{error.filename or 'output'}: {error.strerror or error}. Mend this and run the same command again.")
        sys.exit(1)


def _say(message: str, style: str = "bold red") -> None:
    lines = [visible(line) for line in f"tlstudy: {message}".split("\n")]
    err().print(Text("\n".join(lines), style=style), soft_wrap=True)


def _drop_output() -> None:
    """What is still buffered goes nowhere: Python would try to write it once more on its way out."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the last: there is no standard output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
