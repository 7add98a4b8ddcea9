"""`--tensorboard` and `--mlflow`: the study handed to trackers of experiments, once it stands in the store."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tuner.cli.console import err, short, status
from tuner.errors import UsageError
from tuner.report.words import without_password
from tuner.store.folder import StudyFolder
from tuner.store.options import place

if TYPE_CHECKING:
    from tuner.evidence.results import Results

PANEL = "Trackers of experiments"

TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Write curves and hyperparameters of every configuration for TensorBoard into DIR/STUDY.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
MLflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="Bring MLflow at URI up to date, a run for each configuration (needs tlstudy[mlflow]).",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]


def check(tensorboard: Path | None, mlflow: str | None) -> None:
    """Before an hour of training: can the study be exported afterwards? Raises UsageError."""
    if tensorboard is not None and place(tensorboard).exists() and not place(tensorboard).is_dir():
        raise UsageError(f"--tensorboard {tensorboard}: is a file, expected a folder, which may be new.")
    if mlflow is not None:
        from tuner.report import mlflow as tracker

        tracker.check(mlflow)


def export(folder: StudyFolder, results: Results, tensorboard: Path | None, mlflow: str | None) -> None:
    """Exports what the store holds now, and says where to on standard error. Raises UsageError, RunError."""
    if tensorboard is not None:
        from tuner.report import tensorboard as writer

        target = place(tensorboard)
        try:
            number = writer.export(results, folder.root.name, target)
        except OSError as error:
            raise UsageError(
                f"--tensorboard {tensorboard}: cannot be written ({error.strerror or error}); name another folder."
            ) from error
        _say(f"TensorBoard: {number} runs in {short(target / folder.root.name)}. ", f"tensorboard --logdir {target}")
    if mlflow is not None:
        from tuner.report import mlflow as tracker

        with status("Exporting to MLflow"):
            number = tracker.export(results, folder.root.name, mlflow)
        _say(f"MLflow: {number} runs and their study at {without_password(mlflow)}.")


def again(tensorboard: Path | None, mlflow: str | None) -> str:
    """The options as the user would type them again, without passwords."""
    given = [] if tensorboard is None else ["--tensorboard", str(tensorboard)]
    return shlex.join(given + ([] if mlflow is None else ["--mlflow", without_password(mlflow)]))


def _say(text: str, command: str = "") -> None:
    err().print(Text(text + (f"Look at them with: {command}" if command else "")), soft_wrap=True)
