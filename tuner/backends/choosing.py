"""Which backend Keras runs on, decided before Keras is imported, and a quiet terminal while it starts."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuner.artifacts.files import home
from tuner.errors import UsageError

SUPPORTED = ("tensorflow", "jax")
INSTALL = {name: f'pip install "tlstudy[{name}]"' for name in SUPPORTED}
"""What to type for a backend: each is an extra of this package."""

UNUSED = ("IPython", "matplotlib", "pandas", "scipy", "sklearn")
"""What Keras, TensorFlow and KerasTuner import, where it is installed, for calls that this program never makes: a third
of their own time to be imported. They take a library that is missing for one that nobody has.
"""

_spared = False


def spare() -> None:
    """From now on they are imported without `UNUSED`: for a process that runs this program and nothing else. Who uses
    one of those libraries imports it as ever.
    """
    global _spared
    _spared = True


@contextlib.contextmanager
def sparing() -> Iterator[None]:
    """Inside, if `spare` was called, importing any of `UNUSED` fails as if it were not installed, and the garbage
    collector rests: it would go through all that is imported again and again, and find nothing.
    """
    if not _spared:
        yield
        return
    hidden = [name for name in UNUSED if name not in sys.modules]
    if os.environ.get("KERAS_BACKEND") == "jax" and "scipy" in hidden:
        hidden.remove("scipy")  # JAX is made of it
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]


def choose() -> str:
    """Sets KERAS_BACKEND if nobody did (TensorFlow where it is installed, else JAX) and quietens the log."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    installed = [b for b in SUPPORTED if importlib.util.find_spec(b)]
    chosen = os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if chosen is None:
        raise UsageError(
            "Keras runs on TensorFlow or JAX, and neither is installed. Install one of them: "
            f"{INSTALL['tensorflow']} (or {INSTALL['jax']})"
        )
    if chosen not in SUPPORTED:
        raise UsageError(
            f"KERAS_BACKEND is {chosen!r}; tlstudy runs on {' or '.join(SUPPORTED)}. Set one of them, or unset it."
        )
    if chosen not in installed:
        raise UsageError(
            f"KERAS_BACKEND is {chosen!r}, but {chosen} is not installed. Install it: {INSTALL[chosen]}"
            + (f"\nOr unset KERAS_BACKEND to run on {installed[0]}." if installed else "")
        )
    os.environ["KERAS_BACKEND"] = chosen
    if chosen == "jax" and "xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):
        # The same study must end the same way twice, on a GPU too.
        os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true").strip()
    return chosen


def keras_folder() -> Path:
    """Where Keras keeps downloads and its configuration, by its own rule (`keras/src/backend/config.py`)."""
    if (named := os.environ.get("KERAS_HOME")) is not None:
        return home(named)
    base = home("~")
    return (base if os.access(base, os.W_OK) else Path("/tmp")) / ".keras"


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """Inside, Keras is imported as if it had no configuration file: one may change every number, or make the import
    fail. Downloads stay where they are.
    """
    if "keras" in sys.modules:
        yield
        return
    named, folder = os.environ.get("KERAS_HOME"), keras_folder()
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KERAS_HOME"] = empty
        try:
            yield
        finally:
            del os.environ["KERAS_HOME"]
            if named is not None:
                os.environ["KERAS_HOME"] = named
    from keras.src.backend import config

    config._KERAS_DIR = str(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what a backend's C++ part writes to the terminal while it starts; shows it if starting fails."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
