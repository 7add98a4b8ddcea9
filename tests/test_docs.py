"""The README, the changelog and the error tree say what the program has, and the program has what they say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from tuner import __version__, errors
from tuner.cli import app
from tuner.spec.spec import SECTIONS, Spec, toml

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
KEYS = [(section, f.name) for section, kind in SECTIONS.items() for f in fields(kind)]
PROGRAM: Any = typer.main.get_command(app)


def commands() -> dict[str, Any]:
    return dict(PROGRAM.commands)


def options() -> Iterator[tuple[str, str]]:
    """(command, --option), every spelling."""
    for name, command in commands().items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                yield from ((name, spelling) for spelling in (*parameter.opts, *parameter.secondary_opts))


def row_of(command: str) -> str:
    """The README's line about a command's options."""
    rows = [line for line in README.splitlines() if line.startswith(f"| `tlstudy {command}")]
    assert len(rows) == 1, f"the README has one row for `tlstudy {command}`"
    return rows[0]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_row(command: str) -> None:
    assert row_of(command)


@pytest.mark.parametrize(("command", "option"), list(options()))
def test_every_option_stands_in_its_commands_row(command: str, option: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", row_of(command)), f"{option} of {command}"


def test_the_programs_own_options_are_told() -> None:
    for option in ("--version", "--help", "--install-completion", "--show-completion", "python -m tuner"):
        assert option in README


def test_no_option_is_told_that_is_not_there() -> None:
    known = {spelling for _, spelling in options()} | {"--version", "--help"}
    known |= {"--install-completion", "--show-completion"}
    told = re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)
    assert set(told) <= known


def test_no_command_is_told_that_is_not_there() -> None:
    told = set(re.findall(r"\btlstudy ([a-z]+)", " ".join(re.findall(r"`[^`]*`", README))))
    assert told <= set(commands())


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_key_stands_with_its_default(section: str, key: str) -> None:
    rows = [line for line in README.splitlines() if line.startswith("|") and f"`{section}.{key}`" in line]
    assert len(rows) == 1, f"{section}.{key} has one row"
    default = toml(getattr(getattr(Spec(), section), key))
    assert f"`{default}`" in rows[0].replace("1e-5", "1e-05").replace("1e-2", "0.01")


def test_no_key_is_told_that_is_not_there() -> None:
    told = set(re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)`", README)) - {"data.path"}
    assert told <= {f"{section}.{key}" for section, key in KEYS}


def test_the_exit_codes_are_told() -> None:
    assert re.search(
        r"0 done, 1 failed while running, 2 wrong use or input, 130 interrupted \(143 by SIGTERM\)", README
    )


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README))))
def test_every_target_that_is_told_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_every_target_is_explained_declared_and_told() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)
    assert set(targets) >= {"help", "setup", "search", "report", "best", "test", "check", "bench", "clean"}
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(targets)
    for target in targets:
        assert re.search(rf"^{target}:.*## \w", MAKEFILE, re.MULTILINE), f"{target} is explained"
        assert re.search(rf"`(make )?{target}\b|^make {target}\b", README, re.MULTILINE), f"{target} is told"


def test_every_file_that_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (REPOSITORY / target).exists(), target


def test_the_changelog_names_the_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{re.escape(__version__)}\b", changelog, re.MULTILINE)


# ---- the error tree ------------------------------------------------------------------------------------------------


def drawn() -> dict[str, int]:
    """Each class in the drawing, and how deep it stands."""
    lines = re.findall(r"^ {4}([ |`-]*)([A-Z]\w+)(?= |$)", errors.__doc__ or "", re.MULTILINE)
    return {name: len(indent) // 3 for indent, name in lines}


def defined() -> dict[str, int]:
    """Each class of the module, and how far below the base it is."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    return {c.__name__: c.__mro__.index(errors.TlstudyError) for c in classes}


def test_the_drawing_of_the_errors_is_the_tree() -> None:
    assert drawn() == defined()


def test_the_exit_codes_in_the_drawing_are_those_of_the_classes() -> None:
    for code, name in ((1, "TlstudyError"), (2, "UsageError"), (1, "RunError")):
        assert re.search(rf"{name} +exit code {code}\b", errors.__doc__ or "")
        assert getattr(errors, name).exit_code == code
    for name in defined():
        expected = 2 if issubclass(getattr(errors, name), errors.UsageError) else 1
        assert getattr(errors, name).exit_code == expected
    assert errors.Interrupted("stopped").exit_code == 130
    assert errors.Interrupted("stopped", 143).exit_code == 143
