"""Saves a model, has a fresh process read it with the format's own runtime, compares, then puts it in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tuner import __version__
from tuner.backends import backend
from tuner.errors import ExportError
from tuner.export import saving
from tuner.export.formats import Contents, Format, check_target
from tuner.export.refit import Refit

CLOSE = 1e-3
"""Largest difference of a probability allowed on the decoded squares the trial saw, in float32 on a CPU."""
CLOSE_RAW = 0.02
"""The same on raw photographs, where Keras's resizing and Pillow's may round a pixel differently."""
COARSE = 0.02
"""Added to both where convolutions round to fewer bits: mixed_bfloat16, and TensorFloat-32 on GPUs."""


@dataclass(frozen=True)
class Exported:
    """What the check found: differences are of class probabilities, over `photographs` validation photographs.

    largest_raw_difference: on the photographs as they are, None for a format that takes squares. correct: of the
    validation photographs; means nothing after a refit, which has trained on them.
    """

    path: Path
    kind: Format
    contents: Contents
    bytes: int
    largest_difference: float
    largest_raw_difference: float | None
    correct: int
    photographs: int
    configuration: str
    versions: Mapping[str, str]
    refit: Refit | None = None

    def sentence(self, name: str) -> str:
        """What was written and what the check found; `name`: the file as the user knows it."""
        against = "the stored predictions" if self.refit is None else "what the refit network itself said"
        raw = self.largest_raw_difference
        found = f"{self.largest_difference:.1g} on the decoded squares"
        found += "" if raw is None else f", {raw:.1g} on the raw photographs"
        right = "" if self.refit else f"{self.correct}/{self.photographs} right; "
        return (
            f"Wrote {name} ({self.bytes / 1e6:.0f} MB, {self.kind.name}, configuration {self.configuration}). Loaded "
            f"again in a process of its own and checked on the {self.photographs} validation photographs: {right}"
            f"largest difference of a probability to {against} {found}."
        )


def export(
    model: Any,
    target: Path,
    kind: Format,
    contents: Contents,
    *,
    squares: np.ndarray,
    photographs: Sequence[Path],
    expected: np.ndarray,
    labels: np.ndarray,
    force: bool,
    configuration: str,
    coarse: bool = False,
    refit: Refit | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Saves `model`, has the saved file read by a fresh process, compares, then puts it in place.

    `squares`: uint8 (n, side, side, 3), the validation photographs as the trial saw them; `photographs`: the same as
    files; `expected`: (n, classes) probabilities; `coarse`: convolutions round to fewer bits. Raises UsageError when
    `target` exists without `force`, ExportError when they differ; the old file is then still there.
    """
    check_target(target, kind, force)
    raw = [] if kind.squares else list(photographs)
    with saving.beside(target) as folder:
        part = folder / "new" / target.name
        part.parent.mkdir()
        saving.save(model, kind, part, contents)
        near, far, found = _answers(folder, part, squares, raw, on_progress, target)
        if found != contents:
            raise ExportError(
                f"{target}: the saved file carries {found}, expected {contents}. It was not put in place."
            )
        difference = _largest(near, expected)
        _agree(target, "the exported model", difference, CLOSE + (COARSE if coarse else 0.0))
        raw_difference = None if kind.squares else _largest(far, expected)
        if raw_difference is not None:
            what = "on raw photographs the exported model"
            _agree(target, what, raw_difference, CLOSE_RAW + (COARSE if coarse else 0.0))
        saving.put_in_place(part, target)
    right = int(((near if kind.squares else far).argmax(axis=1) == labels).sum())
    size = saving.size_of(target)
    return Exported(
        target,
        kind,
        contents,
        size,
        difference,
        raw_difference,
        right,
        len(labels),
        configuration,
        _versions(kind),
        refit,
    )


def _versions(kind: Format) -> dict[str, str]:
    """Of everything that had a hand in the file."""
    facts = backend.environment()
    found = {"tlstudy": __version__}
    found |= {name: str(facts[name]) for name in ("python", "numpy", "keras", "tensorflow", "jax") if name in facts}
    return found | {package: metadata.version(package) for package in kind.writes.values() if package not in found}


def _answers(
    folder: Path,
    part: Path,
    squares: np.ndarray,
    photographs: Sequence[Path],
    on_progress: Callable[[int, int], None] | None,
    target: Path,
) -> tuple[np.ndarray, np.ndarray, Contents]:
    """What a fresh process reads out of `part`: probabilities of squares and of photographs, and its contents."""
    np.save(folder / "squares.npy", squares)
    request = {
        "model": str(part.absolute()),
        "squares": str((folder / "squares.npy").absolute()),
        "photographs": [str(path.absolute()) for path in photographs],
        "answers": str((folder / "answers.npz").absolute()),
    }
    (folder / "request.json").write_text(json.dumps(request))
    with open(folder / "errors.txt", "w+b") as errors:
        code = _fresh_process(folder / "request.json", errors.fileno(), len(photographs), on_progress)
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if code != 0:
        raise ExportError(
            f"{target}: the saved file could not be read in a process of its own (exit code {code}: "
            f"{said.splitlines()[-1][:400] if said else 'no message'}). It was not put in place."
        )
    with np.load(folder / "answers.npz", allow_pickle=False) as answers:
        contents = Contents.from_json(str(answers["contents"]))
        return answers["squares"], answers["photographs"], contents


def _fresh_process(request: Path, errors: int, total: int, on_progress: Callable[[int, int], None] | None) -> int:
    package = str(Path(__file__).resolve().parents[2])  # this package, from wherever the command was run
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # this process may hold the rest of a GPU's memory
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner.export.fresh", str(request.absolute())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    try:
        for line in process.stdout or ():
            if on_progress and line.strip().isdigit():
                on_progress(int(line), total)
        return process.wait()
    finally:
        if process.poll() is None:  # interrupted: it must not outlive the folder it reads
            process.kill()
            process.wait()


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _agree(target: Path, what: str, difference: float, limit: float) -> None:
    if not difference <= limit:  # also when it is NaN
        raise ExportError(
            f"{target}: {what} differs from the trial it came from by {difference:.2g} in a probability "
            f"(at most {limit:g} is rounding). It was not put in place; please report this with the study's study.db."
        )
