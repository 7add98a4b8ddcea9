"""What `tlstudy best --export` says: the model, what its check found, its card."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tuner.cli.console import err, out, short, status
from tuner.store.folder import StudyFolder

if TYPE_CHECKING:
    from tuner.evidence.results import Results


class ExportFormat(StrEnum):
    keras = "keras"
    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"


def check(target: Path, format: ExportFormat | None, force: bool) -> None:
    """Before anything is shown or loaded: is it clear what to write, can it be made and go there? Raises UsageError."""
    from tuner.export.formats import writable

    writable(target, format, force)


def write(
    folder: StudyFolder,
    results: Results,
    target: Path,
    format: ExportFormat | None,
    *,
    baseline: bool,
    refit: bool,
    force: bool,
) -> None:
    """Exports, prints the model and what the check found."""
    from tuner.export.formats import card_path, recipe
    from tuner.study import Study

    if not baseline and results.beats_baseline() is False:
        text = "Note: the frozen baseline did better than this configuration; --baseline exports that instead."
        err().print(Text(text), soft_wrap=True)
    with status("Building, saving and checking the model") as say:
        done = Study(folder).export(target, format=format, baseline=baseline, refit=refit, force=force, progress=say)
    console = out()
    console.print(Text(done.summary), soft_wrap=True)
    said = [done.sentence(short(target)), f"Its model card is {short(card_path(target))}."]
    said += [done.refit.sentence()] if done.refit else []
    if done.kind.squares:
        said.append(f"It takes decoded squares: {recipe(done.contents)}. `tlstudy predict` makes them.")
    for line in said:
        console.print(Text(line), soft_wrap=False)
