"""`tlstudy search`: runs or resumes a study and shows it live."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from tuner.cli import options, trackers
from tuner.cli.console import err, out, reader_left, short
from tuner.cli.show import existing, results_of, show_report
from tuner.cli.start import resolve, study_meant
from tuner.cli.trackers import MLflow, TensorBoard
from tuner.errors import Interrupted, TlstudyError, UsageError
from tuner.report.words import without_password
from tuner.spec.spec import OBJECTIVES, toml
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved
from tuner.study import Study

if TYPE_CHECKING:
    from tuner.search.events import Event


def search(
    study: options.Study = None,
    data: options.Data = None,
    weights: options.Weights = None,
    image_size: options.ImageSize = None,
    max_epochs: options.MaxEpochs = None,
    factor: options.Factor = None,
    batch_size: options.BatchSize = None,
    seed: Annotated[int | None, options.study_key("Everything random is named from it.")] = None,
    objective: Annotated[str | None, options.study_key(f"{', '.join(OBJECTIVES)}.")] = None,
    unfrozen_layers: options.UnfrozenLayers = None,
    time_budget: options.TimeBudget = None,
    set_: options.Assigned = None,
    allow_leak: Annotated[
        bool, options.study_key("Go on although a photograph stands in two splits.", "--allow-leak")
    ] = False,
    strict: Annotated[bool, options.study_key("Refuse any file that cannot be used.", "--strict")] = False,
    recursive: Annotated[bool, options.study_key("Enter folders inside class folders.", "--recursive")] = False,
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
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Runs or resumes a study: features, frozen baseline, Hyperband; then shows the result."""
    if fresh and extend:
        raise UsageError("--fresh starts again, --extend goes on: leave out one of them.")
    trackers.check(tensorboard, mlflow)
    changes = options.changes(
        set_,
        unfrozen_layers,
        weights=weights,
        image_size=image_size,
        max_epochs=max_epochs,
        factor=factor,
        batch_size=batch_size,
        seed=seed,
        objective=objective,
        time_budget=time_budget,
        allow_leak=allow_leak,
        strict=strict,
        recursive=recursive,
    )
    folder, changes, _ = study_meant(study, data, changes, out(), write=True)
    resolved = resolve(folder, changes, out(), fresh=fresh)
    further = trackers.again(tensorboard, mlflow)
    _run(folder, resolved, quiet, verbose, further, extend=extend, confirm=not no_confirm, fresh=fresh)
    _show(folder, quiet, report)
    if tensorboard is not None or mlflow is not None:
        trackers.export(folder, results_of(folder), tensorboard, mlflow)


def confirm(
    study: options.Study = None,
    seeds: Annotated[
        int | None, typer.Option(help="Fresh seeds of each side; those that are there count.", show_default=False)
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Trains winner and baselines again from fresh seeds, opens the test set, and gives the verdict."""
    folder = existing(study)
    changes = {} if seeds is None else {"confirm.seeds": seeds}
    _run(folder, resolve(folder, changes, out()), quiet, verbose, search=False)
    _show(folder, quiet, whole=False)


def _run(folder: StudyFolder, resolved: Resolved, quiet: bool, verbose: bool, further: str = "", **how: bool) -> None:
    """`further`: options to repeat in the command that goes on; `how`: the fields of `search.session.How`."""
    from tuner.search.events import Notice
    from tuner.search.stopping import on_signals

    stop = threading.Event()
    display: Callable[[Event], object] | None = None

    def notice() -> None:
        event = Notice("Stopping after this epoch; once more to leave at once.")
        if display is None:
            err().print(Text(event.text))
        else:
            display(event)  # a line of its own would tear it

    def go_on() -> str:
        return f"\nGo on with: {_resume_command(folder, resolved)} {further}".rstrip()

    try:
        minded = on_signals(stop, (signal.SIGINT, signal.SIGTERM), notice, go_on)
        with minded, _listener(folder, quiet, verbose) as listen:
            display = listen if _is_live(quiet, verbose) else None
            command = without_password(shlex.join(sys.argv))  # it is stored
            Study(folder).session(resolved, listen, stop, command=command, **how)
    except (BrokenPipeError, SystemExit) as error:  # rich ends the program itself
        if not reader_left(error):
            raise
        raise Interrupted(f"Stopped: nobody reads its output any more.{go_on()}", 1) from None


def _resume_command(folder: StudyFolder, resolved: Resolved) -> str:
    """What goes on with this study: the options are repeated as long as the store does not hold them."""
    from tuner.store.store import Store

    stored: dict[str, Any] = {}
    with suppress(TlstudyError), Store(folder.database, readonly=True) as store:
        stored = store.meta("overrides", {})
    repeated = []
    for dotted in sorted(resolved.changes.keys() - stored.keys()):
        section, _, name = dotted.partition(".")
        repeated += ["--set", f"{dotted}={toml(getattr(getattr(resolved.spec, section), name))}"]
    return shlex.join(["tlstudy", "search", short(folder.root), *repeated])


@contextmanager
def _listener(folder: StudyFolder, quiet: bool, verbose: bool) -> Iterator[Callable[[Event], object]]:
    """Where events go: a live display on a terminal, plain lines elsewhere, nothing when quiet."""
    from tuner.report.live import Live, lines_to

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
        yield lines_to(lambda line: console.print(Text(line), soft_wrap=True), _say_epoch if verbose else None)


def _say_epoch(event: Event) -> None:
    from tuner.search.events import EpochEnded

    if isinstance(event, EpochEnded):
        row = event.row
        objective = "" if row.score is None else f"objective {row.score:.4f}, "
        text = (
            f"  {event.configuration} epoch {row.epoch}: loss {row.loss:.4f}, accuracy {row.accuracy:.3f}, "
            f"validation loss {row.val_loss:.4f}, accuracy {row.val_accuracy:.3f}, {objective}"
            f"{event.images_per_second:.0f} images/s"
        )
        out().print(Text(text))


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
    if (use := tables.recommendation_block(results, findings)) is not None:
        console.print(use)
    console.print(tables.verdict_block(results, findings))
    for line in (f"More: tlstudy report {name}", f"      tlstudy best {name} --export model.keras"):
        console.print(Text(line), soft_wrap=True)
