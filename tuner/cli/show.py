"""`tlstudy report` and `tlstudy best`: what a study found, and its best model as a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tuner.artifacts import own
from tuner.cli import options, trackers
from tuner.cli.console import data, err, out, short, status
from tuner.cli.options import Format
from tuner.cli.trackers import MLflow, TensorBoard
from tuner.errors import StudyError, UsageError
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.study import Study

if TYPE_CHECKING:
    from tuner.evidence.results import Results


class ExportFormat(StrEnum):
    keras = "keras"
    savedmodel = "savedmodel"
    onnx = "onnx"
    litert = "litert"


def report(
    study: options.Study = None,
    format: Annotated[
        Format, typer.Option(help="table also draws the figures; json and csv print data alone.")
    ] = Format.table,
    output: Annotated[
        Path | None, typer.Option(help="Folder for figures and data.", show_default="STUDY/report")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Configurations shown.")] = 10,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    tensorboard: TensorBoard = None,
    mlflow: MLflow = None,
) -> None:
    """Shows a study, finished or not: tables here, the page (index.html), figures and data in its report folder."""
    if open_ and format is not Format.table:
        raise UsageError(f"--open shows the page, which --format {format.value} does not write: leave out one of them.")
    trackers.check(tensorboard, mlflow)
    located = existing(study, to_stderr=format is not Format.table)
    if format is not Format.table:
        results = results_of(located)
        text = results.to_json() if format is Format.json else results.to_csv()
        if output is not None:
            with _writing(output):
                _save(output / f"configurations.{format.value}", text)
        data(text, nl=not text.endswith("\n"))
    else:
        written = show_report(located, output, top)
        if open_ and written is not None:
            _open(written)
    if tensorboard is not None or mlflow is not None:
        trackers.export(located, results_of(located), tensorboard, mlflow)


def show_report(study: StudyFolder, output: Path | None = None, top: int = 10) -> Path | None:
    """Prints the tables and writes page, figures and data, by default into the study's report folder.

    Returns the page; None, with a word on standard error, for a study in which nothing can be written. Raises
    UsageError when `output` cannot be: somebody asked for that one.
    """
    from tuner.report import page, tables

    results, console, folder = results_of(study), out(), output or study.report
    findings, importance = results.findings(), results.importance()
    console.print(tables.report(results, top, findings=findings, importance=importance))
    try:
        with _writing(folder), status("Drawing"):
            if output is None:
                own.make_private(folder)
            written = _draw(results, folder)
            path = page.write(results, study.root, folder, findings=findings, importance=importance)
    except UsageError as error:
        if output is not None:
            raise
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        text = (
            f"Page, figures and data were not written to {short(folder)} ({reason}); --output DIR names another place."
        )
        err().print(Text(text), soft_wrap=True)
        return None
    written = sorted([*written, path.name])
    console.print(Text(f"\nWrote {len(written)} files to {short(folder)}: " + ", ".join(written), style="dim"))
    console.print(Text(f"The page: {short(path)}"), soft_wrap=True)
    return path


def _open(page: Path) -> None:
    """Shows the page in the browser, or says where it is when there is no browser to show it."""
    import webbrowser

    try:
        opened = webbrowser.open(page.absolute().as_uri())
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        err().print(Text(f"No browser could be opened. Open this file in one: {page.absolute()}"), soft_wrap=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # of our output, not of the folder
        raise
    except OSError as error:
        raise UsageError(
            f"{folder}: figures and data cannot be written there ({error.strerror or error}); name another folder with "
            "--output."
        ) from error


def _draw(results: Results, folder: Path) -> list[str]:
    from tuner.report.figures import draw_all

    drawn = draw_all(results, folder)
    for name, text in (
        ("configurations.csv", results.to_csv()),
        ("trials.csv", results.to_csv("trials")),
        ("epochs.csv", results.to_csv("epochs")),
        ("photographs.csv", results.to_csv("photographs")),
        ("report.json", results.to_json()),
    ):
        _save(folder / name, text)
        drawn.files.append(folder / name)
    for name, reason in drawn.left_out.items():
        out().print(Text(f"Not drawn: {name}: {reason}", style="dim"))
    return sorted(path.name for path in drawn.files)


def _save(path: Path, text: str) -> None:
    from tuner.artifacts.files import write_atomically

    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def best(
    study: options.Study = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Configurations shown.")] = 5,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the recommended model as FILE.keras, FILE.onnx, FILE.tflite, or the SavedModel folder FILE; "
            "its model card goes beside it.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        ExportFormat | None, typer.Option(help="What to export, where the ending does not say it.", show_default=False)
    ] = None,
    winner: Annotated[
        bool, typer.Option("--winner", help="Export the best configuration, whatever is recommended.")
    ] = False,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Export the frozen baseline, whatever is recommended.")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train it once more, on training and validation photographs together.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing model and its card.")] = False,
) -> None:
    """Shows which model to use and the best configurations; --export writes that model, checked against its trial."""
    if winner and baseline:
        raise UsageError("--winner and --baseline name two models: leave out one of them.")
    made = Study(existing(study))
    results = made.results
    given = {"--format": format, "--winner": winner, "--baseline": baseline, "--refit": refit, "--force": force}
    names = ", ".join(name for name, value in given.items() if value)
    if export is None and names:
        raise UsageError(f"{names}: belongs to an export; name the file too, such as --export model.keras.")
    if export is not None:
        # Before anything is shown or loaded: is it clear what to write, can it be made and go there?
        from tuner.export.formats import writable

        writable(export, format, force)
    from tuner.report import tables

    console = out()
    if (use := tables.recommendation_block(results)) is not None:
        console.print(use)
        console.print()
    console.print(tables.best_table(results, top))
    if (further := tables.hyperparameter_table(results, top)) is not None:
        console.print(further)
    if export is not None:
        which = "winner" if winner else "baseline" if baseline else "recommended"
        _export(made, export, format, which=which, refit=refit, force=force)


def _export(made: Study, target: Path, format: ExportFormat | None, *, which: str, refit: bool, force: bool) -> None:
    """Exports, prints the model and what its check found."""
    from tuner.evidence.recommendation import exported
    from tuner.export.formats import card_path, recipe

    with status("Building, saving and checking the model") as say:
        done = made.export(target, format=format, which=which, refit=refit, force=force, progress=say)
    console, use = out(), made.recommendation
    console.print(Text(done.summary), soft_wrap=True)
    lines = [done.sentence(short(target))]
    if use is not None:
        lines.append(exported(use, use.which if which == "recommended" else which, made.verdict))
    lines += [f"Its model card is {short(card_path(target))}."]
    lines += [done.refit.sentence()] if done.refit else []
    if done.kind.squares:
        lines.append(f"It takes decoded squares: {recipe(done.contents)}. `tlstudy predict` makes them.")
    for line in lines:
        console.print(Text(line), soft_wrap=False)


def existing(study: str | None, to_stderr: bool = False) -> StudyFolder:
    located = studies.locate(study, Path.cwd())
    (err() if to_stderr else out()).print(Text(f"Study {short(located.folder.root)} ({located.why})."))
    if not located.folder.has_results:
        raise StudyError(
            f"{short(located.folder.root)}: no results yet. Run: tlstudy search {short(located.folder.root)}"
        )
    return located.folder


def results_of(folder: StudyFolder) -> Results:
    return Study(folder).results
