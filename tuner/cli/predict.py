"""`tlstudy predict`: what an exported model says of photographs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tuner.cli.console import err, out, status
from tuner.errors import UsageError
from tuner.report import words

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.export.predict import File, Prediction
    from tuner.export.reading import Reader


class PredictFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


TRUST = (
    "Note: a SavedModel is a TensorFlow program, which can read and write your files; use only one from somebody you "
    "trust. .keras, .onnx and .tflite files are data."
)


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What `tlstudy best --export` wrote, in any format.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Photographs, folders of them, or - for a list on stdin.")
    ],
    format: Annotated[
        PredictFormat, typer.Option(help="json and csv give the probability of every class.")
    ] = PredictFormat.table,
) -> None:
    """Says which class photographs are of; decodes them as the study did. Exit code 1 when some could not be read."""
    from tuner.export import predict as predictions
    from tuner.export.reading import format_of, open_model

    for path in paths:
        if not path.strip():
            raise UsageError(
                f"PATH: found {path!r}, expected a photograph, a folder of them, or - for a list on stdin."
            )
    console = err()
    if format_of(model).name == "savedmodel":
        console.print(Text(TRUST, style="dim"), soft_wrap=True)
    asked = predictions.files(_listed(paths))
    if not asked:
        raise UsageError(f"{', '.join(paths)}: no files there; name photographs, or folders that hold some.")
    with status("Loading the model"):
        reader = open_model(model)
    unread: list[Prediction] = []
    with _progress(console, asked) as advance:
        _show(format, reader, _readable(predictions.predict(reader, asked), unread, console, advance), unread)
    if unread:
        console.print(
            Text(f"{len(unread)} of {words.several(len(asked), 'file')} could not be read.", style="bold red"),
            soft_wrap=True,
        )
        raise typer.Exit(1)


def _listed(paths: Sequence[str]) -> Iterator[str]:
    """`-` replaced by the paths on standard input, one a line, or separated by NUL as `find -print0` does."""
    for path in paths:
        if path != "-":
            yield path
            continue
        data = sys.stdin.buffer.read()
        lines = data.split(b"\0") if b"\0" in data else data.splitlines()
        yield from (os.fsdecode(line) for line in lines if line)


@contextmanager
def _progress(console: Console, asked: Sequence[File]) -> Iterator[Any]:
    """A bar on a terminal; gives a function to call for each file that is done."""
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Predicting", total=len(asked))
        yield lambda: bar.advance(task)


def _readable(
    predictions: Iterator[Prediction], unread: list[Prediction], console: Console, advance: Any
) -> Iterator[Prediction]:
    """Passes on what was read; names what was not at once, and keeps it in `unread`."""
    for prediction in predictions:
        advance()
        if prediction.probabilities is None:
            unread.append(prediction)
            text = f"{words.visible(prediction.path)}: {words.visible(prediction.reason)}"
            console.print(Text(text, style="red"), soft_wrap=True)
        else:
            yield prediction


def _show(format: PredictFormat, reader: Reader, read: Iterator[Prediction], unread: list[Prediction]) -> None:
    """`unread` is complete only when `read` is used up."""
    classes = reader.contents.classes
    if format is PredictFormat.csv:
        for line in _csv(classes, read):
            typer.echo(line, nl=False)
    elif format is PredictFormat.json:
        rows = [_row(classes, prediction) for prediction in read]
        left = [{"path": p.path, "reason": p.reason} for p in unread]
        facts = {"model": str(reader.path), "format": reader.kind.name, "classes": list(classes)}
        typer.echo(json.dumps({**facts, "photographs": rows, "unreadable": left}, indent=1, allow_nan=False))
    else:
        _table(classes, [_row(classes, prediction) for prediction in read])


def _row(classes: Sequence[str], prediction: Prediction) -> dict[str, Any]:
    chances = [float(p) for p in prediction.probabilities] if prediction.probabilities is not None else []
    best = max(range(len(classes)), key=chances.__getitem__)
    return {
        "path": prediction.path,
        "class": classes[best],
        "probability": chances[best],
        "probabilities": dict(zip(classes, chances, strict=True)),
    }


def _csv(classes: Sequence[str], read: Iterator[Prediction]) -> Iterator[str]:
    """path, class, probability, and a column `p_NAME` a class; nothing in it is run by a spreadsheet."""
    from tuner.evidence.formats import disarm

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "class", "probability", *(f"p_{name}" for name in classes)])
    yield text.getvalue()
    for prediction in read:
        row = _row(classes, prediction)
        text.seek(0)
        text.truncate()
        writer.writerow([disarm(row["path"]), disarm(row["class"]), row["probability"], *row["probabilities"].values()])
        yield text.getvalue()


def _table(classes: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("photograph", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("else", overflow="fold")
    for row in rows:
        others = sorted(((p, name) for name, p in row["probabilities"].items() if name != row["class"]), reverse=True)
        table.add_row(
            Text(words.visible(row["path"])),
            Text(words.visible(row["class"])),
            Text(f"{row['probability']:.3f}"),
            Text(f"{words.visible(others[0][1])} {others[0][0]:.3f}", style="dim"),
        )
    if rows:
        out().print(table)
    counts = Counter(row["class"] for row in rows)
    said = ", ".join(f"{counts[name]:,} {words.visible(name)}" for name in classes if counts[name])
    out().print(Text(f"{words.several(len(rows), 'photograph')}{': ' if said else ''}{said}."))
