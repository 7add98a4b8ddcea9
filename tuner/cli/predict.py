"""`tlstudy predict`: what an exported model says of images."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tuner.cli.console import data, err, out, status
from tuner.cli.options import Format
from tuner.errors import UsageError
from tuner.report import words

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.export.predict import Prediction
    from tuner.export.reading import Reader


TRUST = (
    "Note: a SavedModel is a TensorFlow program, which can read and write your files; use only one from somebody you "
    "trust. .keras, .onnx and .tflite files are data."
)


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What `tlstudy best --export` wrote, in any format.")],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Photographs, folders of them, or - for a list on stdin.")
    ],
    format: Annotated[Format, typer.Option(help="json and csv give the probability of every class.")] = Format.table,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only if the model has the SHA-256 that its card says.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="What the model may take to open, and for 32 photographs.")
    ] = 300,
    memory: Annotated[float, typer.Option(metavar="GB", min=0.1, help="What the model may take of memory.")] = 8,
) -> None:
    """Says which class photographs are of; decodes them as the study did. Exit code 1 when some could not be read."""
    from tuner.export import predict as predictions
    from tuner.export import sums
    from tuner.export.apart import Apart, Limits
    from tuner.export.reading import format_of

    for path in paths:
        if not path.strip():
            raise UsageError(
                f"PATH: found {path!r}, expected a photograph, a folder of them, or - for a list on stdin."
            )
    console = err()
    if verify:
        digest = sums.verify(model)
        console.print(
            Text(f"{words.visible(model)} is what its card says (SHA-256 {digest}).", style="dim"), soft_wrap=True
        )
    if format_of(model).name == "savedmodel":
        console.print(Text(TRUST, style="dim"), soft_wrap=True)
    files = predictions.files(_listed(paths))
    if not files:
        raise UsageError(f"{', '.join(paths)}: no files there; name photographs, or folders that hold some.")
    unread: list[Prediction] = []
    with Apart(model, Limits(timeout, memory)) as apart:
        with status("Loading the model"):
            reader = apart.reader()
        with _progress(console, len(files)) as advance:
            _show(format, reader, _readable(predictions.predict(reader, files), unread, console, advance), unread)
    if unread:
        text = f"{len(unread)} of {words.several(len(files), 'file')} could not be read."
        console.print(Text(text, style="bold red"), soft_wrap=True)
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
def _progress(console: Console, total: int) -> Iterator[Any]:
    """A bar on a terminal; gives a function to call for each file that is done."""
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Predicting", total=total)
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


def _show(format: Format, reader: Reader, read: Iterator[Prediction], unread: list[Prediction]) -> None:
    """`unread` is complete only when `read` is used up."""
    classes = reader.contents.classes
    if format is Format.csv:
        _print_csv(classes, read)
    elif format is Format.json:
        rows = [_row(classes, prediction) for prediction in read]
        left = [{"path": p.path, "reason": p.reason} for p in unread]
        facts = {"model": str(reader.path), "format": reader.kind.name, "classes": list(classes)}
        data(json.dumps({**facts, "photographs": rows, "unreadable": left}, indent=1, allow_nan=False))
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


def _print_csv(classes: Sequence[str], read: Iterator[Prediction]) -> None:
    """path, class, probability, and a column `p_NAME` a class; nothing in it is run by a spreadsheet or a terminal."""
    from tuner.evidence.formats import disarm

    writer = csv.writer(_Echo(), lineterminator="\n")
    writer.writerow(["path", "class", "probability", *(f"p_{words.visible(name)}" for name in classes)])
    for prediction in read:
        row = _row(classes, prediction)
        path, name = (disarm(words.visible(row[key])) for key in ("path", "class"))
        writer.writerow([path, name, row["probability"], *row["probabilities"].values()])


class _Echo:
    """What a csv.writer writes to."""

    def write(self, text: str) -> None:
        data(text, nl=False)


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
    each = ", ".join(f"{counts[name]:,} {words.visible(name)}" for name in classes if counts[name])
    out().print(Text(f"{words.several(len(rows), 'photograph')}{': ' if each else ''}{each}."))
