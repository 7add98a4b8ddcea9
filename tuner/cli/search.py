"""`tlstudy search`: runs or resumes a study and shows it live."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tuner.cli import trackers
from tuner.cli.changes import PANEL, Assigned, BatchSize, Data, Factor, ImageSize, MaxEpochs, UnfrozenLayers, Weights
from tuner.cli.console import StudyArgument, err, out, reader_left, short
from tuner.cli.options import assignments, numbers, only_given
from tuner.cli.show import existing, results_of, show_report
from tuner.cli.start import study_for
from tuner.cli.trackers import MLflow, TensorBoard
from tuner.errors import Interrupted, TlstudyError, UsageError
from tuner.report.words import without_password
from tuner.spec.template import toml
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved, from_here
from tuner.study import Study

if TYPE_CHECKING:
    from tuner.search.events import Event


def search(
    study: StudyArgument = None,
    data: Data = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    max_epochs: MaxEpochs = None,
    factor: Factor = None,
    batch_size: BatchSize = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Everything random is named from it.", rich_help_panel=PANEL, show_default=False),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="val_loss or val_accuracy.", rich_help_panel=PANEL, show_default=False)
    ] = None,
    unfrozen_layers: UnfrozenLayers = None,
    set_: Assigned = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="Go on although a photograph stands in two splits.", rich_help_panel=PANEL),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse any file that cannot be used.", rich_help_panel=PANEL)
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Enter folders inside class folders.", rich_help_panel=PANEL)
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again; old results are moved to previous/, never deleted.")
    ] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Go on with more iterations or a wider space, keeping what was done.")
    ] = False,
    no_confirm: Annotated[
        bool, typer.Option("--no-confirm", help="Leave out the confirmation; `tlstudy confirm` makes it later.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="At the end the whole report, as `tlstudy report` gives it.")
    ] = False,
    tensorboard: TensorBoard = None,
    mlflow: MLflow = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for every epoch instead of the live display.")
    ] = False,
) -> None:
    """Runs or resumes a study: features, frozen baseline, Hyperband; then shows the result."""
    trackers.check(tensorboard, mlflow)
    changes = only_given(
        {
            "backbone.weights": weights,
            "data.image_size": image_size,
            "search.max_epochs": max_epochs,
            "search.factor": factor,
            "search.batch_size": batch_size,
            "search.seed": seed,
            "search.objective": objective,
            "data.allow_leak": allow_leak or None,
            "data.strict": strict or None,
            "data.recursive": recursive or None,
            "space.unfrozen_layers": numbers(unfrozen_layers, "--unfrozen-layers"),
        }
    ) | assignments(set_ or [])
    changes = from_here(changes)
    folder = study_for(study, data, changes)
    if fresh and extend:
        raise UsageError("--fresh starts again, --extend goes on: leave out one of them.")
    resolved = _resolve(folder, changes, fresh)
    further = trackers.again(tensorboard, mlflow)
    _run(folder, resolved, quiet, verbose, further, extend=extend, confirm=not no_confirm, fresh=fresh)
    _show(folder, quiet, report)
    if tensorboard is not None or mlflow is not None:
        trackers.export(folder, results_of(folder), tensorboard, mlflow)


def confirm(
    study: StudyArgument = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line for every epoch instead of the live display.")
    ] = False,
) -> None:
    """Trains winner and baseline again from fresh seeds, opens the test set once, and gives the verdict."""
    folder = existing(study)
    _run(folder, _resolve(folder, {}, fresh=False), quiet, verbose, search=False)
    _show(folder, quiet, whole=False)


def _resolve(folder: StudyFolder, changes: dict[str, Any], fresh: bool) -> Resolved:
    """study.toml with the flags on top; a resumed study keeps the flags it was started with, and says so."""
    resolved = Study(folder).resolve(changes, fresh=fresh)
    if resolved.dropped:
        dropped = ", ".join(f"{k} = {v}" for k, v in resolved.dropped.items())
        out().print(Text(f"Started again without the options of the old results: {dropped}."))
    if resolved.kept:
        kept = ", ".join(f"{k} = {v}" for k, v in resolved.kept.items())
        out().print(Text(f"Going on with the options it was started with: {kept}."))
    return resolved


def _run(folder: StudyFolder, resolved: Resolved, quiet: bool, verbose: bool, further: str = "", **how: bool) -> None:
    """`further`: options to repeat in the command that goes on; `how`: the fields of `search.session.How`."""
    from tuner.search.events import Notice
    from tuner.search.stopping import on_signals

    stop = threading.Event()
    received: list[int] = []
    said: list[Any] = [lambda notice: err().print(Text(notice.text))]

    def say_it() -> None:
        said[-1](Notice("Stopping after this epoch; once more to leave at once."))

    try:
        minded = on_signals(stop, (signal.SIGINT, signal.SIGTERM), say_it, received)
        with minded, _listener(folder, quiet, verbose) as listen:
            if _is_live(quiet, verbose):
                said.append(listen)  # a line of its own would tear the display
            command = without_password(shlex.join(sys.argv))  # it is stored
            Study(folder).session(resolved, listen, stop, command=command, **how)
    except (Interrupted, KeyboardInterrupt) as error:
        message = str(error) or "Left at once; the store holds every finished epoch."
        text = f"{message}\nGo on with: {_resume_command(folder, resolved)} {further}".rstrip()
        raise Interrupted(text, 143 if signal.SIGTERM in received else 130) from None
    except (BrokenPipeError, SystemExit) as error:  # rich ends the program itself
        if not reader_left(error):
            raise
        again = f"{_resume_command(folder, resolved)} {further}".rstrip()
        raise Interrupted(f"Stopped: nobody reads its output any more.\nGo on with: {again}", 1) from None


def _resume_command(folder: StudyFolder, resolved: Resolved) -> str:
    """What goes on with this study: the options are repeated as long as the store does not hold them."""
    from tuner.store.store import Store

    stored: dict[str, Any] = {}
    with suppress(TlstudyError), Store(folder.database, readonly=True) as store:
        stored = store.meta("overrides", {})
    options = []
    for dotted in sorted(resolved.changes.keys() - stored.keys()):
        section, _, key = dotted.partition(".")
        options += ["--set", f"{dotted}={toml(getattr(getattr(resolved.spec, section), key))}"]
    return shlex.join(["tlstudy", "search", short(folder.root), *options])


@contextmanager
def _listener(folder: StudyFolder, quiet: bool, verbose: bool) -> Iterator[Any]:
    """Where events go: a live display on a terminal, plain lines elsewhere, nothing when quiet."""
    from tuner.report.live import Live, PlainLines

    console = out()
    if quiet:
        yield lambda event: None
    elif _is_live(quiet, verbose):
        from rich.live import Live as Screen

        live = Live()
        for event in _earlier(folder):
            live.on(event)
        with Screen(live, console=console, refresh_per_second=4, transient=True):
            yield live.on
    else:
        plain = PlainLines()

        def say(event: Event) -> None:
            from tuner.search.events import EpochEnded

            if (line := plain.on(event)) is not None:
                console.print(Text(line), soft_wrap=True)
            elif verbose and isinstance(event, EpochEnded):
                r = event.row
                console.print(
                    Text(
                        f"  {event.configuration} epoch {r.epoch}: loss {r.loss:.4f}, accuracy {r.accuracy:.3f}, "
                        f"validation loss {r.val_loss:.4f}, accuracy {r.val_accuracy:.3f}, "
                        f"{event.images_per_second:.0f} images/s"
                    )
                )

        yield say


def _is_live(quiet: bool, verbose: bool) -> bool:
    return out().is_terminal and not quiet and not verbose


def _earlier(folder: StudyFolder) -> list[Event]:
    """What earlier sessions did, so that the display of a resumed search starts where it stands."""
    if not folder.has_results:
        return []
    from tuner.report.progress import earlier
    from tuner.store.store import Store

    with Store(folder.database, readonly=True) as store:
        return list(earlier(store))


def _show(folder: StudyFolder, quiet: bool, whole: bool) -> None:
    if whole:
        show_report(folder)
        return
    from tuner.report import tables

    results, console, name = results_of(folder), out(), short(folder.root)
    findings = results.findings()
    if not quiet:
        console.print(tables.best_table(results))
        if (warnings := tables.warning_list(results, findings)) is not None:
            console.print(warnings)
    console.print(tables.verdict_block(results, findings))
    which = " --baseline" if results.beats_baseline() is False else ""
    for line in (f"More: tlstudy report {name}", f"      tlstudy best {name} --export model.keras{which}"):
        console.print(Text(line), soft_wrap=True)
