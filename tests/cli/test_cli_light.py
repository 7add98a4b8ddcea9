"""Help and reports are quick because they leave Keras alone; the pages say what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_programs import Tlstudy, environment, process

from tuner import __version__

COMMANDS = ("init", "plan", "search", "report", "best", "predict", "doctor")
WATCHED = ("keras", "tensorflow", "jax", "torch", "keras_tuner", "pandas", "matplotlib", "PIL", "numpy")
CODE = """
import contextlib, io, json, sys
from tuner.cli import main
codes = []
runs, watched = map(json.loads, sys.argv[1:])
for arguments in runs:
    sys.argv = ["tlstudy", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as ended:
            codes.append(ended.code)
    assert out.getvalue()
print(json.dumps([codes, [name for name in watched if name in sys.modules]]))
"""


def codes_and_imports(runs: list[list[str]], cwd: Path) -> tuple[list[int], list[str]]:
    """Exit codes of the runs, one after the other in a fresh process, and which of WATCHED they imported."""
    arguments = [sys.executable, "-c", CODE, json.dumps(runs), json.dumps(WATCHED)]
    done = subprocess.run(arguments, cwd=cwd, env=environment(), capture_output=True, text=True, check=True)
    codes, imported = json.loads(done.stdout)
    return codes, imported


def test_help_and_version_import_nothing_heavy(tmp_path: Path) -> None:
    pages = [["--help"], ["-h"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    assert codes_and_imports(pages, tmp_path) == ([0] * len(pages), [])
    assert not any(tmp_path.iterdir())


def test_reading_a_study_imports_no_keras(made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    plain = [["report", "--format", "json"], ["report", "--format", "csv"], ["best"], ["best", "-k", "2"]]
    assert codes_and_imports(plain, tmp_path) == ([0] * 4, ["pandas", "numpy"])
    assert codes_and_imports([["report"]], tmp_path) == ([0], ["pandas", "matplotlib", "PIL", "numpy"])


def test_the_program_by_its_module_name(tmp_path: Path) -> None:
    done = process("--version", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, f"tlstudy {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_and_says_what_each_option_does(tlstudy: Tlstudy, command: str) -> None:
    page = tlstudy(command, "--help")
    assert page.code == 0
    assert f"tlstudy {command}" in page.out
    assert command in tlstudy("--help").out
    assert "search.optimizer=sgd" in tlstudy("search", "-h").out


def test_no_command_shows_the_help(tlstudy: Tlstudy) -> None:
    shown = tlstudy()
    assert shown.code == 2
    assert all(command in shown.text for command in COMMANDS)
