"""Opens an exported model with its own runtime, whichever it is: decoded squares in, class probabilities out.

A .keras file is loaded in Keras's safe mode. ONNX and LiteRT files are data that their runtimes interpret; a SavedModel
is a TensorFlow program, which can read and write files: it is safe only from somebody you trust.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.artifacts.files import regular, room
from tuner.backends.choosing import quiet
from tuner.errors import TlstudyError, UsageError
from tuner.export.formats import FORMATS, LARGEST_CONTENTS, Contents, Format, check_installed
from tuner.export.saving import CONTENTS_FILE, KEY

NEAR, COARSE = 1e-3, 0.02
"""By how much a probability may be out of range, and by how much all of an image may miss 1: bfloat16 rounds to 3
digits."""
LARGEST_CONFIG = 50_000_000
"""Bytes of JSON in a .keras file: a ResNet-50's takes 200,000."""

Call = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class Reader:
    """An open model. `run` takes float32 (b, height, width, 3), RGB 0..255, and gives (b, classes)."""

    path: Path
    kind: Format
    contents: Contents
    run: Call

    def probabilities(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (b, classes) of uint8 or float (b, side, side, 3), RGB 0..255; other sizes only where the format
        takes photographs. Raises UsageError when what comes out are no probabilities.
        """
        found = np.asarray(self.run(np.ascontiguousarray(images, dtype=np.float32)), dtype=np.float32)
        wanted = (len(images), len(self.contents.classes))
        if found.shape != wanted or not np.isfinite(found).all():
            raise UsageError(
                f"{self.path}: gave numbers of shape {found.shape}, expected finite probabilities of shape {wanted}. "
                "It is damaged, or its class names are another model's."
            )
        sums = found.sum(axis=1, dtype=np.float64)
        if found.size and (found.min() < -NEAR or found.max() > 1 + NEAR or np.abs(sums - 1).max() > COARSE):
            worst = sums[np.abs(sums - 1).argmax()]
            raise UsageError(
                f"{self.path}: gave numbers from {found.min():.4g} to {found.max():.4g}, together {worst:.4g} for an "
                "image; expected probabilities: between 0 and 1, together 1. It is damaged, or no model of ours."
            )
        return found


def format_of(path: Path) -> Format:
    """By content: what kind of model file this is. Raises UsageError."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return FORMATS["savedmodel"]
        raise UsageError(f"{path}: is a folder without saved_model.pb in it, so no SavedModel.")
    try:
        with open(path, "rb", opener=regular) as file:
            head = file.read(8)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if head[4:8] == b"TFL3":
        return FORMATS["litert"]
    if head.startswith(b"PK\x03\x04"):
        return FORMATS["keras"]
    if path.suffix == ".onnx":  # a protobuf begins with no mark of its own
        return FORMATS["onnx"]
    raise UsageError(
        f"{path}: is no model that tlstudy exports; expected a .keras, .onnx or .tflite file or a SavedModel folder, "
        "as `tlstudy best --export` writes them."
    )


def open_model(path: Path) -> Reader:
    """Opens a model that `tlstudy best --export` wrote. Raises UsageError for anything else, and when its runtime is
    not installed.
    """
    kind = format_of(path)
    check_installed(kind, kind.reads)
    opened: dict[str, Callable[[Path], tuple[Contents, Call]]] = {
        "keras": _keras,
        "savedmodel": _saved_model,
        "onnx": _onnx,
        "litert": _litert,
    }
    try:
        contents, run = opened[kind.name](path)
        contents.check()
    except _NotOurs as error:
        raise UsageError(
            f"{path}: was not exported by tlstudy: {error}. Expected a file that `tlstudy best --export` wrote."
        ) from error
    except TlstudyError:
        raise
    except Exception as error:  # whatever a runtime raises about a file it cannot read
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path}: cannot be read as a {kind.name} model ({type(error).__name__}: {reason}). It is damaged, or was "
            "not exported by tlstudy."
        ) from error
    return Reader(path, kind, contents, run)


class _NotOurs(Exception):
    """What is missing in the file."""


def _keras(path: Path) -> tuple[Contents, Call]:
    from tuner.backends import backend

    if path.suffix != ".keras":
        raise _NotOurs("it is a zip whose name does not end in .keras")
    _check_sizes(path)
    backend.start()
    import keras

    model = keras.models.load_model(path, safe_mode=True, compile=False)
    named = {layer.name: layer for layer in getattr(model, "layers", [])}
    names = getattr(getattr(named.get("classes"), "bias_initializer", None), "value", None)
    if not isinstance(names, (list, tuple)):
        raise _NotOurs("it has no layer called classes that holds the class names")
    resize = named.get("resize")
    if not isinstance(resize, keras.layers.Resizing):
        raise _NotOurs("it has no layer called resize")
    how = "crop" if resize.crop_to_aspect_ratio else "pad" if resize.pad_to_aspect_ratio else "squash"
    # Called, not `predict`: that would trace once more for each size.
    return Contents(tuple(names), int(resize.height), how), lambda images: model(images, training=False)


def _check_sizes(path: Path) -> None:
    """Raises UsageError when what the zip says takes more than a model can: Keras unpacks and parses all of it."""
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    largest = {name: LARGEST_CONFIG for name in sizes if name.endswith(".json")}
    stored = 2 * path.stat().st_size + LARGEST_CONFIG  # Keras does not compress
    for name, size in sizes.items():
        if size > (most := largest.get(name, stored)):
            raise UsageError(
                f"{path}: {name} in it takes {room(size)} unpacked, expected at most {room(most)}. It is no model of "
                "ours, and was not read."
            )


def _saved_model(path: Path) -> tuple[Contents, Call]:
    from tuner.backends import backend

    about = path / "assets.extra" / CONTENTS_FILE
    if not about.is_file():
        raise _NotOurs(f"assets.extra/{CONTENTS_FILE} with the class names is not in it")
    with open(about, "rb") as file:
        contents = Contents.from_json(file.read(LARGEST_CONTENTS))
    return contents, backend.saved_model(path)


def _onnx(path: Path) -> tuple[Contents, Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns of machines it cannot look into
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map.get(KEY)
    if about is None or len(about) > LARGEST_CONTENTS:
        raise _NotOurs(f"it has no metadata entry {KEY} with the class names")
    name = session.get_inputs()[0].name
    return Contents.from_json(about), lambda images: session.run(None, {name: images})[0]


def _litert(path: Path) -> tuple[Contents, Call]:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with zipfile.ZipFile(path) as end, end.open(CONTENTS_FILE) as file:
            contents = Contents.from_json(file.read(LARGEST_CONTENTS))
    except (zipfile.BadZipFile, KeyError) as error:
        raise _NotOurs(f"it carries no {CONTENTS_FILE} with the class names") from error
    with quiet():  # it says on standard error which kernels it chose
        runner = Interpreter(model_path=str(path)).get_signature_runner()
    name = next(iter(runner.get_input_details()))
    return contents, lambda images: next(iter(runner(**{name: images}).values()))
