"""What the design says about the package as a whole, read from its source."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tuner.spec.spec import render
from tuner.store import locate

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "tuner"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(REPOSITORY)) for path in FILES]

ROOMS = ("errors", "spec", "artifacts", "store", "images", "backends", "backbones", "features", "evidence", "training",
    "search", "export", "report", "study", "cli")  # fmt: skip
"""Imports go to an earlier room or stay in the room."""
TOP = {"__init__", "__main__"}

NEEDS_DOCSTRING = 8

BACKENDS = ("tensorflow", "jax", "torch")
KERAS = ("keras", "keras_tuner", *BACKENDS)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(node: ast.AST, top_only: bool = False) -> Iterator[tuple[str, int]]:
    """(module, line) of every import, those for type checkers too; with `top_only` of those that run at import."""
    for child in ast.iter_child_nodes(node):
        if top_only and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute here"
            yield from ((f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
        else:
            yield from imports(child, top_only)


def room(module: str) -> str | None:
    """The room of `tuner.spec.spec.load`: study; None for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "tuner" and len(parts) > 1 else None


def starts_with(module: str, names: tuple[str, ...]) -> bool:
    return module.split(".")[0] in names


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_down_the_rooms_only(path: Path) -> None:
    here = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if here in TOP:
        return
    for module, line in imports(tree(path)):
        there = room(module)
        if there is None or there == "__version__":
            continue
        assert there in ROOMS, f"{path}:{line} imports {module}"
        assert ROOMS.index(there) <= ROOMS.index(here), f"{path}:{line}: {here} must not import {module}"


def test_the_rooms_are_those_of_the_design_and_all_are_packaged() -> None:
    folders = {p.parent.relative_to(REPOSITORY).as_posix().replace("/", ".") for p in PACKAGE.rglob("__init__.py")}
    loose = {p.stem for p in PACKAGE.glob("*.py")}
    rooms = {f.removeprefix("tuner.").split(".")[0] for f in folders if f != "tuner"}
    assert rooms | loose == {*ROOMS, *TOP}
    assert all((p / "__init__.py").exists() for p in PACKAGE.rglob("*") if p.is_dir() and list(p.glob("*.py")))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["packages"]) == folders


def test_no_two_files_import_each_other_in_a_circle() -> None:
    """Imports for type checkers and inside functions count too."""
    names = {".".join(p.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    needs = {
        name: {module if module in names else module.rpartition(".")[0] for module, _ in imports(tree(path))}
        & set(names) - {name, "tuner"}
        for name, path in names.items()
    }
    while leaves := {name for name, wanted in needs.items() if not wanted & set(needs)}:
        needs = {name: wanted for name, wanted in needs.items() if name not in leaves}
    assert not needs, f"a circle among {sorted(needs)}"


def importers(names: tuple[str, ...]) -> dict[str, set[str]]:
    """Which files import modules that begin so, wherever in the file."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for module, _ in imports(tree(path)):
            if any(module == name or module.startswith(name + ".") for name in names):
                found.setdefault(path.relative_to(PACKAGE).as_posix(), set()).add(module)
    return found


def test_one_folder_alone_knows_the_backends() -> None:
    assert {name.partition("/")[0] for name in importers(BACKENDS)} == {"backends"}


def test_two_files_alone_know_keras_tuner() -> None:
    """The space as its hyperparameters, and what it draws: private names in the latter only."""
    assert set(importers(("keras_tuner",))) == {"search/draws.py", "search/space.py"}


def test_evidence_is_functions_of_the_stores_rows() -> None:
    rooms = {room(module) for path in (PACKAGE / "evidence").glob("*.py") for module, _ in imports(tree(path))}
    assert rooms - {None} <= {"errors", "spec", "store", "evidence"}


@pytest.mark.parametrize(
    "path", [p for r in ("evidence", "report", "export", "cli") for p in (PACKAGE / r).glob("*.py")]
)
def test_no_sql_stands_where_a_study_is_read(path: Path) -> None:
    assert "sqlite3" not in path.read_text()
    texts = [
        node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in texts if text.startswith(("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "PRAGMA "))]


def keras_at_import() -> set[str]:
    """Our modules that import Keras, a backend or KerasTuner as soon as they are imported, directly or through ours."""
    names = {p: ".".join(p.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for p in FILES}
    needs = {names[p]: {m for m, _ in imports(tree(p), top_only=True)} for p in FILES}
    heavy = {name for name, modules in needs.items() if any(starts_with(m, KERAS) for m in modules)}
    while True:
        more = {
            name
            for name, modules in needs.items()
            if name not in heavy and any(m in heavy or m.rpartition(".")[0] in heavy for m in modules)
        }
        if not more:
            return heavy
        heavy |= more


@pytest.mark.parametrize("room_", ["errors", "spec", "artifacts", "store", "images", "evidence", "report"])
def test_these_rooms_work_without_keras(room_: str) -> None:
    heavy = keras_at_import()
    assert heavy, "the search itself needs Keras"
    for path in FILES:
        if path.relative_to(PACKAGE).with_suffix("").parts[0] == room_:
            for module, line in imports(tree(path)):
                assert not starts_with(module, KERAS), f"{path}:{line}"
                assert module not in heavy and module.rpartition(".")[0] not in heavy, f"{path}:{line}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if "cli" in path.relative_to(PACKAGE).parts or path.name == "__main__.py":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "input", "exit", "quit", "sys.exit", "os._exit"), f"{path}:{node.lineno}"


def public_functions_and_classes(
    node: ast.AST, inside: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            yield f"{inside}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public_functions_and_classes(child, f"{child.name}.")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_is_public_and_longer_than_a_glance_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{path} opens with what it is for"
    for name, node in public_functions_and_classes(tree(path)):
        body = (node.end_lineno or 0) - node.body[0].lineno + 1
        if body > NEEDS_DOCSTRING and isinstance(node, ast.FunctionDef):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {name} has no docstring"
        if isinstance(node, ast.ClassDef) and body > NEEDS_DOCSTRING:
            assert ast.get_docstring(node), f"{path}:{node.lineno}: class {name} has no docstring"


def test_the_demo_in_the_repository_is_the_one_the_program_writes() -> None:
    written = (REPOSITORY / "studies" / "demo" / "study.toml").read_text(encoding="utf-8")
    assert written == render(locate.demo_spec(), locate.DEMO_HEADING)
