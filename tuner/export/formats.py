"""The formats a model is exported to: which file means which, what each takes, and what stands in it beside numbers.

| format | file | takes | written and read by |
| --- | --- | --- | --- |
| keras | `NAME.keras` | photographs of any size | Keras |
| savedmodel | folder `NAME` | photographs of any size | Keras; TensorFlow |
| onnx | `NAME.onnx` | squares | tf2onnx; ONNX Runtime |
| litert | `NAME.tflite` | squares | TensorFlow; LiteRT |

ONNX and LiteRT have no antialiased resizing (TensorFlow's ScaleAndTranslate), so their graphs begin at the decoded
square. Nothing here imports a backend.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tuner.errors import UsageError

LARGEST_CONTENTS = 1_000_000  # bytes of JSON that a model file may carry
CARD = ".card.md"
_OTHER_FILES = (".h5", ".hdf5", ".pb", ".pt", ".pth", ".zip", ".json")  # no name for a folder
_OF_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "keras_metadata.pb"}


@dataclass(frozen=True)
class Format:
    """squares: its graph takes decoded squares instead of photographs. reads, writes: what each needs beside Keras,
    module -> what pip calls it; writing includes the check, which reads. extra: of this package, that installs it.
    """

    name: str
    ending: str  # "" for a folder
    squares: bool
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    extra: str = ""


_TENSORFLOW = {"tensorflow": "tensorflow"}
_ONNX = {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}
_LITERT = {"ai_edge_litert": "ai-edge-litert"}

FORMATS = {
    f.name: f
    for f in (
        Format("keras", ".keras", False, {}, {}),
        Format("savedmodel", "", False, _TENSORFLOW, _TENSORFLOW),
        Format("onnx", ".onnx", True, {"onnxruntime": "onnxruntime"}, _TENSORFLOW | _ONNX, "onnx"),
        Format("litert", ".tflite", True, _LITERT, _TENSORFLOW | _LITERT, "litert"),
    )
}


@dataclass(frozen=True)
class Contents:
    """What a reader has to know. image_size, resize: how squares are made, as in study.toml."""

    classes: tuple[str, ...]
    image_size: int
    resize: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Contents:
        """Raises ValueError for anything but what `to_json` writes."""
        found = json.loads(text)
        contents = cls(tuple(found["classes"]), found["image_size"], found["resize"])
        contents.check()
        return contents

    def check(self) -> None:
        """Raises ValueError when the values cannot be those of a model of ours."""
        if len(self.classes) < 2 or not all(isinstance(name, str) for name in self.classes):
            raise ValueError("classes")
        if not isinstance(self.image_size, int) or not 1 <= self.image_size <= 4096:
            raise ValueError("image_size")
        if self.resize not in ("crop", "pad", "squash"):
            raise ValueError("resize")


def writable(target: Path, asked: str | None, force: bool) -> Format:
    """The format that `choose` says, before anything is loaded: can it be made here and go there? Raises UsageError."""
    kind = choose(target, asked)
    check_target(target, kind, force)
    check_installed(kind, kind.writes)
    return kind


def choose(target: Path, asked: str | None = None) -> Format:
    """The format that is asked for, else the one the ending says. Raises UsageError when the two differ."""
    if asked not in (None, *FORMATS):
        raise UsageError(f"format {asked!r}: expected one of {', '.join(FORMATS)}.")
    ending = target.suffix
    by_ending = {f.ending: f for f in FORMATS.values()}
    if asked is None:
        if ending not in by_ending:
            raise UsageError(
                f"{target}: found the ending {ending}, expected .keras (Keras), .onnx (ONNX), .tflite (LiteRT), or a "
                f"name without an ending for a SavedModel folder: {target.with_suffix('.keras').name}"
            )
        return by_ending[ending]
    wanted = FORMATS[asked]
    if ending == wanted.ending:
        return wanted
    if not wanted.ending and ending not in by_ending and ending not in _OTHER_FILES:
        return wanted  # a folder may be called model.v2
    found = f"the ending {ending}" if ending else "no ending"
    expected = f"{wanted.ending} for --format {asked}" if wanted.ending else "a folder's name for --format savedmodel"
    raise UsageError(f"{target}: found {found}, expected {expected}: {target.with_suffix(wanted.ending).name}")


def check_target(target: Path, kind: Format, force: bool) -> None:
    """Before anything is loaded: can the model and its card go there? Raises UsageError."""
    if kind.ending:
        if target.is_dir():
            raise UsageError(f"{target} is a folder; name a file.")
    elif os.path.lexists(target) and not _is_saved_model(target):
        raise UsageError(
            f"{target} exists and is no SavedModel folder (or holds other things too), so it is never overwritten. "
            "Choose another name."
        )
    for path in (target, card_path(target)):
        if path.exists() and not force:
            raise UsageError(f"{path} exists and is kept. Choose another name, or overwrite it with --force.")
    if card_path(target).is_dir():
        raise UsageError(f"{card_path(target)} is a folder; the model card goes there. Choose another name.")
    parent = next(p for p in [target.absolute().parent, *target.absolute().parents] if p.exists())
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{target}: {parent} cannot be written. Choose a folder you may write to.")


def check_installed(kind: Format, needs: Mapping[str, str]) -> None:
    """Raises UsageError that names what is missing and how to install it."""
    missing = [package for module, package in needs.items() if importlib.util.find_spec(module) is None]
    if missing:
        extras = dict.fromkeys("tensorflow" if package == "tensorflow" else kind.extra for package in missing)
        raise UsageError(
            f"The format {kind.name} needs {', '.join(missing)}, not installed here. Install: "
            f'pip install "tlstudy[{",".join(extras)}]"'
        )


def card_path(target: Path) -> Path:
    """Where the model card lies: beside the model, under its whole name."""
    return target.with_name(target.name + CARD)


def recipe(contents: Contents) -> str:
    """How a decoded photograph becomes the square that an ONNX or LiteRT model takes."""
    side = contents.image_size
    how = {
        "crop": "cut the largest square out of its middle",
        "pad": "add black bars to make it square",
        "squash": "leave its proportions aside",
    }[contents.resize]
    return (
        f"decode to RGB, turn upright (EXIF orientation), {how}, resize to {side} x {side} pixels with an antialiased "
        "bilinear (triangle) filter, round to whole numbers"
    )


def _is_saved_model(folder: Path) -> bool:
    """A real folder with a SavedModel in it and nothing else: what --force may take away."""
    if folder.is_symlink() or not (folder / "saved_model.pb").is_file():
        return False
    return {entry.name for entry in folder.iterdir()} <= _OF_SAVED_MODEL
