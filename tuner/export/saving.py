"""Writes a Keras model in each format, with the class names inside, and puts what was written in place.

Where `Contents` stand: in a .keras file in the layers themselves (`classes`, `resize`), in a SavedModel as
`assets.extra/tlstudy.json` (the place TensorFlow leaves to others), in an ONNX file as the metadata entry `tlstudy`, in
a LiteRT file as `tlstudy.json` in a zip at its end, which is how that format carries associated files.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuner.artifacts import own
from tuner.artifacts.entries import workspace
from tuner.backends import backend
from tuner.backends.choosing import quiet
from tuner.errors import ExportError, UsageError
from tuner.export.formats import Contents, Format

KEY = "tlstudy"
CONTENTS_FILE = "tlstudy.json"


def save(model: Any, kind: Format, path: Path, contents: Contents) -> None:
    """Writes `model` to `path`, a new file or folder. `model` takes what the format takes; for another format than
    keras it is frozen here. Raises ExportError when the converter fails.
    """
    if kind.name == "keras":
        model.save(path)
        return
    model.trainable = False  # BatchNorm that was trained must not update itself in an exported graph
    try:
        with quiet(), _quiet_loggers():
            _export(model, kind, path)
            _add_contents(kind, path, contents)
    except OSError:
        raise
    except Exception as error:  # whatever a converter raises
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"{path.name}: the converter to {kind.name} failed ({type(error).__name__}: {reason}). "
            "Nothing was put in place; .keras is the format that needs no converter."
        ) from error


def check_backend(kind: Format) -> None:
    """Raises UsageError when Keras runs on a backend that does not write this format."""
    if kind.name != "keras" and (found := backend.start()) != "tensorflow":
        raise UsageError(
            f"Files of the format {kind.name} are written on TensorFlow; Keras runs on {found} here. Run this command "
            "again with KERAS_BACKEND=tensorflow, or export a .keras file."
        )


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A hidden folder beside `target`, on the same disk, that goes with everything in it when the context ends.

    That of an export that was killed goes when the next one beside it begins.
    """
    own.make(target.parent, 0o777)
    with workspace(target.parent) as staged:
        yield staged.folder


def put_in_place(part: Path, target: Path) -> None:
    """Makes `part` durable and renames it to `target`, which must be on the same disk.

    A file replaces an older one in one step, and a folder where the system can exchange two. Elsewhere the older one
    stands hidden beside `target` until the new one is in place, also when a kill comes between, and is renamed back
    should the second rename fail.
    """
    for path in [part, *part.rglob("*")]:
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            own.sync_folder(path)
    older = target.with_name(f".{target.name}.tlstudy-older")
    if not (part.is_dir() and target.exists()):
        os.replace(part, target)
    elif not _exchanged(part, target):
        shutil.rmtree(older, ignore_errors=True)
        os.replace(target, older)
        try:
            os.replace(part, target)
        except BaseException:
            os.replace(older, target)
            raise
    own.sync_folder(target.parent)
    shutil.rmtree(older, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Has two names on one disk change places in one step; False where nothing was done: it takes Linux's renameat2."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def _export(model: Any, kind: Format, path: Path) -> None:
    import keras

    if kind.name == "onnx":
        # Named, so that the graph's input is called as the model's is, and with any number of photographs.
        shape = model.input_shape
        signature = [keras.InputSpec(shape=shape, dtype="float32", name=model.inputs[0].name)]
        model.export(str(path), format="onnx", verbose=False, input_signature=signature)
    else:
        model.export(str(path), format="tf_saved_model" if kind.name == "savedmodel" else "litert", verbose=False)


def _add_contents(kind: Format, path: Path, contents: Contents) -> None:
    if kind.name == "savedmodel":
        (path / "assets.extra").mkdir(exist_ok=True)
        (path / "assets.extra" / CONTENTS_FILE).write_text(contents.to_json())
    elif kind.name == "onnx":
        import onnx

        model = onnx.load(path)
        onnx.helper.set_model_props(model, {KEY: contents.to_json()})
        onnx.save(model, path)
    else:
        with zipfile.ZipFile(path, "a") as end:
            end.writestr(zipfile.ZipInfo(CONTENTS_FILE), contents.to_json())


@contextlib.contextmanager
def _quiet_loggers() -> Iterator[None]:
    """tf2onnx warns of every variable that it folds into a constant."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow", "absl")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
