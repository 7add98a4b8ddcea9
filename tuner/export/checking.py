"""Saves models, has one fresh process read them with their formats' own runtimes, compares, then puts them in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner import __version__
from tuner.backends import backend
from tuner.errors import ExportError
from tuner.export import saving
from tuner.export.formats import Contents, Format, check_target
from tuner.export.refit import Refit
from tuner.export.sums import sum_of
from tuner.store import ids

CLOSE = 1e-3
"""Largest difference of a probability allowed on the decoded squares the trial saw, in float32 on a CPU."""
CLOSE_RAW = 0.02
"""The same on raw photographs, where Keras's resizing and Pillow's may round a pixel differently."""
COARSE = 0.02
"""Added to both where convolutions round to fewer bits: mixed_bfloat16, and TensorFloat-32 on GPUs."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained Keras model, the file it is to become, and what that file has to say.

    images: uint8 (n, side, side, 3), the validation images as the trial saw them; files: the same as files. expected:
    float32 (n, classes) probabilities; labels: int (n,), None where the model was trained on these images too, so that
    what it has right of them tells nothing. coarse: convolutions round to fewer bits.
    """

    model: Any
    target: Path
    kind: Format
    contents: Contents
    images: NDArray[np.uint8]
    files: Sequence[Path]
    expected: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    configuration: str
    coarse: bool = False
    refit: Refit | None = None


@dataclass(frozen=True)
class Exported:
    """What the check found: differences are of class probabilities, over `photographs` validation photographs.

    largest_raw_difference: on the photographs as they are, None for a format that takes squares. correct: of the
    validation photographs; None where it was trained on them. summary: Keras's, of the model. sha256: as of `sum_of`.
    """

    path: Path
    kind: Format
    contents: Contents
    bytes: int
    largest_difference: float
    largest_raw_difference: float | None
    correct: int | None
    photographs: int
    configuration: str
    versions: Mapping[str, str]
    refit: Refit | None = None
    summary: str = field(default="", repr=False)
    sha256: str = ""

    def sentence(self, name: str) -> str:
        """What was written and what the check found; `name`: the file as the user knows it."""
        against = "the stored predictions" if self.refit is None else "what the refit network itself said"
        raw = self.largest_raw_difference
        found = f"{self.largest_difference:.1g} on the decoded squares"
        found += "" if raw is None else f", {raw:.1g} on the raw photographs"
        right = "" if self.correct is None else f"{self.correct}/{self.photographs} right; "
        which, seed = ids.source_of(self.configuration), ids.seed_of(self.configuration)
        which += f", fresh seed {seed}" if seed and self.correct is not None else ""
        return (
            f"Wrote {name} ({self.bytes / 1e6:.0f} MB, {self.kind.name}, configuration {which}). Loaded "
            f"again in a process of its own and checked on the {self.photographs} validation photographs: {right}"
            f"largest difference of a probability to {against} {found}."
        )


def export(
    candidates: Sequence[Candidate], *, force: bool = False, say: Callable[[str], None] = lambda text: None
) -> list[Exported]:
    """Saves every model, has one fresh process read all files, compares, then puts all of them in place.

    Raises UsageError when a target exists without `force`, ExportError when a file does not say what it has to; all
    older files are then still there.
    """
    for one in candidates:
        check_target(one.target, one.kind, force)
    with ExitStack() as stack:
        folders = []
        for one in candidates:
            say(f"Saving as {one.kind.name}, loading again and checking")
            folders.append(stack.enter_context(saving.beside(one.target)).absolute())
            _write_question(one, folders[-1])
        _ask_a_fresh_process(candidates, folders, say)
        found = [_compared(one, folder) for one, folder in zip(candidates, folders, strict=True)]
        for one, folder in zip(candidates, folders, strict=True):
            saving.put_in_place(folder / "new" / one.target.name, one.target)
    return found


def _write_question(one: Candidate, folder: Path) -> None:
    """The saved model and what it is to be asked, as `tuner.export.fresh` reads it."""
    (folder / "new").mkdir()
    saving.save(one.model, one.kind, folder / "new" / one.target.name, one.contents)
    np.save(folder / "squares.npy", one.images)
    files = [] if one.kind.squares else [str(path.absolute()) for path in one.files]
    (folder / "files.json").write_text(json.dumps(files))


def _compared(one: Candidate, folder: Path) -> Exported:
    """What the file said against what it has to say. Raises ExportError."""
    with np.load(folder / "answers.npz", allow_pickle=False) as answers:
        contents = Contents.from_json(str(answers["contents"]))
        near, far = answers["squares"], answers["photographs"]
    if contents != one.contents:
        raise ExportError(
            f"{one.target}: the saved file carries {contents}, expected {one.contents}. It was not put in place."
        )
    coarse = COARSE if one.coarse else 0.0
    near_difference = difference(one, near, "the exported model", CLOSE + coarse)
    raw_difference = None
    if not one.kind.squares:
        raw_difference = difference(one, far, "on raw photographs the exported model", CLOSE_RAW + coarse)
    lines: list[str] = []
    one.model.summary(print_fn=lambda text, **_: lines.append(str(text)), line_length=80)
    return Exported(
        path=one.target,
        kind=one.kind,
        contents=contents,
        bytes=saving.size_of(folder / "new" / one.target.name),
        largest_difference=near_difference,
        largest_raw_difference=raw_difference,
        correct=None
        if one.labels is None
        else int(((near if one.kind.squares else far).argmax(1) == one.labels).sum()),
        photographs=len(one.images),
        configuration=one.configuration,
        versions=_versions(one.kind),
        refit=one.refit,
        summary="\n".join(lines),
        sha256=sum_of(folder / "new" / one.target.name),
    )


def difference(one: Candidate, found: NDArray[np.float32], what: str, limit: float) -> float:
    """The largest one between `found`, (n, classes), and what is expected. Raises ExportError where it is not at most
    `limit`.
    """
    same_shape = found.shape == one.expected.shape
    largest = float(np.abs(found - one.expected).max()) if same_shape else float("inf")
    if not largest <= limit:  # also when it is NaN
        raise ExportError(
            f"{one.target}: {what} differs from the trial it came from by {largest:.2g} in a probability (at most "
            f"{limit:g} is rounding). It was not put in place; please report this with the study's study.db."
        )
    return largest


def _versions(kind: Format) -> dict[str, str]:
    """Of everything that had a hand in the file."""
    facts = backend.environment()
    found = {"tlstudy": __version__}
    found |= {name: str(facts[name]) for name in ("python", "numpy", "keras", "tensorflow", "jax") if name in facts}
    return found | {package: metadata.version(package) for package in kind.writes.values() if package not in found}


def _ask_a_fresh_process(candidates: Sequence[Candidate], folders: Sequence[Path], say: Callable[[str], None]) -> None:
    """Has all answers written. Raises ExportError for the first file that cannot be read."""
    package = str(Path(__file__).resolve().parents[2])  # this package, from wherever the command was run
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in (package, os.environ.get("PYTHONPATH", "")) if p),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # this process may hold the rest of a GPU's memory
    }
    total = sum(len(one.files) for one in candidates if not one.kind.squares)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.export.fresh", *map(str, folders)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            for line in process.stdout or ():
                if line.strip().isdigit():
                    say(f"Checking on raw photographs: {int(line)} of {total}")
            code = process.wait()
        finally:
            if process.poll() is None:  # interrupted: it must not outlive the folders it reads
                process.kill()
                process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if code != 0:
        answered = sum((folder / "answers.npz").exists() for folder in folders)
        raise ExportError(
            f"{candidates[min(answered, len(folders) - 1)].target}: the saved file could not be read in a process of "
            f"its own (exit code {code}: {said.splitlines()[-1][:400] if said else 'no message'}). It was not put in "
            "place."
        )
