"""What pyproject.toml declares: what is imported, once, and that either backend alone will do."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tuner.backends.choosing import choose
from tuner.errors import UsageError
from tuner.export.formats import FORMATS, check_installed

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CALLED = {"PIL": "pillow", "sklearn": "scikit-learn", "ai_edge_litert": "ai-edge-litert", "mlflow": "mlflow-skinny"}
"""Distributions that are not called as the module they hold, but for - and _."""
FOR_OTHERS = {"six", "alembic", "sqlalchemy"}
"""Imported by those we import, which do not declare them."""


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[<>=]", requirement)[0] for requirement in requirements]


def imported() -> set[str]:
    """Distributions that the package's modules import, wherever in the file."""
    found = set()
    for path in (REPOSITORY / "tuner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    found -= {*sys.stdlib_module_names, "tuner"}
    return {CALLED.get(name, name.replace("_", "-")) for name in found}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    extras = {name: set(names(packages)) for name, packages in PROJECT["optional-dependencies"].items()}
    needed, optional = set(names(PROJECT["dependencies"])), set.union(*(extras[e] for e in extras if e != "dev"))
    assert imported() <= needed | optional
    assert needed - FOR_OTHERS <= imported()
    assert not needed & optional, "what every installation has is no extra"


@pytest.mark.parametrize("group", ["dependencies", *PROJECT["optional-dependencies"]])
def test_no_package_is_listed_twice(group: str) -> None:
    listed = names(PROJECT["optional-dependencies"].get(group) or PROJECT[group])
    assert len(listed) == len(set(listed))


# ---- a backend ----


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Neither backend can be found until a test puts one there; what `choose` sets is taken back."""
    for name in ("KERAS_BACKEND", "XLA_FLAGS"):
        monkeypatch.setenv(name, "")
    for name in ("tensorflow", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    return monkeypatch


def there(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)


def test_without_a_backend_it_says_what_to_type(installed: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r'pip install "tlstudy\[tensorflow\]" \(or pip install "tlstudy\[jax\]"\)$'):
        choose()


def test_the_one_that_is_there_is_taken(installed: pytest.MonkeyPatch) -> None:
    there(installed, "jax")
    assert choose() == "jax"
    installed.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UsageError, match=r'tlstudy\[tensorflow\]"\nOr unset KERAS_BACKEND to run on jax'):
        choose()
    there(installed, "tensorflow")
    installed.setenv("KERAS_BACKEND", "")
    assert choose() == "tensorflow"


@pytest.mark.parametrize("name", ["savedmodel", "onnx", "litert"])
def test_formats_that_tensorflow_writes_say_so_without_it(installed: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(UsageError, match=r'needs tensorflow.*pip install "tlstudy\[tensorflow'):
        check_installed(FORMATS[name], FORMATS[name].writes)
