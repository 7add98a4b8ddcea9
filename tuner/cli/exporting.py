"""What `tlstudy best --export` does: the model in one of its formats, checked, and its card beside it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tuner.artifacts.files import put, write_atomically
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
    from tuner.export.formats import check_installed, check_target, choose

    kind = choose(target, format)
    check_target(target, kind, force)
    check_installed(kind, kind.writes)


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
    """Exports, prints the model and what the check found, writes the card."""
    from tuner.export.formats import card_path, choose, recipe
    from tuner.export.study import export_study
    from tuner.report.card import card

    if not baseline and results.beats_baseline() is False:
        text = "Note: the frozen baseline did better than this configuration; --baseline exports that instead."
        err().print(Text(text), soft_wrap=True)
    with status("Building, saving and checking the model") as say:
        model, done = export_study(
            folder,
            results,
            target,
            baseline=baseline,
            force=force,
            say=say,
            kind=choose(target, format),
            again=refit,
            best_epochs=results.best_epochs_of_folds(baseline=baseline) if refit else (),
        )
    console = out()
    model.summary(print_fn=lambda line, **_: console.print(Text(str(line)), soft_wrap=True), line_length=80)
    found = results.findings()
    verdict = None if found.kind == "open" else found.sentence
    text = card(results, done, study=short(folder.root), baseline=baseline, verdict=verdict)
    write_atomically(card_path(target), lambda file: put(file, text.encode(errors="backslashreplace")))
    said = [done.sentence(short(target)), f"Its model card is {short(card_path(target))}."]
    said += [done.refit.sentence()] if done.refit else []
    if done.kind.squares:
        said.append(f"It takes decoded squares: {recipe(done.contents)}. `tlstudy predict` makes them.")
    for line in said:
        console.print(Text(line), soft_wrap=False)
